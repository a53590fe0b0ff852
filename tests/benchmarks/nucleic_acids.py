"""Nucleic acids built into simulated maps: what is found of traces, bases and base pairs.

``python -m tests.benchmarks.nucleic_acids`` prints the table for the RNA structures that the split of the training data
holds out (`tasks.training.structures`), of which there is one (RNA-Puzzles 5, 188 nucleotides) among eleven; ``--all``
adds those that the network, and the weights that read bases, were trained on. Maps are those of
`tests.truth.model_maps`: half maps with noise, sharpened, at 1 Å a voxel. Real maps of nucleic acids are not at hand.
Nothing was fitted to the structure that is held out, but it was looked at while building was written, and the density
that a nucleotide must have was set by it and another one: structures never seen may come out worse.

Definitions. C4' are matched one-to-one within 3 Å (`kernels.scores.matched_points`): recall counts the nucleotides of
the structure, precision those of the built model. Base type counts matched nucleotides: "read" by density, network and
pairing alone, "threaded" as built with the structure's own sequences. Base pairs of both models are those of
`kernels.models.base_pairs` (bases in one plane edge to edge, cis Watson-Crick or wobble, whatever their types); a built
pair is right where both nucleotides are matched to those of one pair of the structure. Intervals are of 1,000 bootstrap
samples of stretches of 10 nucleotides, 95 %: one structure cannot tell how structures differ.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.base_pairs import base_pairs
from kernels.models.residues import BASES
from kernels.networks.detection import detect
from kernels.scores import matched_points
from tasks.building.build_nucleic_chains import BuiltNucleicAcid, build_nucleic_chains
from tasks.building.detector import detector
from tasks.formats.structure import read_structure
from tasks.training.structures import read_structures
from tests.benchmarks.session import REAL_DATA
from tests.truth.model_maps import simulated_maps

LEVELS_ANGSTROM = (2.5, 3.0, 3.5)
LEAST_CONFIDENCE = 0.05
"""As `BuildModelParams.least_nucleotide_confidence`."""
_RADIUS_ANGSTROM = 3.0
_STRETCH = 10
_N_SAMPLES = 1000


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


REACH = {"C4' within 3 Å, recall": 80.0, "base right, read (of those found)": 55.0}


def intervals(c: Counts) -> dict[str, tuple[float, float]]:
    """95 % over stretches drawn again."""
    stretches = torch.arange(len(c.found)).split(_STRETCH)
    generator = torch.Generator().manual_seed(0)
    drawn: dict[str, list[float]] = {}
    for _ in range(_N_SAMPLES):
        pick = torch.randint(len(stretches), (len(stretches),), generator=generator).tolist()
        index = torch.cat([stretches[i] for i in pick])
        for name, value in figures(Counts(*(v[index] for v in vars(c).values()))).items():
            drawn.setdefault(name, []).append(value)
    quantiles = {name: torch.tensor(v).quantile(torch.tensor([0.025, 0.975])).tolist() for name, v in drawn.items()}
    return {name: (low, high) for name, (low, high) in quantiles.items()}


def measured(truth: AtomicModel, resolution_angstrom: float, seed: int) -> tuple[Counts, float]:
    """Counts at one resolution, and CPU-seconds of detecting and building once."""
    maps = simulated_maps(truth, resolution_angstrom, seed=seed)
    chains: dict[str, str] = {}
    for about, base in zip(truth.residues, truth.base.tolist()):
        chains[about.chain] = chains.get(about.chain, "") + BASES[base]
    started = time.process_time()
    seen = detect(detector(), maps.sharpened).nucleic.surest(LEAST_CONFIDENCE).on_cpu()
    built = [build_nucleic_chains(seen, maps.sharpened, resolution_angstrom, [f"rna:{s}" for s in chains.values()])]
    seconds = time.process_time() - started
    built.append(build_nucleic_chains(seen, maps.sharpened, resolution_angstrom))
    return counts(built[1], built[0], truth), seconds


def main(
    data: Path = REAL_DATA, every: Annotated[bool, typer.Option("--all", help="Trained structures as well.")] = False
) -> None:
    """Print the table."""
    folder = data / "structures_rna"
    if not folder.is_dir():
        raise typer.BadParameter(f"no structures at {folder}; set VITRIFLOW_REAL_DATA")
    print("| structure | Å | figure | measured | 95 % over stretches | to reach |\n|---|---|---|---|---|---|")
    for structure in read_structures([folder]):
        if not (every or structure.is_held_out):
            continue
        truth = read_structure(folder / structure.name.split("/")[-1])
        truth = truth.take_residues(truth.base >= 0)
        for resolution in LEVELS_ANGSTROM:
            found, seconds = measured(truth, resolution, seed=1)
            span = intervals(found)
            for name, value in figures(found).items():
                low, high = span[name]
                reach = f"{REACH[name]:.0f} %" if name in REACH else ""
                print(
                    f"| {structure.name.split('/')[-1][:4]} | {resolution} | {name} | {value:.1f} % | {low:.0f} to"
                    f" {high:.0f} % | {reach} |"
                )
            print(f"| {structure.name.split('/')[-1][:4]} | {resolution} | CPU-s | {seconds:.0f} | | |", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    typer.run(main)
