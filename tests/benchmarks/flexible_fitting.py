"""Flexible fitting: models that are right but for a motion, bent into half maps of 4 to 8 Å.

    python -m tests.benchmarks.flexible_fitting [--is-development] [--n 6]

Half maps with noise are simulated from the true chain (`tests.truth.model_maps`); `tasks.docking.flexing.flexed` is
given the moved one where a rigid fit leaves it, laid on the truth by all Cα. RMSD is that of Cα in the frame of the
map.

- Hinges: chains of structures_bm5 of 150 to 450 residues, turned about a hinge to 6 Å and bent by long waves of 0.6 Å
  (`tests.truth.bent_models`: no motion that is fitted). Parameters were chosen on chains of names with an even hash
  (``--is-development``); the figures are those of the others.
- Folds: RNAs (RNA-Puzzles 9 to 12, 57 to 117 nucleotides; others were looked at before) whose ends are turned about a
  plane across their longest axis to 5 Å (`tests.truth.bent_models.folded`), since a hinge between two nucleotides cuts
  helices.
- Real motions: the same protein in two conformations of the two sets of structures, both ways, at 6 Å: Ran, kinases,
  Ras, an integrin domain, light chains and Fab fragments of antibodies, the latter of different sequence. Residues are
  matched by sequence. Loops that are built otherwise are part of the RMSD and no bending.
- Right models: the truth itself, and how far it is moved.
- Wrong proteins: in each map of a hinge the chain of the next but one, where it fits best, and how many are bent.

Intervals: 1,000 bootstrap samples of cases, 95 %.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
import typer
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.clashes import find_clashes
from kernels.models.docking import fitting_field, searched
from kernels.models.geometry import backbone_deviations
from kernels.models.residue_places import places_of_residues, representatives
from kernels.models.rigid_body import RigidBody
from tasks.docking.flexing import FlexedModel, flexed
from tasks.formats.structure import read_structure
from tests.benchmarks.estimates import Line, estimate, share
from tests.truth.bent_models import folded, hinge_moved
from tests.truth.model_maps import SimulatedMaps, protein_of, simulated_maps
from tests.truth.real_maps import REAL_DATA, superposed

LEVELS_ANGSTROM = (4.0, 6.0, 8.0)
_HINGE_ANGSTROM = 6.0
_SHORTEST, _LONGEST = 150, 450
_RNA = ("rp09", "rp10", "rp11", "rp12")
_FOLD_ANGSTROM = 5.0
_N_SEARCHED = 20
_PADDING_ANGSTROM = 20.0
_VOXELS_OF_RESOLUTION = 1 / 3.2
_FEWEST_IN_A_ROW = 5
_REAL_ANGSTROM = 6.0
_BM5, _POSEBUSTERS = "structures_bm5/{}_b-matched.pdb.gz", "complexes_posebusters"
_PAIRS = (
    # file and chain of two conformations
    (("1A2K_l", "B"), ("1K5D_r", "A")),
    (("1AHW_r", "A"), ("1WEJ_r", "A")),
    (("7lmo_NYO", "A"), ("7lmo_NYO", "B")),
    (("1BUH_r", "A"), ("7qhl_D5P", "A")),
    (("1E6J_r", "A"), ("2FD6_r", "A")),
    (("7r9n_F97", "A"), ("7siu_9ID", "B")),
    (("1BKD_l", "B"), ("1WQ1_l", "B")),
    (("3HI6_l", "B"), ("7kc5_BJZ", "A")),
)


@dataclass(frozen=True, eq=False)
class Case:
    """A moved model in the maps of the true one."""

    name: str
    maps: SimulatedMaps
    moved: AtomicModel
    matched: tuple[Tensor, Tensor]
    """Residues of the moved model, and those of the truth that they are"""


@dataclass(frozen=True)
class Result:
    """One case before and after."""

    before_angstrom: float
    after_angstrom: float
    is_kept: bool
    bond_z: float
    angle_z: float
    clashscore: float
    cpu_seconds: float


def result_of(case: Case) -> tuple[Result, FlexedModel]:
    """Fit it and compare it with the truth."""
    started = time.process_time()
    maps = case.maps
    found = flexed(case.moved, maps.sharpened, maps.resolution_angstrom, halves=(maps.half_1, maps.half_2))
    seconds = time.process_time() - started
    bonds, angles = (_rms(values) for values in backbone_deviations(found.model))
    clashes = find_clashes(found.model).score
    told = Result(rmsd(case, case.moved), rmsd(case, found.model), found.is_kept, bonds, angles, clashes, seconds)
    return told, found


def rmsd(case: Case, model: AtomicModel) -> float:
    """Of Cα or C4' in Å, in the frame of the map."""
    mine, true = case.matched
    apart = places_of_residues(model)[mine] - places_of_residues(case.maps.model)[true]
    return float(apart.square().sum(-1).mean().sqrt())


def _rms(values: Tensor) -> float:
    return float(values[torch.isfinite(values)].square().mean().sqrt())


def hinges(data: Path, resolution: float, n: int, is_development: bool = False) -> Iterator[Case]:
    """The first chains of a set that can be turned so far."""
    found = 0
    for path in sorted((data / "structures_bm5").glob("*.gz")):
        digest = sha256(path.name.encode()).digest()
        if (digest[0] % 2 == 0) is not is_development:
            continue
        truth = chain_of(path)
        if not _SHORTEST <= truth.n_residues <= _LONGEST:
            continue
        try:
            moved = hinge_moved(truth, _HINGE_ANGSTROM, torch.Generator().manual_seed(digest[1]))
        except ValueError:  # too compact to be turned so far
            continue
        rows = torch.arange(truth.n_residues)
        yield Case(path.name[:6], _maps(truth, resolution, digest[2]), moved, (rows, rows))
        found += 1
        if found == n:
            return


def folds(data: Path, resolution: float) -> Iterator[Case]:
    """RNAs that were folded over."""
    for number, name in enumerate(_RNA):
        (path,) = (data / "structures_rna").glob(f"{name}*")
        truth = _first_chain(read_structure(path))
        moved = folded(truth, _FOLD_ANGSTROM, torch.Generator().manual_seed(number))
        rows = torch.arange(truth.n_residues)
        yield Case(name, _maps(truth, resolution, number), moved, (rows, rows))


def _first_chain(model: AtomicModel) -> AtomicModel:
    heavy = model.take(torch.tensor([e not in ("H", "D") for e in model.elements]))
    is_mine = torch.tensor([r.chain == heavy.residues[0].chain for r in heavy.residues])
    return heavy.take_residues(is_mine & representatives(heavy).isfinite().all(1))


def real_motions(data: Path, resolution: float = _REAL_ANGSTROM, n: int = 2 * len(_PAIRS)) -> Iterator[Case]:
    """Each conformation in the map of the other."""
    both = [(a, b) for pair in _PAIRS for a, b in (pair, pair[::-1])]
    for (mine, my_chain), (other, other_chain) in both[:n]:
        model, truth = chain_of(_path(data, mine), my_chain), chain_of(_path(data, other), other_chain)
        first, second = _same_residues(model, truth)
        kept = torch.zeros(model.n_residues, dtype=torch.bool)
        kept[first] = True
        model = model.take_residues(kept)
        place = superposed(model.coordinates_angstrom, model.positions("CA")[:, 0], truth.positions("CA")[second, 0])
        case = f"{mine} {my_chain} in {other} {other_chain}"
        yield Case(case, _maps(truth, resolution, 7), model.at(place), (torch.arange(len(first)), second))


def wrong_proteins(data: Path, resolution: float, n: int, is_development: bool = False) -> Iterator[Case]:
    """In each map another chain, docked."""
    cases = list(hinges(data, resolution, n, is_development))
    for number, case in enumerate(cases):
        other = cases[(number + 2) % len(cases)]
        body, grid = RigidBody.of_model(other.maps.model), case.maps.sharpened
        pose = searched(grid, fitting_field(grid, resolution), body, _N_SEARCHED, 1)
        places = pose.placed(other.maps.model.coordinates_angstrom, 0, body.middle_angstrom)
        nothing = torch.zeros(0, dtype=torch.int64)
        yield Case(f"{other.name} in {case.name}", case.maps, other.maps.model.at(places), (nothing, nothing))


def _path(data: Path, name: str) -> Path:
    if (data / _BM5.format(name)).exists():
        return data / _BM5.format(name)
    return next((data / _POSEBUSTERS).rglob(f"{name}.pdb*"))


def chain_of(path: Path, chain: str | None = None) -> AtomicModel:
    """Amino acids of one chain, the first one if not told, that have a whole backbone."""
    model = protein_of(read_structure(path))
    name = model.residues[0].chain if chain is None else chain
    is_mine = torch.tensor([r.chain == name for r in model.residues])
    return model.take_residues(is_mine & ~model.positions("N", "CA", "C").isnan().flatten(1).any(1))


def _same_residues(model: AtomicModel, truth: AtomicModel) -> tuple[Tensor, Tensor]:
    a, b = (bytes(m.amino_acid.tolist()) for m in (model, truth))
    blocks = difflib.SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    long = [block for block in blocks if block.size >= _FEWEST_IN_A_ROW]
    first, second = ([start + i for start, n in some for i in range(n)] for some in _starts(long))
    return torch.tensor(first), torch.tensor(second)


def _starts(blocks: list[difflib.Match]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    return [(block.a, block.size) for block in blocks], [(block.b, block.size) for block in blocks]


def _maps(truth: AtomicModel, resolution: float, seed: int) -> SimulatedMaps:
    return simulated_maps(truth, resolution, _VOXELS_OF_RESOLUTION * resolution, _PADDING_ANGSTROM, seed=seed)


def lines(data: Path, n: int, n_real: int = 2 * len(_PAIRS), is_development: bool = False) -> list[Line]:
    """Of so many hinges at each resolution, of real motions, and of right models."""
    found: list[Line] = []
    for resolution in LEVELS_ANGSTROM:
        results = [_told(case) for case in hinges(data, resolution, n, is_development)]
        where = f"{len(results)} hinges at {resolution:g} Å"
        found += [
            _mean("flexible fitting: RMSD before", where, [r.before_angstrom for r in results]),
            _mean("flexible fitting: RMSD after", where, [r.after_angstrom for r in results], 2.0),
            Line("flexible fitting: within 2 Å", where, share(_within(results)), "%", digits=0),
            _mean("flexible fitting: CPU-s", where, [r.cpu_seconds for r in results], digits=1),
        ]
    where = f"{len(results)} hinges at {LEVELS_ANGSTROM[-1]:g} Å"
    found += [
        _mean("flexible fitting: RMS Z of backbone bonds", where, [r.bond_z for r in results]),
        _mean("flexible fitting: RMS Z of backbone angles", where, [r.angle_z for r in results]),
        _mean("flexible fitting: clashscore", where, [r.clashscore for r in results], digits=1),
    ]
    for resolution in LEVELS_ANGSTROM:
        results = [_told(case) for case in folds(data, resolution)]
        where = f"{len(results)} RNAs at {resolution:g} Å"
        found += [
            _mean("flexible fitting: RMSD before", where, [r.before_angstrom for r in results]),
            _mean("flexible fitting: RMSD after", where, [r.after_angstrom for r in results]),
        ]
    moves = [_told(case) for case in real_motions(data, n=n_real)]
    where = f"{len(moves)} real motions at {_REAL_ANGSTROM:g} Å"
    found += [
        _mean("flexible fitting: RMSD before", where, [r.before_angstrom for r in moves]),
        _mean("flexible fitting: RMSD after", where, [r.after_angstrom for r in moves]),
        Line("flexible fitting: not worse", where, share(_not_worse(moves)), "%", digits=0),
    ]
    right = [
        _told(Case(case.name, case.maps, case.maps.model, case.matched))
        for case in hinges(data, _REAL_ANGSTROM, n, is_development)
    ]
    where = f"{len(right)} right models at {_REAL_ANGSTROM:g} Å"
    found.append(_mean("flexible fitting: RMSD of right models", where, [r.after_angstrom for r in right], 0.5))
    wrong = [_told(case) for some in LEVELS_ANGSTROM for case in wrong_proteins(data, some, n, is_development)]
    where = f"{len(wrong)} at {LEVELS_ANGSTROM[0]:g} to {LEVELS_ANGSTROM[-1]:g} Å"
    is_bent = torch.tensor([r.is_kept for r in wrong])
    return [*found, Line("flexible fitting: wrong proteins that are bent", where, share(is_bent), "%", digits=0)]


def _within(results: list[Result]) -> Tensor:
    return torch.tensor([r.after_angstrom < 2 for r in results])


def _not_worse(results: list[Result]) -> Tensor:
    return torch.tensor([r.after_angstrom < r.before_angstrom + 0.2 for r in results])


def _mean(figure: str, where: str, values: list[float], reach: float | None = None, digits: int = 2) -> Line:
    known = torch.tensor(values, dtype=torch.float64)
    unit = "Å" if "RMSD" in figure else ""
    told = estimate(lambda chosen: float(known[chosen].mean()), len(known))
    return Line(figure, where, told, unit, reach, "lower", digits)


def _told(case: Case) -> Result:
    """Fit it, and print a line."""
    result, found = result_of(case)
    print(
        f"{case.name}, {case.moved.n_residues} residues, {case.maps.resolution_angstrom:g} Å:"
        f" {result.before_angstrom:.2f} -> {result.after_angstrom:.2f} Å, {result.cpu_seconds:.0f} CPU-s;"
        f" {found.reason}",
        flush=True,
    )
    return result


def main(data: Path = REAL_DATA, n: int = 6, n_real: int = 12, is_development: bool = False) -> None:
    """Print a line for each case, and the figures."""
    torch.set_num_threads(1)
    for line in lines(data, n, n_real, is_development):
        value = line.estimate
        print(f"| {line.figure} | {line.where} | {value.value:.2f} ({value.low:.2f} to {value.high:.2f}) {line.unit} |")


if __name__ == "__main__":
    typer.run(main)
