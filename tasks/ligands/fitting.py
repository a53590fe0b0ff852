"""Ligands that a user named, fitted to pieces of unexplained density, one after the other, the surest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.blobs import Blobs, blobs, spread_places
from kernels.models.ligand_evidence import LigandEvidence, ligand_evidence
from kernels.models.ligand_probability import probability
from kernels.models.ligand_search import Crowd, Poses, SearchEffort, searched
from kernels.models.ligand_template import LigandTemplate
from kernels.models.unexplained import element_weight
from tasks.ligands.requested import RequestedLigand
from tasks.ligands.scene import Scene, with_added
from tasks.records.placement import PlacedResidue, RefusedLigand

BLOB_SIGMA = 3.0
_GAP_VOXELS = 1
_N_ANCHORS = 24
_N_BLOBS = 5
"""Pieces of density in which each ligand is tried."""
_LEAST_VOLUME_PER_ATOM_ANGSTROM3 = 1.5
"""Of a piece of density above three standard deviations; ligands that are there have 5 to 12."""
_ELSEWHERE_ANGSTROM = 2.0


@dataclass(frozen=True, eq=False)
class Candidate:
    """The best pose of a ligand in one piece of density."""

    ligand: RequestedLigand
    places: Tensor
    """(atom, 3)"""
    gain_nats: float
    occupancy: float
    evidence: LigandEvidence
    probability: float
    middle: Tensor
    """(3,) of the piece of density."""


def pieces(scene: Scene) -> Blobs:
    """What is not explained, the largest first, without what belongs to a mate."""
    return blobs(scene.sigma, BLOB_SIGMA, scene.allowed, _GAP_VOXELS)


def candidates(scene: Scene, found: Blobs, ligand: RequestedLigand, seed: int = 0) -> list[Candidate]:
    """Best poses in the pieces of density that are large enough, as many as are looked at."""
    template = ligand.template
    large = torch.nonzero(found.volume_angstrom3 >= _LEAST_VOLUME_PER_ATOM_ANGSTROM3 * len(template)).squeeze(1)
    chosen = large[scene.own(found.middle_angstrom[large])][:_N_BLOBS].tolist()
    return [_candidate(scene, ligand, found, k, seed) for k in chosen]


def _candidate(scene: Scene, ligand: RequestedLigand, found: Blobs, k: int, seed: int) -> Candidate:
    template = ligand.template
    voxels = found.voxel[found.blob == k]
    poses = poses_in(scene, template, voxels, seed)
    evidence = _evidence(scene, template, poses, voxels)
    return Candidate(
        ligand, poses.places_angstrom[0], float(poses.gain_nats[0]), float(poses.occupancy[0]), evidence,
        probability(evidence), found.middle_angstrom[k],
    )  # fmt: skip


def poses_in(
    scene: Scene,
    template: LigandTemplate,
    voxels: Tensor,
    seed: int = 0,
    effort: SearchEffort = SearchEffort(),  # noqa: B008 (frozen)
) -> Poses:
    """Poses of a molecule in a piece of density, (n, 3) voxels."""
    here = scene.sigma.to_angstrom(voxels)
    anchors = here[spread_places(here, _N_ANCHORS)]
    arm = template.conformers_angstrom - template.conformers_angstrom.mean(1, keepdim=True)
    reach = float(arm.norm(dim=-1).max()) + 2
    crowd = Crowd(scene.whole, anchors.amin(0) - reach, anchors.amax(0) + reach)
    generator = torch.Generator().manual_seed(seed)
    weights = weights_of(template, scene.resolution_angstrom)
    return searched(template, scene.evidence, crowd, anchors, weights, generator, effort)


def weights_of(template: LigandTemplate, resolution_angstrom: float) -> Tensor:
    """(atom,) scattering in carbons."""
    counts = template.n_hydrogens.tolist()
    return torch.tensor([element_weight(e, n, resolution_angstrom) for e, n in zip(template.elements, counts)])


def _evidence(scene: Scene, template: LigandTemplate, poses: Poses, voxels: Tensor) -> LigandEvidence:
    best = poses.places_angstrom[0]
    apart = (poses.places_angstrom - best).square().sum(-1).mean(-1).sqrt()
    other = torch.nonzero(apart > _ELSEWHERE_ANGSTROM).squeeze(1)
    gain = float(poses.gain_nats[0])
    runner_up = float(poses.gain_nats[other[0]]) / max(gain, 1e-6) if len(other) else 0.0
    weights = weights_of(template, scene.resolution_angstrom)
    return ligand_evidence(
        scene.evidence, scene.sigma, best, weights, gain, float(poses.pressure_nats[0]), max(0.0, runner_up), voxels
    )


@dataclass(frozen=True, eq=False)
class FittedLigands:
    """The scene with all ligands that the map supports."""

    scene: Scene
    placed: tuple[PlacedResidue, ...]
    refused: tuple[RefusedLigand, ...]


def fit_ligands(
    scene: Scene, requested: Sequence[RequestedLigand], chain: str, least_probability: float, most_copies: int
) -> FittedLigands:
    """Place the surest ligand of all, take its density away, and begin anew, until none is sure enough."""
    placed: list[PlacedResidue] = []
    best_of: dict[str, Candidate] = {}
    while requested:
        found = pieces(scene)
        known = [
            candidate
            for one in requested
            if sum(row.name == one.template.code for row in placed) < most_copies
            for candidate in candidates(scene, found, one)
        ]
        for candidate in sorted(known, key=lambda c: c.probability):
            best_of[candidate.ligand.told] = candidate
        sure = [candidate for candidate in known if candidate.probability >= least_probability]
        if not sure:
            break
        best = max(sure, key=lambda c: c.probability * c.gain_nats)
        scene, row = _with_ligand(scene, best, chain, len(placed) + 1)
        placed.append(row)
    refused = [
        _refusal(scene, one, best_of.get(one.told), least_probability)
        for one in requested
        if not any(p.name == one.template.code for p in placed)
    ]
    return FittedLigands(scene, tuple(placed), tuple(refused))


def _with_ligand(scene: Scene, best: Candidate, chain: str, number: int) -> tuple[Scene, PlacedResidue]:
    template = best.ligand.template
    n = len(template)
    neighbour, distance = scene.neighbour(best.places)
    sigma = scene.sigma.values_at(best.places)
    half = [float(grid.values_at(best.places).mean()) for grid in scene.half_sigma]
    added = AtomicModel(
        (Residue(chain, template.code, number),), torch.zeros(n, dtype=torch.int64), template.names, template.elements,
        best.places.double(), torch.full((n,), scene.b_factor_angstrom2), torch.full((n,), min(1.0, best.occupancy)),
    )  # fmt: skip
    middle = best.places.mean(0).tolist()
    row = PlacedResidue(
        kind="ligand", chain=chain, number=number, name=template.code, place_angstrom=(middle[0], middle[1], middle[2]),
        sigma=round(float(sigma.mean()), 2), share=round(best.occupancy, 3),
        half_sigma=round(min(half), 2) if half else None, neighbour=neighbour, distance_angstrom=round(distance, 2),
        probability=round(best.probability, 4), correlation=round(best.evidence.correlation, 3),
        gain_nats=round(best.gain_nats, 1),
    )  # fmt: skip
    return with_added(scene, added), row


def _refusal(scene: Scene, one: RequestedLigand, best: Candidate | None, least: float) -> RefusedLigand:
    n = len(one.template)
    if best is None:
        left = pieces(scene)
        largest = float(left.volume_angstrom3.max()) if len(left) else 0.0
        reason = (
            f"no piece of unexplained density is large enough: the largest has {largest:.0f} Å³ above"
            f" {BLOB_SIGMA:g} standard deviations, {n} atoms need {_LEAST_VOLUME_PER_ATOM_ANGSTROM3 * n:.0f} Å³ or more"
        )
    else:
        z, y, x = best.middle.tolist()
        reason = (
            f"the density does not support it: the best fit, at ({x:.1f}, {y:.1f}, {z:.1f}) Å (x, y, z), has a"
            f" probability of {best.probability:.2f} (least {least:.2f}), a correlation of"
            f" {best.evidence.correlation:.2f}, and covers {100 * best.evidence.covered:.0f} % of the density there"
        )
    return RefusedLigand(name=one.template.code, told=one.told, reason=reason)
