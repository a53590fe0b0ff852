"""What a detection network says of simulated patches, beside what is true of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.networks.detection import MERGED_ANGSTROM, MERGED_NUCLEOTIDES_ANGSTROM, answers, merged
from kernels.networks.detection_targets import CellTargets
from kernels.networks.residue_detector import CELL_VOXELS, CellPredictions, ResidueDetector, cell_centres, split
from kernels.scores import matched_points
from tasks.training.patches import SimulatedPatches, batch_of, example_of, moved

RESIDUES = ("alpha", "sugar")
CHOICES = ("amino_acid", "secondary_structure", "base")
_RADIUS_ANGSTROM = {"alpha": 2.0, "sugar": 3.0}
_MERGED_ANGSTROM = {"alpha": MERGED_ANGSTROM, "sugar": MERGED_NUCLEOTIDES_ANGSTROM}


@dataclass(frozen=True, eq=False)
class Evidence:
    """Of one patch, or of several; only what is judged of a patch counts."""

    resolution_angstrom: float
    probability: dict[str, Tensor]
    """Of each candidate for one of `RESIDUES`."""
    match: dict[str, Tensor]
    """Number of the residue that the candidate stands for, one-to-one, -1 for none."""
    n_true: dict[str, int]
    """Residues that were to be found; those of higher numbers stand where nothing is judged."""
    logits: dict[str, Tensor]
    """(residue's cell, choice) for each of `CHOICES`, at the true residues."""
    truth: dict[str, Tensor]


def evidence_of(network: ResidueDetector, patches: SimulatedPatches, n_turns: int = 1) -> Iterator[Evidence]:
    """What the network, in evaluation mode, says of each patch."""
    device = next(network.parameters()).device
    for number in range(len(patches)):
        patch = patches.simulate(number)
        density, target = batch_of([example_of(patch)])
        with torch.inference_mode():
            channels = answers(network, density[:, 0].to(device), n_turns)[0]
        yield _evidence(split(channels), moved(target, device), patch.resolution_angstrom)


def joined(parts: Sequence[Evidence], kind: str) -> tuple[Tensor, Tensor]:
    """Of all parts: probability and match of one of `RESIDUES`, or logits and truth of one of `CHOICES`."""
    if kind in RESIDUES:
        return torch.cat([p.probability[kind] for p in parts]), torch.cat([p.match[kind] for p in parts])
    return torch.cat([p.logits[kind] for p in parts]), torch.cat([p.truth[kind] for p in parts])


def _evidence(told: CellPredictions, target: CellTargets, resolution: float) -> Evidence:
    centres = cell_centres(tuple(CELL_VOXELS * n for n in told.alpha.shape[:3]), device=told.alpha.device)
    judged = target.is_judged[0]
    probability, match, n_true = {}, {}, {}
    for kind, logit, offset, has, true_offset in (
        ("alpha", told.alpha, told.backbone[..., 3:6], target.has_alpha[0], target.backbone[0][..., 3:6]),
        ("sugar", told.sugar, told.nucleotide[..., :3], target.has_sugar[0], target.nucleotide[0][..., :3]),
    ):
        positions = (centres + offset)[judged]
        votes = merged(positions, logit.squeeze(-1).sigmoid()[judged], _MERGED_ANGSTROM[kind])
        asked = _unique((centres + true_offset)[has & judged])
        beyond = _unique((centres + true_offset)[has & ~judged])
        true = torch.cat([asked, beyond])
        probability[kind] = votes.best.cpu()
        match[kind] = matched_points(votes.mean(positions), true, _RADIUS_ANGSTROM[kind]).cpu()
        n_true[kind] = len(asked)
    logits, truth = {}, {}
    for kind in CHOICES:
        index = getattr(target, kind)[0]
        known = judged & (index >= 0)
        logits[kind], truth[kind] = getattr(told, kind)[known].cpu(), index[known].cpu()
    return Evidence(resolution, probability, match, n_true, logits, truth)


def _unique(points: Tensor) -> Tensor:
    """Points that several cells told, once each."""
    return torch.unique((points * 100).round(), dim=0) / 100
