"""Ligands, decoys and waters placed in simulated maps, and waters in a real one.

``python -m tests.benchmarks.ligands`` prints the tables; ``--n`` takes more complexes.

Ligands: pockets (residues within 12 Å of a ligand) of PoseBusters complexes whose files have the hydrogens of the
ligand, from the half of them that no parameter was chosen on (`tests.truth.complexes.held_out`, by a hash of the name).
Half maps are simulated with B-factors of the crystal scaled to 8 d² and white noise whose FSC is 0.143 at the
resolution d; the model is the true protein with errors of 0.07 d on each atom, B-factors off by a fifth, and 3 % of the
side chains lacking. Ligands are named as SMILES and begin with conformers of their own. Right: the surest fit in all
pieces of density is within 2 Å RMSD over symmetric atoms. Placed: its probability reaches 0.5
(`PlaceLigandsParams.least_probability`). Decoys: the molecule nearest in size out of the other complexes of the sample,
in the pocket that holds another one, and the right molecule in a pocket from which the ligand was taken.

Waters: the deposited model of EMD-20026 (apoferritin) in its map, without half maps; that map is test data. A water is
found where one is placed within 1 Å. Deposited waters were placed by others in another way, and many of them have
hardly any density: their heights are told beside. Simulated: the same model with its waters, at several resolutions.

Intervals are of 1,000 bootstrap samples of complexes, or of waters, 95 %.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import typer

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from kernels.models.mates import Mates
from kernels.models.solvent_sites import WaterCriteria
from kernels.rotations import symmetry_group
from kernels.scores import matched_points
from tasks.formats.map_file import read_map
from tasks.formats.structure import read_structure
from tasks.ligands.fitting import Candidate, candidates, pieces
from tasks.ligands.params import PlaceLigandsParams
from tasks.ligands.requested import RequestedLigand, read_requested
from tasks.ligands.scene import Scene, scene
from tasks.ligands.solvent import place_waters
from tests.benchmarks.estimates import share
from tests.truth.complexes import Pocket, complex_names, held_out, pocket_maps, read_pocket
from tests.truth.model_maps import simulated_maps
from tests.truth.real_maps import REAL_DATA

LEVELS_ANGSTROM = (2.0, 2.5, 3.0, 3.2, 3.5)
WATER_LEVELS_ANGSTROM = (1.8, 2.0, 2.5, 3.0)
_RIGHT_ANGSTROM = 2.0
_WATER_ANGSTROM = 1.0
_MOST_ATOMS = 40


@dataclass(frozen=True)
class Tried:
    """What one ligand came to in one pocket; rates of decoys are of those that were tried."""

    name: str
    is_right: bool
    is_placed: bool
    rmsd_angstrom: float
    decoy_placed: bool
    empty_placed: bool
    cpu_seconds: float


def tried(pocket: Pocket, own: RequestedLigand, decoy: RequestedLigand, resolution: float, seed: int) -> Tried:
    """The right molecule, a wrong one, and the right one where none is."""
    seen = _scene(pocket, resolution, seed, has_ligand=True)
    started = time.process_time()
    best = _best(seen, own)
    seconds = time.process_time() - started
    wrong = _best(seen, decoy)
    nowhere = _best(_scene(pocket, resolution, seed + 1000, has_ligand=False), own)
    rmsd = float("inf") if best is None else pocket.rmsd(own.template.elements, best.places, pocket.smiles)
    return Tried(
        pocket.name, rmsd <= _RIGHT_ANGSTROM, _is_sure(best), rmsd, _is_sure(wrong), _is_sure(nowhere), seconds
    )


def _scene(pocket: Pocket, resolution: float, seed: int, has_ligand: bool) -> Scene:
    made = pocket_maps(pocket, resolution, seed, has_ligand)
    return scene(made.model, made.maps.sharpened, (made.maps.half_1, made.maps.half_2), resolution)


def _best(seen: Scene, ligand: RequestedLigand) -> Candidate | None:
    return max(candidates(seen, pieces(seen), ligand), key=lambda c: c.probability, default=None)


def _is_sure(candidate: Candidate | None) -> bool:
    return candidate is not None and candidate.probability >= PlaceLigandsParams().least_probability


def _share(flags: list[bool]) -> str:
    if not flags:
        return ""
    found = share(torch.tensor(flags))
    return f"{found.value:.0f} % ({found.low:.0f} to {found.high:.0f})"


def sample(data: Path, n: int) -> list[tuple[Pocket, RequestedLigand]]:
    """The first held-out complexes whose ligand can be read from its file."""
    found: list[tuple[Pocket, RequestedLigand]] = []
    for name in complex_names(data):
        if len(found) == n:
            break
        if not held_out(name):
            continue
        try:
            pocket = read_pocket(data, name)
            if len(pocket.ligand) <= _MOST_ATOMS:
                found.append((pocket, read_requested([pocket.smiles], None)[0]))
        except ValueError:  # no hydrogens, or bond orders that cannot be told
            continue
    return found


def ligand_rows(data: Path, n: int, levels: tuple[float, ...], each: bool) -> None:
    """One row a resolution; with ``each`` every complex at every resolution, else each at one of them."""
    chosen = sample(data, n)
    header = "complexes | right pose | placed and right | wrong among placed | decoy placed | placed in an empty pocket"
    print(f"| Å | {header} | CPU-s |\n|---|---|---|---|---|---|---|---|", flush=True)
    every: list[Tried] = []
    for k, resolution in enumerate(levels):
        rows = []
        for q, (pocket, own) in enumerate(chosen):
            if not each and q % len(levels) != k:
                continue
            others = [ligand for other, ligand in chosen if other is not pocket]
            decoy = min(others, key=lambda other: abs(len(other.template) - len(own.template)))
            rows.append(tried(pocket, own, decoy, resolution, seed=q))
        every += rows
        _print_row(f"{resolution}", rows)
    _print_row("up to 3.2" if max(levels) <= 3.2 else "all", every)


def _print_row(label: str, rows: list[Tried]) -> None:
    if not rows:
        return
    seconds = sorted(row.cpu_seconds for row in rows)[len(rows) // 2]
    print(
        f"| {label} | {len(rows)} | {_share([r.is_right for r in rows])} |"
        f" {_share([r.is_right and r.is_placed for r in rows])} |"
        f" {_share([not r.is_right for r in rows if r.is_placed])} | {_share([r.decoy_placed for r in rows])} |"
        f" {_share([r.empty_placed for r in rows])} | {seconds:.0f} |",
        flush=True,
    )


def water_rows(data: Path, levels: tuple[float, ...]) -> None:
    """The real map, and maps simulated from the same model."""
    folder = data / "maps" / "EMD-20026_apoferritin_1.75A"
    deposited = read_structure(folder / "3ajo_fitted_refined.pdb")
    deposited = deposited.take(torch.tensor([e not in ("H", "D") for e in deposited.elements]))
    names = [deposited.residues[r].name for r in deposited.residue]
    polymer = deposited.take(torch.tensor([name not in ("HOH", "MG") for name in names]))
    true = deposited.take(torch.tensor([name == "HOH" for name in names]))
    print("| map | waters | placed | precision | recall | recall of those above 4.5 σ |\n|---|---|---|---|---|---|")
    octahedral = Mates(symmetry_group("O").double(), torch.full((3,), 109.2, dtype=torch.float64))
    grid = read_map(folder / "emd20026_prot.mrc")
    _print_waters("real, 1.75 Å", scene(polymer, grid, None, 1.75, octahedral), true)
    for resolution in levels:
        both = deposited.take(torch.tensor([name != "MG" for name in names]))
        scale = 8 * resolution**2 / float(polymer.b_factor_angstrom2.mean())
        shown = replace(both, b_factor_angstrom2=(both.b_factor_angstrom2 * scale).clamp(10, 250))
        maps = simulated_maps(shown, resolution, min(1.0, resolution / 2.5), 8.0, own_b_factors=True, seed=7)
        error = torch.randn(len(polymer), 3, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
        is_polymer = torch.tensor([shown.residues[r].name != "HOH" for r in shown.residue])
        model = shown.take(is_polymer)
        model = model.at(model.coordinates_angstrom + 0.07 * resolution * error / 3**0.5)
        seen = scene(model, maps.sharpened, (maps.half_1, maps.half_2), resolution)
        _print_waters(f"simulated, {resolution} Å", seen, true)


def _print_waters(label: str, seen: Scene, true: AtomicModel) -> None:
    placed = place_waters(seen, "W").placed
    found = torch.tensor([row.place_angstrom for row in placed], dtype=torch.float64).reshape(-1, 3)
    match = matched_points(found, true.coordinates_angstrom, _WATER_ANGSTROM)
    is_found = torch.zeros(len(true), dtype=torch.bool)
    is_found[match[match >= 0]] = True
    strong = _height(seen.sigma, true) > WaterCriteria().least_sigma
    print(
        f"| {label} | {len(true)} | {len(found)} | {_share((match >= 0).tolist())} | {_share(is_found.tolist())} |"
        f" {_share(is_found[strong].tolist())} of {int(strong.sum())} |",
        flush=True,
    )


def _height(sigma: DensityGrid, true: AtomicModel) -> torch.Tensor:
    return sigma.values_at(true.coordinates_angstrom)


def main(data: Path = REAL_DATA, n: int = 30, each: bool = True, waters: bool = True, ligands: bool = True) -> None:
    """Print both tables; ``--no-each`` shares the complexes out among the resolutions."""
    torch.set_num_threads(1)
    if not (data / "complexes_posebusters").is_dir():
        raise typer.BadParameter(f"no complexes at {data}; set VITRIFLOW_REAL_DATA")
    if waters:
        water_rows(data, WATER_LEVELS_ANGSTROM)
    if ligands:
        ligand_rows(data, n, LEVELS_ANGSTROM, each)


if __name__ == "__main__":
    typer.run(main)
