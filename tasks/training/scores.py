"""How well a detection network does on patches that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence

from kernels.networks.residue_detector import ResidueDetector
from tasks.training.evidence import CHOICES, RESIDUES, Evidence, evidence_of, joined
from tasks.training.patches import SimulatedPatches

RESOLUTION_BINS = ((1.5, 2.5), (2.5, 3.0), (3.0, 3.5), (3.5, 4.0), (4.0, 5.0), (5.0, 7.0))
"""Of resolution, in Å."""
THRESHOLD = 0.4
"""Probability from which a candidate counts in these scores."""


def held_out_scores(
    network: ResidueDetector, patches: SimulatedPatches, n_turns: int = 1
) -> dict[str, dict[str, float]]:
    """Scores by resolution: of Cα one-to-one within 2 Å (C4' 3 Å), of types and structure at true residues' cells."""
    found = list(evidence_of(network, patches, n_turns))
    scores = {}
    for low, high in RESOLUTION_BINS:
        parts = [e for e in found if low <= e.resolution_angstrom < high]
        if parts:
            scores[f"{low:.1f}-{high:.1f}"] = _scores(parts)
    return scores


def _scores(parts: Sequence[Evidence]) -> dict[str, float]:
    scores = {}
    for kind in RESIDUES:
        n_true = sum(part.n_true[kind] for part in parts)
        if not n_true:
            continue
        n_counted = n_right = n_found = 0
        for part in parts:
            match = part.match[kind][part.probability[kind] > THRESHOLD]
            n_counted += len(match)
            n_right += int((match >= 0).sum())
            n_found += int(((match >= 0) & (match < part.n_true[kind])).sum())
        precision, recall = n_right / max(1, n_counted), n_found / n_true
        scores[f"{kind}_f1"] = 2 * precision * recall / max(1e-9, precision + recall)
        scores[f"{kind}_precision"], scores[f"{kind}_recall"] = precision, recall
        scores[f"{kind}_n"] = n_true
    for kind in CHOICES:
        logits, truth = joined(parts, kind)
        if len(truth):
            is_right = logits.topk(min(3, logits.shape[-1]), dim=-1).indices == truth[:, None]
            scores[f"{kind}_top1"] = float(is_right[:, 0].float().mean())
            if kind == "amino_acid":
                scores[f"{kind}_top3"] = float(is_right.any(-1).float().mean())
    return {name: round(value, 4) for name, value in scores.items()}
