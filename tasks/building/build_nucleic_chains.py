"""From what a network detects in a map to nucleic acids with all atoms, sequence, base pairs and confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.maps.sampling import sampled, spline_coefficients
from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.base_pairs import BasePairs, base_pairs, paired_types
from kernels.models.base_profile import base_profile, base_types
from kernels.models.detections import NucleotideDetections
from kernels.models.nucleotide_building import nucleotides_on_trace, refined_nucleotides
from kernels.models.nucleotides import RING, monomer
from kernels.models.real_space import density_target
from kernels.models.residues import BASES
from kernels.models.threading import UNKNOWN
from tasks.building.chain_names import BuiltChain, NoChainError, described
from tasks.building.sequences import Target, targets
from tasks.building.thread_chains import ThreadedChain, thread_chains
from tasks.building.trace_chains import Trace
from tasks.building.trace_in_time import trace_in_time
from tasks.formats.structure import chain_name

UNTOLD = BASES.index("C")
"""Base of a nucleotide before anything is told of it: the smallest."""
NETWORK_WEIGHT = 0.5
"""Of the logarithm of what the network says of a base, beside the density in its plane."""
DENSITY_MIDDLE, DENSITY_STEEPNESS = 0.36, 14.0
"""Mean density of a nucleotide's atoms, on the scale of `real_space.density_target`, that is as often right as not, and
how fast that changes. In traces of ten simulated maps nucleotides that stand beside the molecule have 0 to 0.3 after
refinement, right ones 0.4 to 1.2."""
LEAST_CONFIDENCE = 0.5
"""Of a nucleotide after refinement that stays."""
LONGEST_STEP_ANGSTROM = 8.0
"""Of two neighbours in sequence that a bond is laid between; further apart, the chain stays open there."""
_PRIOR = 0.5


@dataclass(frozen=True)
class BuiltNucleicAcid:
    """All heavy atoms of nucleic acids, and what is known of each nucleotide."""

    model: AtomicModel
    """``b_factor_angstrom2`` holds 100 times the confidence."""
    chains: tuple[BuiltChain, ...]
    targets: tuple[Target, ...]
    pairs: BasePairs
    types: Tensor
    """(residue, 4) probabilities of bases by density, network and pairing, without the sequence."""
    confidence: Tensor
    """(residue,) probability that there is this nucleotide: with a sequence, of this type and number."""
    register_probability: Tensor
    """(residue,)"""
    least_confidence: float | None = None
    """Of the candidates that were traced, where they were too many to trace all."""

    def pair_names(self) -> list[str]:
        """A/G1 - A/C72, for each base pair."""
        about = self.model.residues
        return [f"{about[i]} - {about[j]}" for i, j in zip(self.pairs.first.tolist(), self.pairs.second.tolist())]


def build_nucleic_chains(
    detections: NucleotideDetections,
    grid: DensityGrid,
    resolution_angstrom: float,
    sequences: Sequence[str] = (),
    copies: Sequence[int] | None = None,
    seed: int = 0,
) -> BuiltNucleicAcid:
    """Trace nucleotides, build them, read their bases, pair and thread them, and build them as what they are.

    Nucleotides are built twice: what a first model has no density for leaves, and the bases of what stays are read in
    the density of their planes.

    Parameters
    ----------
    resolution_angstrom
        Of the map; finer than its voxels can show is allowed.
    sequences
        One-letter codes (see `sequences.told_kind`); without any, nucleotides get the bases that they look like.

    Raises
    ------
    NoChainError
        Without detections, or without a chain among them that the map's density supports.
    ValueError
        For sequences that cannot be used (see `targets`).
    """
    resolution = grid.resolution_shown(resolution_angstrom)
    wanted = targets(sequences, copies, len(detections))
    is_dna = bool(wanted) and all(t.kind == "dna" for t in wanted)
    coefficients = spline_coefficients(grid.voxels.float())

    def density_at(places: Tensor) -> Tensor:
        return sampled(coefficients, grid.to_voxels(places))

    found = trace_in_time(detections, density_at)
    traces = found.traces
    if not traces:
        raise NoChainError(
            f"{len(detections)} nucleotides were detected, but no four of them follow each other as a chain does; look"
            " at the hand, voxel size and resolution (3.5 Å or better) of the map"
        )
    none_in_density = NoChainError(
        f"{len(detections)} nucleotides were detected, but none that follow each other as a chain does stand in"
        " density; look at the hand, voxel size and resolution (3.5 Å or better) of the map"
    )
    try:
        seen, confidence = _first_model(traces, detections, grid, resolution, is_dna)
    except ValueError as error:  # the map does not know the model in any shell
        raise none_in_density from error
    kept = confidence > LEAST_CONFIDENCE
    if int(kept.sum()) < 2:
        raise none_in_density
    types = _types(seen, detections, traces, grid)
    evident = _evident(seen, detections, types, confidence, traces, kept)
    traces = trace_in_time(evident, density_at).traces
    chains = thread_chains(traces, evident, wanted, seed)
    if not chains:
        raise NoChainError(
            f"{int(kept.sum())} nucleotides stand in density, but no four of them follow each other as a chain does;"
            " look at the hand, voxel size and resolution (3.5 Å or better) of the map"
        )
    names = [chain_name(i) for i in range(len(chains))]
    residues, linked = _residues(chains, names, evident, wanted, is_dna)
    model = _second_model(chains, evident, residues, linked, grid)
    model = refined_nucleotides(model, grid, resolution, linked)
    sure = torch.cat([_confidence(c, evident) for c in chains])
    row = torch.cat([c.candidate for c in chains])
    told = torch.where((row >= 0)[:, None], evident.base[row.clamp(min=0)], 0.25)
    return BuiltNucleicAcid(
        replace(model, b_factor_angstrom2=(100 * sure).float()[model.residue]),
        tuple(described(n, c) for n, c in zip(names, chains)),
        tuple(wanted),
        base_pairs(model),
        told,
        sure,
        torch.cat([c.register_probability for c in chains]).float(),
        found.least_confidence,
    )


def _first_model(
    traces: Sequence[Trace], detections: NucleotideDetections, grid: DensityGrid, resolution: float, is_dna: bool
) -> tuple[AtomicModel, Tensor]:
    """Nucleotides without a type along all traces, refined; and the probability of each by its density."""
    place, candidate, turned = (
        torch.cat([getattr(t, name) for t in traces]) for name in ("alpha_angstrom", "candidate", "is_reversed")
    )
    linked = torch.cat([torch.arange(len(t)) < len(t) - 1 for t in traces])
    row, is_told = candidate.clamp(min=0), (candidate >= 0)[:, None]
    # one that takes the chain for its reverse sees the next phosphate where its own is
    phosphate = torch.where(is_told & ~turned[:, None], detections.phosphate_offset_angstrom[row], torch.nan)
    base = torch.where(is_told, detections.base_offset_angstrom[row], torch.nan)
    number = [i + 1 for t in traces for i in range(len(t))]
    name = [chain_name(k) for k, t in enumerate(traces) for _ in range(len(t))]
    residues = tuple(Residue(c, monomer(UNTOLD, is_dna), n) for c, n in zip(name, number))
    model = nucleotides_on_trace(residues, place.double(), linked, phosphate, base, grid)
    model = refined_nucleotides(model, grid, resolution, linked)
    return model, _by_density(model, grid)


def _by_density(model: AtomicModel, grid: DensityGrid) -> Tensor:
    """(residue,) probability that a nucleotide stands here, by the density of its atoms."""
    target = density_target(grid, model.positions("C4'")[:, 0], 20.0)
    total = torch.zeros(model.n_residues, dtype=torch.float64)
    total.index_add_(0, model.residue, target(model.coordinates_angstrom).double())
    mean = total / torch.bincount(model.residue, minlength=model.n_residues)
    return torch.sigmoid(DENSITY_STEEPNESS * (mean - DENSITY_MIDDLE)).float()


def _types(model: AtomicModel, detections: NucleotideDetections, traces: Sequence[Trace], grid: DensityGrid) -> Tensor:
    """(residue, 4) probabilities of bases by the density in their planes, by the network, and by pairing."""
    by_density = base_types(base_profile(model, density_target(grid, model.positions("C4'")[:, 0])))
    candidate = torch.cat([t.candidate for t in traces])
    # what the network says of all nucleotides alike is not about any of them
    usual = detections.base.double().mean(0).clamp(min=0.02)
    by_network = (detections.base.double()[candidate.clamp(min=0)].clamp(min=0.01) / usual) ** NETWORK_WEIGHT
    by_network = torch.where((candidate >= 0)[:, None], by_network, 1.0)
    types = by_density * by_network
    return paired_types(types / types.sum(-1, keepdim=True), base_pairs(model))


def _evident(
    model: AtomicModel,
    detections: NucleotideDetections,
    types: Tensor,
    confidence: Tensor,
    traces: Sequence[Trace],
    kept: Tensor,
) -> NucleotideDetections:
    """Nucleotides of a model as detections: where they stand, what they look like, and where neighbours are expected.

    Where the network expects them, or the trace has them where it says nothing.
    """
    sugar, phosphate = model.positions("C4'", "P").unbind(1)
    ring = model.positions(*RING).mean(1)
    candidate, turned = (torch.cat([getattr(t, name) for t in traces]) for name in ("candidate", "is_reversed"))
    onwards = torch.cat([torch.gradient(t.alpha_angstrom.double(), dim=0)[0] for t in traces])
    is_told, row = (candidate >= 0)[:, None], candidate.clamp(min=0)
    after, before = detections.next_offset_angstrom[row].double(), detections.previous_offset_angstrom[row].double()
    after, before = torch.where(turned[:, None], before, after), torch.where(turned[:, None], after, before)
    ahead, back = torch.where(is_told, after, onwards), torch.where(is_told, before, -onwards)
    order = torch.nonzero(kept).squeeze(1)
    return NucleotideDetections(
        *(values[order].float() for values in (sugar, confidence, phosphate - sugar, ring - sugar, ahead, back, types))
    )


def _residues(
    chains: Sequence[ThreadedChain],
    names: Sequence[str],
    evident: NucleotideDetections,
    wanted: Sequence[Target],
    is_dna: bool,
) -> tuple[tuple[Residue, ...], Tensor]:
    """Who the nucleotides are, and whether the next one follows."""
    residues: list[Residue] = []
    linked = []
    for name, chain in zip(names, chains):
        looks = torch.where(chain.candidate >= 0, evident.base[chain.candidate.clamp(min=0)].argmax(1), UNTOLD)
        own_dna = is_dna
        if chain.sequence is not None:
            told = wanted[chain.sequence].types[chain.position]
            looks = torch.where(told == UNKNOWN, looks, told)
            own_dna = wanted[chain.sequence].kind == "dna"
        pairs = zip(looks.tolist(), chain.position.tolist())
        residues += [Residue(name, monomer(base, own_dna), position + 1) for base, position in pairs]
        follows = (chain.position.diff() == 1) & (chain.alpha_angstrom.diff(dim=0).norm(dim=1) < LONGEST_STEP_ANGSTROM)
        linked.append(torch.cat([follows, torch.zeros(1, dtype=torch.bool)]))
    return tuple(residues), torch.cat(linked)


def _second_model(
    chains: Sequence[ThreadedChain],
    evident: NucleotideDetections,
    residues: tuple[Residue, ...],
    linked: Tensor,
    grid: DensityGrid,
) -> AtomicModel:
    place, candidate, turned = (
        torch.cat([getattr(c, name) for c in chains]) for name in ("alpha_angstrom", "candidate", "is_reversed")
    )
    row, is_told = candidate.clamp(min=0), (candidate >= 0)[:, None]
    phosphate = torch.where(is_told & ~turned[:, None], evident.phosphate_offset_angstrom[row], torch.nan)
    base = torch.where(is_told, evident.base_offset_angstrom[row], torch.nan)
    return nucleotides_on_trace(residues, place.double(), linked, phosphate, base, grid)


def _confidence(chain: ThreadedChain, evident: NucleotideDetections) -> Tensor:
    """(residue,) probability of the nucleotide; with a sequence, that it is this one."""
    seen = torch.where(chain.candidate >= 0, evident.confidence[chain.candidate.clamp(min=0)], _PRIOR)
    return seen if chain.sequence is None else seen * chain.register_probability.float()
