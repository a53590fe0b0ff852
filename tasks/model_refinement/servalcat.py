"""Servalcat as a program of its own: likelihood refinement of a model in reciprocal space."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kernels.models.atomic_model import AtomicModel
from kernels.models.torsions import backbone_torsions, ramachandran_class, usual_surprise
from tasks.formats.map_file import write_map
from tasks.formats.structure import read_structure, write_structure
from tasks.model_refinement.evidence import Evidence

_PREFIX = "refined"
_RUN = (
    "import resource, runpy, sys;"
    "resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2);"
    "sys.argv = ['servalcat', *sys.argv[2:]];"
    "runpy.run_module('servalcat', run_name='__main__')"
)
_PHI_AND_PSI = (
    ((-1, "C"), (0, "N"), (0, "CA"), (0, "C")),
    ((0, "N"), (0, "CA"), (0, "C"), (1, "N")),
)
_MOST_HELD_SURPRISE = 5.0
"""Residues at a place of the Ramachandran plot rarer than e^-5 of the likeliest are left free."""
_OUTSIDE_BYTES = 2_000_000_000
"""Of address space that the program's libraries take and hardly use."""


class RefinementError(RuntimeError):
    """The refinement did not finish: what it said last."""


@dataclass(frozen=True)
class Effort:
    """What one run may take."""

    n_cycles: int = 10
    memory_bytes: int = 4_000_000_000
    seconds: float = 1800.0


@dataclass(frozen=True, eq=False)
class Refined:
    """A refined model with the figures of its refinement."""

    model: AtomicModel
    weight: float
    """Of the map against geometry, as used in the last cycle."""
    bond_rmsd_angstrom: float
    angle_rmsd_deg: float
    bond_rmsz: float
    angle_rmsz: float
    fsc_average: float
    """Between model and the full map, up to the resolution."""
    fsc_average_work: float | None
    """With the half that it was refined against; None without cross-validation."""
    fsc_average_free: float | None
    """With the other half."""


def refined(
    model: AtomicModel,
    evidence: Evidence,
    library: Path,
    weight: float | None = None,
    is_cross_validated: bool = False,
    torsion_sigma_deg: float | None = None,
    effort: Effort = Effort(),
    dictionaries: Sequence[str] = (),
) -> Refined:
    """Heavy atoms of a model, their places and B-factors, refined against half maps or one map.

    Parameters
    ----------
    library
        A CCP4-style monomer library that has every residue of the model.
    weight
        None lets servalcat estimate one from resolution and volume, and change it from cycle to cycle so that bonds
        keep an RMS Z-score of 0.5 to 1.
    is_cross_validated
        Refine against the first half map only.
    torsion_sigma_deg
        Hold phi and psi near where they are, as far as they are usual; free when None. Restraints of bonds, angles
        and contacts alone let the backbone of a coarse map drift out of the Ramachandran plot.
    dictionaries
        CIF files, as text, of monomers that the library does not have.

    Raises
    ------
    RefinementError
        Where the program fails, takes too long or too much memory.

    Source
    ------
    Yamashita, Palmer, Burnley & Murshudov 2021, Acta Cryst. D77:1282 (servalcat).
    """
    if is_cross_validated and not evidence.is_halved:
        raise ValueError("cross-validation needs two half maps, found one map")
    origin = evidence.maps[0].origin_angstrom
    with tempfile.TemporaryDirectory(prefix="refinement-") as name:
        folder = Path(name)
        paths = [folder / f"map_{i + 1}.mrc" for i in range(len(evidence.maps))]
        for path, grid in zip(paths, evidence.at_zero()):
            write_map(path, grid)
        mates = evidence.mates_at_zero
        write_structure(folder / "model.cif", model.at(model.coordinates_angstrom - origin), mates=mates)
        options = ["--halfmaps" if evidence.is_halved else "--map", *(str(path) for path in paths)]
        options += ["--model", "model.cif", "--monlib", str(library), "-o", _PREFIX]
        for number, text in enumerate(dictionaries):
            (folder / f"monomer_{number}.cif").write_text(text)
        if dictionaries:
            options += ["--ligand", *(f"monomer_{number}.cif" for number in range(len(dictionaries)))]
        options += ["-d", f"{evidence.resolution_angstrom:.3f}", "--ncycle", str(effort.n_cycles)]
        if weight is not None:
            options += ["--weight", f"{weight:.5g}", "--no_weight_adjust"]
        if mates is not None:  # the map's symmetry was looked at before, and a wrong residue on an axis is no reason
            options += ["--no_check_ncs_map", "--no_check_ncs_overlaps"]
        if is_cross_validated:
            options.append("--cross_validation")
        if torsion_sigma_deg is not None:
            (folder / "torsions").write_text("\n".join(_torsion_keywords(model, torsion_sigma_deg)) + "\n")
            options += ["--keyword_file", "torsions"]
        _run(folder, ["refine_spa_norefmac", *options], effort)
        return _result(folder, model, origin, evidence)


def _torsion_keywords(model: AtomicModel, sigma_deg: float) -> list[str]:
    """A line of Refmac's for each phi and psi of a residue that lies where residues usually lie."""
    torsions = backbone_torsions(model)
    kind = ramachandran_class(model.amino_acid.clamp(min=0))
    held = torch.nonzero((usual_surprise(torsions, kind) < _MOST_HELD_SURPRISE) & (model.amino_acid >= 0)).squeeze(1)
    lines = []
    for i in held.tolist():
        for atoms, value in zip(_PHI_AND_PSI, torch.rad2deg(torsions[i, :2]).tolist()):
            words = ["exte tors"]
            for word, (step, name) in zip(("first", "second", "third", "fourth"), atoms):
                about = model.residues[i + step]
                words.append(
                    f"{word} chain {about.chain} resi {about.number} ins {about.insertion_code or '.'} atom {name}"
                )
            lines.append(" ".join([*words, f"value {value:.2f} sigma {sigma_deg:.2f} type 0"]))
    return lines


def _run(folder: Path, arguments: list[str], effort: Effort) -> None:
    command = [sys.executable, "-c", _RUN, str(effort.memory_bytes + _OUTSIDE_BYTES), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    log = folder / "log"
    with log.open("wb") as file:
        try:
            done = subprocess.run(
                command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, timeout=effort.seconds, env=environment
            )
        except subprocess.TimeoutExpired as error:
            raise RefinementError(
                f"servalcat did not finish within {effort.seconds:g} s; allow more time, or refine a smaller model"
            ) from error
    last = log.read_text(errors="replace").strip().splitlines()
    if done.returncode == 0 and (folder / f"{_PREFIX}.mmcif").is_file():
        return
    said = " | ".join(line.strip() for line in last[-6:] if line.strip() and not line.startswith("#"))
    if "MemoryError" in "".join(last[-30:]) or "bad_alloc" in "".join(last[-30:]) or done.returncode == -9:
        raise RefinementError(
            f"servalcat needed more than {effort.memory_bytes / 1e9:.1f} GB; allow more memory, or cut the map out"
            " around the model"
        )
    raise RefinementError(f"servalcat ended with code {done.returncode}: {said or 'it said nothing'}")


def _result(folder: Path, model: AtomicModel, origin: torch.Tensor, evidence: Evidence) -> Refined:
    found = read_structure(folder / f"{_PREFIX}.mmcif")
    order = {_key(found, i): i for i in range(len(found))}
    index = [order.get(_key(model, i), -1) for i in range(len(model))]
    if -1 in index:
        lost = index.index(-1)
        about = model.residues[int(model.residue[lost])]
        raise RefinementError(f"servalcat returned no {model.names[lost]} of {about}; look at its name")
    refined_model = replace(
        model,
        coordinates_angstrom=found.coordinates_angstrom[index] + origin,
        b_factor_angstrom2=found.b_factor_angstrom2[index],
    )
    cycles = json.loads((folder / f"{_PREFIX}_stats.json").read_text())
    geometry = cycles[-1]["geom"]["summary"]
    shells = json.loads((folder / f"{_PREFIX}_fsc.json").read_text())
    return Refined(
        refined_model,
        float(cycles[-1].get("weight", float("nan"))),
        geometry["r.m.s.d."]["Bond distances, non H"],
        geometry["r.m.s.d."]["Bond angles, non H"],
        geometry["r.m.s.Z"]["Bond distances, non H"],
        geometry["r.m.s.Z"]["Bond angles, non H"],
        _fsc_average(shells, "fsc_model", evidence.resolution_angstrom) or 0.0,
        _fsc_average(shells, "fsc_model_half1", evidence.resolution_angstrom),
        _fsc_average(shells, "fsc_model_half2", evidence.resolution_angstrom),
    )


def _key(model: AtomicModel, atom: int) -> tuple[str, int, str, str]:
    about = model.residues[int(model.residue[atom])]
    return about.chain, about.number, about.insertion_code, model.names[atom]


def _fsc_average(shells: list[dict[str, float]], column: str, resolution_angstrom: float) -> float | None:
    """Mean over Fourier coefficients up to the resolution."""
    used = [shell for shell in shells if shell["d_min"] >= resolution_angstrom * 0.999 and column in shell]
    n = sum(shell["ncoeffs"] for shell in used)
    return sum(shell["ncoeffs"] * shell[column] for shell in used) / n if n else None
