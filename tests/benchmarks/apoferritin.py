"""The ten apoferritin micrographs of EMPIAR-10146: picks against the experts', the map against the known model."""

from __future__ import annotations

import csv
from pathlib import Path

import gemmi
import torch

from kernels import fourier
from kernels.maps.alignment import align_map
from kernels.rotations import symmetry_group
from kernels.scores import matched_points
from kernels.specimen.potential import Atoms, density_map
from tasks.records.comparison import Comparison
from tasks.stores.products import map_store
from tasks.stores.products.exposure_store import exposure
from tasks.stores.session_store import SessionStore

DEVELOPMENT = ("May08_03.05.02", "May08_03.15.02", "May08_05.31.00")
"""Micrographs that were looked at while picking was written; the other seven were not."""
MODEL_CENTRE_ANGSTROM = 109.2
PICK_REACH_PX = 125 / 1.5 / 4
"""Half a radius."""


def compare(session_url: str, data: Path) -> list[Comparison]:
    """Figures of the processed session."""
    store = SessionStore.open(session_url)
    return [*picking(store, data), *maps(store, data)]


def picking(store: SessionStore, data: Path) -> list[Comparison]:
    counts = {True: [0, 0, 0], False: [0, 0, 0]}
    for exposure_id in store.exposure_ids():
        name = exposure(store, exposure_id).name
        file = data / "micrographs/apoferritin_EMPIAR-10146/picks" / name.replace("_avg.png", "_picks.csv")
        record = store.exposure_product(exposure_id, "pick_particles").record()
        if not file.exists() or record is None or record.state != "done":
            continue
        with file.open() as rows:
            true = torch.tensor([[float(r["y_px_from_top"]), float(r["x_px"])] for r in csv.DictReader(rows)])
        found = torch.from_numpy(store.exposure_product(exposure_id, "pick_particles").read()["coordinate_px"])
        count = counts[name.startswith(DEVELOPMENT)]
        count[0] += int((matched_points(found, true, PICK_REACH_PX) >= 0).sum())
        count[1] += len(found)
        count[2] += len(true)
    lines = []
    for is_development, (n_right, n_found, n_true) in counts.items():
        which = "3 development" if is_development else "7 other"
        for figure, n in (("precision", n_found), ("recall", n_true)):
            lines.append(
                Comparison(
                    stage="picking", figure=f"{figure} against the experts, {which} micrographs",
                    value=n_right / max(1, n), reach=0.8, better="higher",
                )
            )  # fmt: skip
    return lines


def maps(store: SessionStore, data: Path) -> list[Comparison]:
    record = map_store.density_map(store, "refined")
    resolution = record.resolution_angstrom or float("inf")
    found = torch.from_numpy(map_store.read_map(store, "refined")["map"]).float()
    model = density_map(model_atoms(data), len(found), record.pixel_size_angstrom)
    low_passed = [fourier.low_passed(density, record.pixel_size_angstrom, resolution) for density in (found, model)]
    correlation = align_map(*low_passed, "O").correlation
    return [
        Comparison(stage="refinement", figure="half-map FSC 0.143, symmetry O", value=resolution, unit="Å", reach=10),
        Comparison(stage="refinement", figure="particles", value=record.n_particles),
        Comparison(
            stage="refinement", figure=f"correlation with the known model at {resolution:.1f} Å", value=correlation,
            better="higher",
        ),
    ]  # fmt: skip


def model_atoms(data: Path) -> Atoms:
    """The 24-mer: the protomer under the rotations of O about the centre of its map."""
    file = data / "maps/EMD-20026_apoferritin_1.75A/3ajo_fitted_refined.pdb"
    structure = gemmi.read_structure(str(file))
    structure.remove_waters()
    atoms = [a for chain in structure[0] for residue in chain for a in residue if a.element.name in "CNOS"]
    position = torch.tensor([[a.pos.z, a.pos.y, a.pos.x] for a in atoms]) - MODEL_CENTRE_ANGSTROM
    copies = torch.einsum("sij,aj->sai", symmetry_group("O").float(), position).reshape(-1, 3)
    elements = tuple(a.element.name for a in atoms) * 24
    return Atoms(copies, elements, torch.zeros(len(elements)))
