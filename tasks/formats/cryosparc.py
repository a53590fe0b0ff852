"""cryoSPARC's particle files (.cs): one numpy record array.

Poses are rotation vectors in x, y, z whose matrix is the inverse of ours, and shifts are in px with RELION's sign:
they centre the image.

Source: the conversion of pyem (csparc2star.py) and cryoDRGN (parse_pose_csparc.py), which agree.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.optics import Optics
from kernels.rotations import from_rotation_vector
from tasks.formats import FormatError
from tasks.formats.star import OpticsGroup, StarParticles
from tasks.records.particles import ParticleSet


def read_particles(path: Path) -> StarParticles:
    """Read the particles of a .cs file; the optics groups are its exposure groups, numbered as there."""
    try:
        table = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FormatError(f"{path}: cannot be read as a cryoSPARC file ({error}); check that it is whole") from error
    names = table.dtype.names or ()
    required = (
        "blob/path", "blob/idx", "blob/shape", "blob/psize_A", "ctf/accel_kv", "ctf/cs_mm", "ctf/amp_contrast",
        "ctf/df1_A", "ctf/df2_A", "ctf/df_angle_rad",
    )  # fmt: skip
    missing = [name for name in required if name not in names]
    if missing:
        raise FormatError(f"{path}: no fields {', '.join(missing)}; expected particles with blob and ctf results")

    group_of = table["ctf/exp_group_id"].astype(np.int64) if "ctf/exp_group_id" in names else np.zeros(len(table), int)
    group_of = group_of + (1 if len(group_of) and group_of.min() < 1 else 0)  # ours count from 1
    paths = np.char.lstrip(np.char.decode(table["blob/path"], "utf-8"), ">")
    stacks, stack = np.unique(paths, return_inverse=True)
    micrographs = paths
    if "location/micrograph_path" in names:
        micrographs = np.char.decode(table["location/micrograph_path"], "utf-8")
    exposure_ids, exposure = np.unique(micrographs, return_inverse=True)
    columns: dict[str, NDArray] = {
        "exposure": exposure,
        "stack_index": table["blob/idx"],
        "optics_group": group_of,
        "defocus_u_angstrom": table["ctf/df1_A"],
        "defocus_v_angstrom": table["ctf/df2_A"],
        "defocus_angle_rad": table["ctf/df_angle_rad"],
    }
    if "ctf/phase_shift_rad" in names:
        columns["phase_shift_rad"] = table["ctf/phase_shift_rad"]
    if "location/center_x_frac" in names:
        shape = table["location/micrograph_shape"].astype(np.float64)
        fraction = np.stack([table["location/center_y_frac"], table["location/center_x_frac"]], axis=-1)
        columns["coordinate_px"] = fraction * shape
    if "alignments3D/pose" in names:
        vector = torch.from_numpy(table["alignments3D/pose"].astype(np.float64)).flip(-1)
        columns["rotation"] = from_rotation_vector(-vector).numpy()
        columns["shift_angstrom"] = -table["alignments3D/shift"][:, ::-1] * table["alignments3D/psize_A"][:, None]
    if "alignments3D/split" in names:
        columns["half_set"] = table["alignments3D/split"] + 1
    groups = {}
    for number in np.unique(group_of).tolist():
        row = table[int(np.flatnonzero(group_of == number)[0])]
        try:
            optics = Optics(*(float(row[n]) for n in ("ctf/accel_kv", "ctf/cs_mm", "ctf/amp_contrast", "blob/psize_A")))
        except ValueError as error:
            raise FormatError(f"{path}: exposure group {number}: {error}") from error
        groups[number] = OpticsGroup(f"opticsGroup{number}", optics, int(row["blob/shape"][0]))
    particles = ParticleSet(tuple(str(name) for name in exposure_ids), columns)
    return StarParticles(particles, groups, tuple(str(name) for name in stacks), stack.astype(np.int32))
