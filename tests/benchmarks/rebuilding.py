"""Rebuilding of what validation does not trust: planted errors that are repaired, and errors that are made.

    python -m tests.benchmarks.rebuilding

Structures: clusters that `tasks.training` holds out, so that neither the network nor the coefficients of the validation
saw a relative; thresholds of the rebuilding were set on others (``--is-development``). Errors: those of
`tasks.validation.planted_errors` in one residue of six, at seeds that the fit does not use. Maps: half maps of
`tests.truth.model_maps` at 2.5 to 3.5 Å, another simulation than the one that the validation was fitted with.

`judge` says which residues are doubtful; `rebuilt` is given them, the sequence, and the first half map, filtered as the
map is. The network sees that half map too. It does not know what was planted.

- A residue is right where its Cα lies within 1 Å of the true one, its amino acid is the true one, and, for a flipped
  peptide, the line from its C to its O within 60 degrees; a side chain, where chi1 is right within 40 degrees.
- A planted error is repaired where four fifths of its wrong residues are right.
- A new error is a residue that was right and is now further than 1.5 Å off, of another type, gone, or has its peptide
  turned by more than 90 degrees.

Intervals: 1,000 bootstrap samples of structures, 95 %.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import typer
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.residues import PROTEIN_BACKBONE
from kernels.models.torsions import side_chain_torsions
from tasks.building.detector import residue_networks
from tasks.formats.structure import read_structure
from tasks.rebuilding.maps import like_the_map
from tasks.rebuilding.rebuild import Rebuilt, rebuilt
from tasks.rebuilding.windows import doubtful_residues
from tasks.records.model import ModelValidation
from tasks.validation.judgement import Maps, judge
from tasks.validation.planted_errors import KINDS, UNCLEAR, PlantedModel, plant_errors
from tasks.validation.reliability_fit import protein_to_plant_in
from tests.benchmarks.estimates import Estimate, Line, estimate
from tests.truth.model_maps import SimulatedMaps, simulated_maps
from tests.truth.real_maps import REAL_DATA
from tests.truth.structure_sets import structures_below

_SEED, _DEVELOPMENT_SEED = 880_000, 990_000
_SHARE_WRONG = 1 / 6
_RIGHT_ANGSTROM, _WRONG_ANGSTROM = 1.0, 1.5
_SAME_PEPTIDE, _OTHER_PEPTIDE = 0.5, 0.0
"""Cosines of 60 and 90 degrees."""
_SAME_ROTAMER = 0.766
_REPAIRED_SHARE = 0.8
_FEWEST, _MOST = 80, 300
_AIMED = (1, 2, 3)
"""Of `KINDS`: register shifts, peptide flips, shifted loops."""


@dataclass(frozen=True, eq=False)
class Case:
    """A model with planted errors in its maps."""

    name: str
    truth: AtomicModel
    planted: PlantedModel
    maps: SimulatedMaps


@dataclass(frozen=True)
class Repair:
    """What became of one planted error."""

    kind: int
    n_wrong: int
    n_right: int
    """Of those, after the rebuilding"""
    is_seen: bool
    """Whether the validation doubted one of its residues"""

    @property
    def is_repaired(self) -> bool:
        return self.n_right >= _REPAIRED_SHARE * self.n_wrong


@dataclass(frozen=True)
class Result:
    """One structure."""

    repairs: tuple[Repair, ...]
    n_right: int
    """Residues without error"""
    n_broken: int
    n_touched: int
    """Of those without error, in windows that were rebuilt"""
    cpu_seconds: float


def cases(data: Path, is_development: bool, most: int) -> Iterator[Case]:
    """Structures of either set with errors, in the order of their files."""
    folder = data / "structures_bm5"
    found = 0
    for number, structure in enumerate(structures_below(folder)):
        if structure.is_held_out is is_development or found >= most:
            continue
        truth = protein_to_plant_in(read_structure(folder / Path(structure.name).name))
        if _FEWEST <= truth.n_residues <= _MOST:
            found += 1
            yield case_of(structure.name, truth, number, is_development)


def case_of(name: str, truth: AtomicModel, number: int, is_development: bool) -> Case:
    """One structure with its maps and its errors, told by its number."""
    seed = (_DEVELOPMENT_SEED if is_development else _SEED) + number
    resolution = 2.5 + (number * 0.6180339887) % 1
    maps = simulated_maps(truth, resolution, min(resolution / 3, 1.0), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    planted = plant_errors(maps.model, maps.sharpened, _SHARE_WRONG, generator)
    return Case(f"{name} {resolution:.2f} Å", maps.model, planted, maps)


@dataclass(frozen=True, eq=False)
class Round:
    """What a round of rebuilding was told, and what it made."""

    found: ModelValidation
    doubtful: Tensor
    done: Rebuilt


def rounds_of(case: Case, n_rounds: int) -> list[Round]:
    """Judge and build anew, round by round, as far as something is doubtful and changes."""
    maps = Maps(case.maps.sharpened, case.maps.half_1, case.maps.half_2)
    grid = like_the_map(case.maps.half_1, case.maps.half_2, case.maps.sharpened)
    told = residue_networks().detect(grid).protein.on_cpu()
    sequences = [_sequence(case.truth, chain) for chain in dict.fromkeys(r.chain for r in case.truth.residues)]
    rounds: list[Round] = []
    model = case.planted.model
    for _ in range(n_rounds):
        found = judge(model, maps, case.maps.resolution_angstrom)
        doubtful = doubtful_residues(model, found)
        done = rebuilt(model, doubtful, grid, case.maps.resolution_angstrom, sequences, told)
        rounds.append(Round(found, doubtful, done))
        if not any(outcome.is_changed for outcome in done.outcomes):
            break
        model = done.model
    return rounds


def _sequence(model: AtomicModel, chain: str) -> Tensor:
    """(position,) types of a chain by its numbers, -1 where the structure has a gap."""
    mine = [i for i, r in enumerate(model.residues) if r.chain == chain]
    number = torch.tensor([model.residues[i].number for i in mine])
    types = torch.full((int(number.max() - number.min()) + 1,), -1)
    types[number - number.min()] = model.amino_acid[mine]
    return types


def result_of(case: Case, model: AtomicModel, doubtful: Tensor, cpu_seconds: float) -> Result:
    """A rebuilt model beside the true one.

    Parameters
    ----------
    doubtful
        (residue,) of the model with its errors, before anything was built anew.
    """
    same = rightness(model, case.truth)
    kind = case.planted.error
    repairs = []
    for of_kind, rows in planted_events(kind):
        right = same.is_right(of_kind)[rows]
        repairs.append(Repair(of_kind, len(rows), int(right.sum()), bool(doubtful[rows].any())))
    clean = kind == 0
    before = rightness(case.planted.model, case.truth).is_broken
    return Result(
        tuple(repairs),
        int(clean.sum()),
        int((same.is_broken & ~before & clean).sum()),
        int((doubtful & clean).sum()),
        cpu_seconds,
    )


@dataclass(frozen=True, eq=False)
class Rightness:
    """(residue,) each, of the true model's residues."""

    is_near: Tensor
    is_same_type: Tensor
    peptide_cosine: Tensor
    chi_cosine: Tensor
    is_broken: Tensor

    def is_right(self, kind: int) -> Tensor:
        """As the kind of an error wants it."""
        right = self.is_near & self.is_same_type
        if KINDS[kind] == "peptide flip":
            return right & (self.peptide_cosine > _SAME_PEPTIDE)
        if KINDS[kind] == "wrong side chain":
            return right & (self.chi_cosine > _SAME_ROTAMER)
        return right


def rightness(model: AtomicModel, truth: AtomicModel) -> Rightness:
    """Residues are matched by chain and number; one that is not there is wrong."""
    mine = {(r.chain, r.number, r.insertion_code): i for i, r in enumerate(model.residues)}
    index = torch.tensor([mine.get((r.chain, r.number, r.insertion_code), -1) for r in truth.residues])
    there, at = index >= 0, index.clamp(min=0)
    theirs, ours = truth.positions(*PROTEIN_BACKBONE), model.positions(*PROTEIN_BACKBONE)[at]
    distance = (ours[:, 1] - theirs[:, 1]).norm(dim=-1)
    bonds = [torch.nn.functional.normalize(place[:, 3] - place[:, 2], dim=-1) for place in (ours, theirs)]
    cosine = (bonds[0] * bonds[1]).sum(-1)
    same = there & (model.amino_acid[at] == truth.amino_acid)
    turned = torch.cos(side_chain_torsions(model)[at, 0] - side_chain_torsions(truth)[:, 0])
    is_broken = ~same | ~(distance <= _WRONG_ANGSTROM) | (cosine < _OTHER_PEPTIDE)
    return Rightness(there & (distance <= _RIGHT_ANGSTROM), same, cosine, turned, is_broken)


def planted_events(kind: Tensor) -> list[tuple[int, Tensor]]:
    """Kind and wrong residues of each planted error; residues that are not counted do not cut one in two."""
    events: list[tuple[int, list[int]]] = []
    last = 0
    for row, of_kind in enumerate(kind.tolist()):
        if of_kind > 0 and of_kind == last:
            events[-1][1].append(row)
        elif of_kind > 0:
            events.append((of_kind, [row]))
        last = last if of_kind == UNCLEAR else of_kind
    return [(of_kind, torch.tensor(rows)) for of_kind, rows in events]


def table(results: list[Result]) -> str:
    """In Markdown, with intervals."""
    lines = ["| figure | measured | to reach |", "|---|---|---|"]
    rows = [("register shifts, flips and loops", _AIMED), *((KINDS[k] + "s", (k,)) for k in range(1, len(KINDS)))]
    for name, kinds in rows:
        n = sum(r.kind in kinds for one in results for r in one.repairs)
        seen = sum(r.kind in kinds and r.is_seen for one in results for r in one.repairs)
        aim = "≥ 60 %" if kinds == _AIMED else ""
        told = repaired_share(results, kinds)
        words = f"{told.value:.0f} % ({told.low:.0f} to {told.high:.0f})"
        lines.append(f"| repaired, of {n} {name} ({seen} seen) | {words} | {aim} |")
    n_right, n_broken = sum(one.n_right for one in results), sum(one.n_broken for one in results)
    touched = sum(one.n_touched for one in results)
    share = f"{100 * n_broken / max(1, n_right):.2f} % ({n_broken} of {n_right}, {touched} of them doubted)"
    lines.append(f"| new errors in residues that were right | {share} | near 0 |")
    seconds = sum(one.cpu_seconds for one in results)
    residues = n_right + sum(r.n_wrong for one in results for r in one.repairs)
    lines.append(f"| CPU-s for 100 residues, all rounds, judging included | {100 * seconds / max(1, residues):.1f} | |")
    return "\n".join(lines)


def repaired_share(results: list[Result], kinds: tuple[int, ...] = _AIMED) -> Estimate:
    """Of planted errors of some kinds, in per cent, over samples of structures."""
    counts = torch.tensor(
        [
            [sum(r.kind in kinds for r in one.repairs), sum(r.kind in kinds and r.is_repaired for r in one.repairs)]
            for one in results
        ],
        dtype=torch.float64,
    )

    return estimate(lambda chosen: _percent(counts[chosen]), len(results))


def lines(data: Path, most: int, n_rounds: int = 2) -> list[Line]:
    """Of the first held-out structures, after all rounds."""
    results = []
    for case in cases(data, False, most):
        rounds = rounds_of(case, n_rounds)
        results.append(result_of(case, rounds[-1].done.model, rounds[0].doubtful, 0.0))
    n = sum(repair.kind in _AIMED for one in results for repair in one.repairs)
    where = f"{n} in {len(results)} structures of held-out clusters, 2.5 to 3.5 Å"
    name = "rebuilding: planted register shifts, flips and loops repaired"
    counts = torch.tensor([[one.n_right, one.n_broken] for one in results], dtype=torch.float64)
    broken = estimate(lambda chosen: _percent(counts[chosen]), len(results))
    return [
        Line(name, where, repaired_share(results), "%", 60, digits=0),
        Line("rebuilding: right residues that are not afterwards", f"{int(counts[:, 0].sum())}", broken, "%", digits=2),
    ]


def _percent(counts: Tensor) -> float:
    """Of (case, 2) cases and those of interest among them."""
    n, n_such = counts.sum(0).tolist()
    return 100 * n_such / n if n else math.nan


def main(data: Path = REAL_DATA, is_development: bool = False, most: int = 40, n_rounds: int = 2) -> None:
    """Print the table of one set of structures after each round; one line for each of them first."""
    torch.set_num_threads(1)
    results: list[list[Result]] = [[] for _ in range(n_rounds)]
    for case in cases(data, is_development, most):
        started = time.process_time()
        rounds = rounds_of(case, n_rounds)
        seconds = time.process_time() - started
        for number in range(n_rounds):
            last = rounds[min(number, len(rounds) - 1)]
            results[number].append(result_of(case, last.done.model, rounds[0].doubtful, seconds))
        one = results[-1][-1]
        told = ", ".join(f"{KINDS[r.kind]} {r.n_right}/{r.n_wrong}" for r in one.repairs)
        print(f"{case.name}: {told}; {one.n_broken} new of {one.n_right}, {seconds:.0f} CPU-s", flush=True)
    for number, some in enumerate(results):
        print(f"\n## After round {number + 1}, {len(some)} structures\n\n{table(some)}")


if __name__ == "__main__":
    typer.run(main)
