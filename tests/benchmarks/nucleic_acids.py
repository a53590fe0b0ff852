"""Nucleic acids built into simulated maps: what is found of traces, bases and base pairs, and what confidences mean.

``python -m tests.benchmarks.nucleic_acids`` measures the RNA that the split of the training data holds out
(`tasks.training.structures`; RNA-Puzzles 5, 188 nucleotides: nothing was fitted to it, but it was looked at while
building was written, and with another one set the density that a nucleotide must have). ``--also FOLDER`` adds
structures of other folders, as far as they are no relatives of those that were trained on; ``--all`` adds the trained
ones. Maps are those of `tests.truth.model_maps`: half maps with noise, sharpened, at 1 Å a voxel. Real maps of nucleic
acids are not at hand.

Definitions. C4' are matched one-to-one within 3 Å (`kernels.scores.matched_points`): recall counts the nucleotides of
the structure, precision those of the built model. Base type counts matched nucleotides: "read" by density, network and
pairing alone, "threaded" as built with the structure's own sequences. Base pairs of both models are those of
`kernels.models.base_pairs` (bases in one plane edge to edge, cis Watson-Crick or wobble, whatever their types); a built
pair is right where both nucleotides are matched to those of one pair of the structure. Intervals are of 1,000 bootstrap
samples of structures, and of stretches of 10 nucleotides in each, 95 %: with one structure they do not tell how
structures differ. Confidence: expected calibration error over bins of a tenth, of candidates detected above 5 %, of
nucleotides built without sequences (right: C4' within 3 Å), and with them (right: of the right type as well, in chains
that were found in a sequence).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.base_pairs import base_pairs
from kernels.models.residues import BASES
from kernels.networks.detection import detect
from kernels.scores import area_under_curve, expected_calibration_error, matched_points
from tasks.building.build_nucleic_chains import BuiltNucleicAcid, build_nucleic_chains
from tasks.building.chain_names import NoChainError
from tasks.building.detector import detector
from tasks.formats.structure import read_structure
from tasks.training.structures import read_structures
from tests.benchmarks.estimates import Estimate, Line, estimate
from tests.truth.model_maps import simulated_maps
from tests.truth.real_maps import REAL_DATA

LEVELS_ANGSTROM = (2.5, 3.0, 3.5)
LEAST_CONFIDENCE = 0.05
"""As `BuildModelParams.least_nucleotide_confidence`."""
_RADIUS_ANGSTROM = 3.0
_STRETCH = 10
_SHORTEST_SEQUENCE = 8


@dataclass(frozen=True)
class Counts:
    """Of each nucleotide of the structure; one that is no part of it adds to the nearest."""

    built: Tensor
    """Nucleotides of the model that belong here."""
    found: Tensor
    read: Tensor
    """Found, and its base read rightly."""
    threaded: Tensor
    pairs: Tensor
    """Its share of the pairs of the structure."""
    pairs_built: Tensor
    pairs_right: Tensor


def counts(free: BuiltNucleicAcid, threaded: BuiltNucleicAcid, truth: AtomicModel) -> Counts:
    """Compare a model built without and one with sequences; places and pairs are those of the second."""
    n = truth.n_residues
    true = truth.positions("C4'")[:, 0]
    place = threaded.model.positions("C4'")[:, 0]
    match = matched_points(place, true, _RADIUS_ANGSTROM)
    nearest = torch.where(match >= 0, match, torch.cdist(place, true).argmin(1))
    loose = matched_points(free.model.positions("C4'")[:, 0], true, _RADIUS_ANGSTROM)

    def at(index: Tensor, values: Tensor) -> Tensor:
        return torch.zeros(n, dtype=torch.float64).index_add_(0, index, values.double())

    known, hit = match >= 0, loose >= 0
    is_read = free.types.argmax(1)[hit] == truth.base[loose[hit]]
    is_right = threaded.model.base[known] == truth.base[match[known]]
    real, own = base_pairs(truth), threaded.pairs
    partner = torch.full((n,), -1).scatter(0, real.first, real.second).scatter(0, real.second, real.first)
    ends = match[torch.stack([own.first, own.second])]
    right = (ends >= 0).all(0) & (partner[ends[0].clamp(min=0)] == ends[1])
    return Counts(
        at(nearest, torch.ones(len(nearest))),
        at(match[known], torch.ones(int(known.sum()))),
        at(loose[hit], is_read),
        at(match[known], is_right),
        at(real.first, torch.ones(len(real))),
        at(torch.minimum(nearest[own.first], nearest[own.second]), torch.ones(len(own))),
        at(torch.minimum(nearest[own.first], nearest[own.second]), right),
    )


def figures(c: Counts) -> dict[str, float]:
    """All figures in per cent."""
    share = {
        "C4' within 3 Å, recall": c.found.sum() / len(c.found),
        "C4' within 3 Å, precision": c.found.sum() / c.built.sum().clamp(min=1),
        "base right, read (of those found)": c.read.sum() / c.found.sum().clamp(min=1),
        "base right, threaded (of those found)": c.threaded.sum() / c.found.sum().clamp(min=1),
        "base pairs, F1": 2 * c.pairs_right.sum() / (c.pairs.sum() + c.pairs_built.sum()).clamp(min=1),
    }
    return {name: 100 * float(value) for name, value in share.items()}


REACH: dict[str, float | None] = {
    "C4' within 3 Å, recall": 80.0,
    "C4' within 3 Å, precision": None,
    "base right, read (of those found)": 55.0,
    "base right, threaded (of those found)": None,
    "base pairs, F1": None,
}
"""%"""


def _pooled(parts: Sequence[Counts]) -> Counts:
    return Counts(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Counts)))


def estimates(parts: Sequence[Counts]) -> dict[str, Estimate]:
    """All figures of some structures; samples are of structures, and of the stretches of each."""
    stretches = [[Counts(*v) for v in zip(*(getattr(p, f.name).split(_STRETCH) for f in fields(p)))] for p in parts]
    every = [stretch for some in stretches for stretch in some]

    def of(name: str) -> Callable[[Tensor], float]:
        return lambda chosen: figures(_pooled([every[i] for i in chosen.tolist()]))[name]

    return {name: estimate(of(name), [len(some) for some in stretches]) for name in REACH}


def lines(data: Path, levels_angstrom: Sequence[float] = LEVELS_ANGSTROM) -> list[Line]:
    """Of the structures that are held out, together."""
    models, found = structures_in(data, [], False), []
    for level in levels_angstrom:
        where = f"{', '.join(models)}, {sum(m.n_residues for m in models.values())} nucleotides, {level:g} Å"
        told = estimates([measured(truth, level, seed=1).counts for truth in models.values()])
        found += [
            Line(f"nucleic acids: {name}", where, each, "%", REACH[name], digits=0) for name, each in told.items()
        ]
    return found


@dataclass(frozen=True)
class Told:
    """Probabilities that were told, and whether they were right."""

    probability: Tensor
    is_right: Tensor

    def line(self) -> str:
        """Calibration error, and how well right and wrong are told apart."""
        right = self.is_right
        apart = f"{area_under_curve(self.probability, right):.2f}" if right.any() and not right.all() else "-"
        error = expected_calibration_error(self.probability, right)
        return f"{len(right)} | {float(right.double().mean()):.2f} | {error:.3f} | {apart}"


@dataclass(frozen=True)
class Measured:
    """One structure at one resolution."""

    counts: Counts
    told: dict[str, Told]
    seconds: float
    """CPU-seconds of detecting and building once."""


def measured(truth: AtomicModel, resolution_angstrom: float, seed: int, kind: str = "rna") -> Measured:
    """A structure in a simulated map, built with and without its sequences."""
    maps = simulated_maps(truth, resolution_angstrom, seed=seed)
    chains: dict[str, str] = {}
    for about, base in zip(truth.residues, truth.base.tolist()):
        chains[about.chain] = chains.get(about.chain, "") + BASES[base]
    sequences = [f"{kind}:{s}" for s in chains.values() if len(s) >= _SHORTEST_SEQUENCE]
    started = time.process_time()
    seen = detect(detector(), maps.sharpened).nucleic.surest(LEAST_CONFIDENCE).on_cpu()
    threaded = build_nucleic_chains(seen, maps.sharpened, resolution_angstrom, sequences)
    seconds = time.process_time() - started
    free = build_nucleic_chains(seen, maps.sharpened, resolution_angstrom)
    true = truth.positions("C4'")[:, 0]
    told = {"detected": Told(seen.confidence, matched_points(seen.sugar_angstrom, true, _RADIUS_ANGSTROM) >= 0)}
    for name, built in (("built", free), ("built and threaded", threaded)):
        match = matched_points(built.model.positions("C4'")[:, 0], true, _RADIUS_ANGSTROM)
        right = match >= 0
        if name != "built":  # of the right type where its chain was found in the sequence
            is_named = built.register_probability > 0
            right &= ~is_named | (built.model.base == truth.base[match.clamp(min=0)])
        told[name] = Told(built.confidence, right)
    return Measured(counts(free, threaded, truth), told, seconds)


def structures_in(data: Path, also: Sequence[Path], every: bool) -> dict[str, AtomicModel]:
    """Nucleotides of what was not trained on, by name; of everything with ``every``."""
    folders = [data / "structures_rna", *also]
    found = read_structures(folders)
    own = data / "structures_rna"
    trained = {s.cluster for s in found if s.name.startswith(own.name) and not s.is_held_out}
    paths = {f"{folder.name}/{path.name}": path for folder in folders for path in sorted(folder.rglob("*"))}
    models = {}
    for structure in found:
        if every or structure.cluster not in trained:
            model = read_structure(paths[structure.name])
            models[structure.name.split("/")[-1][:4]] = model.take_residues(model.base >= 0)
    return models


def main(
    data: Path = REAL_DATA,
    also: Annotated[list[Path] | None, typer.Option(help="Folder with further structures.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Trained structures as well.")] = False,
    resolution: Annotated[list[float] | None, typer.Option(help="Å; may be repeated.")] = None,
) -> None:
    """Print the tables."""
    if not (data / "structures_rna").is_dir():
        raise typer.BadParameter(f"no structures at {data / 'structures_rna'}; set VITRIFLOW_REAL_DATA")
    models = structures_in(data, also or [], every)
    for level in resolution or LEVELS_ANGSTROM:
        done = {}
        print(f"\n{level:g} Å\n\n| structure | nucleotides | {' | '.join(REACH)} | CPU-s |")
        print(f"|{'---|' * (3 + len(REACH))}")
        for name, truth in models.items():
            try:
                done[name] = measured(truth, level, seed=1)
            except NoChainError as error:
                print(f"| {name} | {truth.n_residues} | nothing built: {error} |", flush=True)
                continue
            row = " | ".join(f"{value:.1f}" for value in figures(done[name].counts).values())
            print(f"| {name} | {truth.n_residues} | {row} | {done[name].seconds:.0f} |", flush=True)
        if not done:
            continue
        print("\n| figure | all | 95 % | to reach |\n|---|---|---|---|")
        for name, each in estimates([one.counts for one in done.values()]).items():
            aim = "" if REACH[name] is None else f"{REACH[name]:g} %"
            print(f"| {name} | {each.value:.1f} % | {each.low:.0f} to {each.high:.0f} % | {aim} |")
        print("\n| confidence | n | right | calibration error | ROC-AUC |\n|---|---|---|---|---|")
        for what in ("detected", "built", "built and threaded"):
            parts = [one.told[what] for one in done.values()]
            told = Told(torch.cat([p.probability for p in parts]), torch.cat([p.is_right for p in parts]))
            print(f"| {what} | {told.line()} |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    typer.run(main)
