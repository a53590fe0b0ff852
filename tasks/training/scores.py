"""How well a detection network does on patches that it was not trained on."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from kernels.networks.detection import merged
from kernels.networks.detection_targets import CellTargets
from kernels.networks.residue_detector import ResidueDetector, cell_centres, split
from kernels.scores import matched_points
from tasks.training.patches import SimulatedPatches, batch_of, moved

_RADIUS_ANGSTROM = 2.0
_BINS = ((1.5, 2.5), (2.5, 3.0), (3.0, 3.5), (3.5, 4.0), (4.0, 5.0), (5.0, 7.0))
"""Of resolution, in Å."""
THRESHOLD = 0.4
"""Probability from which a candidate counts in these scores."""


@torch.inference_mode()
def held_out_scores(network: ResidueDetector, patches: SimulatedPatches) -> dict[str, dict[str, float]]:
    """Scores by resolution: of Cα one-to-one within 2 Å, of types at true residues, of secondary structure.

    Only residues that the mask of a patch left in, and places that are judged, count.
    """
    device = next(network.parameters()).device
    counts: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for number in range(len(patches)):
        patch = patches.simulate(number)
        density, target = batch_of([patches[number]])
        with torch.autocast(device.type, torch.bfloat16):
            channels = network(density.to(device).contiguous(memory_format=torch.channels_last_3d))
        channels = channels.permute(0, 2, 3, 4, 1)[0].float()
        low, high = next(b for b in _BINS if b[0] <= patch.resolution_angstrom < b[1])
        _count(counts[f"{low:.1f}-{high:.1f}"], channels, moved(target, device))
    return {name: _summary(counts[name]) for name in sorted(counts)}


def _count(counts: dict[str, float], channels: Tensor, target: CellTargets) -> None:
    told = split(channels)
    centres = cell_centres(tuple(2 * n for n in channels.shape[:3]), device=channels.device)
    judged, has_alpha = target.is_judged[0], (target.has_alpha & target.is_judged)[0]
    for kind, has, logit, offset, true_offset, radius in (
        ("alpha", has_alpha, told.alpha, told.backbone[..., 3:6], target.backbone[0][..., 3:6], 1.9),
        ("sugar", (target.has_sugar & target.is_judged)[0], told.sugar, told.nucleotide[..., :3],
         target.nucleotide[0][..., :3], 2.5),
    ):  # fmt: skip
        probability = logit.squeeze(-1).sigmoid()
        chosen = judged & (probability > THRESHOLD)
        votes = merged((centres + offset)[chosen], probability[chosen], radius)
        found = votes.mean((centres + offset)[chosen])
        true = _unique((centres + true_offset)[has])
        everywhere = _unique((centres + true_offset)[target.has_alpha[0] if kind == "alpha" else target.has_sugar[0]])
        matched = int((matched_points(found, true, _RADIUS_ANGSTROM) >= 0).sum())
        counts[f"{kind} true"] += len(true)
        counts[f"{kind} matched"] += matched
        counts[f"{kind} found"] += matched + int((matched_points(found, everywhere, _RADIUS_ANGSTROM) < 0).sum())
    for kind, logits, truth in (
        ("type", told.amino_acid, target.amino_acid[0]),
        ("structure", told.secondary_structure, target.secondary_structure[0]),
        ("base", told.base, target.base[0]),
    ):
        known = judged & (truth >= 0)
        top = logits[known].topk(min(3, logits.shape[-1]), dim=-1).indices == truth[known][:, None]
        counts[f"{kind} n"] += len(top)
        counts[f"{kind} first"] += float(top[:, 0].sum())
        counts[f"{kind} among three"] += float(top.any(-1).sum())


def _unique(points: Tensor) -> Tensor:
    """Points that several cells told, once each."""
    return torch.unique((points * 100).round(), dim=0) / 100


def _summary(counts: dict[str, float]) -> dict[str, float]:
    scores = {}
    for kind in ("alpha", "sugar"):
        if counts[f"{kind} true"]:
            precision = counts[f"{kind} matched"] / max(1, counts[f"{kind} found"])
            recall = counts[f"{kind} matched"] / counts[f"{kind} true"]
            scores[f"{kind}_f1"] = 2 * precision * recall / max(1e-9, precision + recall)
            scores[f"{kind}_precision"], scores[f"{kind}_recall"] = precision, recall
            scores[f"{kind}_n"] = counts[f"{kind} true"]
    for kind in ("type", "structure", "base"):
        if counts[f"{kind} n"]:
            scores[f"{kind}_top1"] = counts[f"{kind} first"] / counts[f"{kind} n"]
            if kind == "type":
                scores["type_top3"] = counts["type among three"] / counts["type n"]
    return {name: round(value, 4) for name, value in scores.items()}
