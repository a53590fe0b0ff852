"""What the probabilities of the detection network mean, told by clusters that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from kernels.networks.detection import calibrated
from kernels.networks.residue_detector import ResidueDetector
from kernels.scores import expected_calibration_error
from tasks.training.evidence import CHOICES, RESIDUES, evidence_of, joined
from tasks.training.patches import SimulatedPatches


def calibration_of(network: ResidueDetector, patches: SimulatedPatches) -> Tensor:
    """(5, 2) scales and offsets for `ResidueDetector.calibration`, the most likely ones on these patches."""
    found = list(evidence_of(network, patches))
    rows = []
    for kind in RESIDUES:
        probability, match = joined(found, kind)
        rows.append(fitted_pair(torch.logit(probability.double(), eps=1e-6), match >= 0))
    for kind in CHOICES:
        logits, truth = joined(found, kind)
        rows.append(_fitted_scale(logits.double(), truth))
    return torch.stack(rows).float()


def calibration_error(network: ResidueDetector, patches: SimulatedPatches) -> dict[str, float]:
    """Expected calibration error of the confidences, over bins of a tenth, weighted by the candidates in them."""
    found = list(evidence_of(network, patches))
    errors = {}
    for row, kind in enumerate((*RESIDUES, *CHOICES)):
        told, truth = joined(found, kind)
        if not len(truth):
            continue
        if kind in RESIDUES:
            errors[kind] = expected_calibration_error(calibrated(told, network.calibration[row].cpu()), truth >= 0)
        else:
            best = (network.calibration[row, 0].cpu() * told).softmax(-1).max(-1)
            errors[kind] = expected_calibration_error(best.values, best.indices == truth)
    return {kind: round(error, 4) for kind, error in errors.items()}


def fitted_pair(logit: Tensor, is_right: Tensor) -> Tensor:
    if not is_right.any() or is_right.all():
        return torch.tensor([1.0, 0.0], dtype=torch.float64)
    return most_likely(lambda p: functional.binary_cross_entropy_with_logits(p[0] * logit + p[1], is_right.double()))


def _fitted_scale(logits: Tensor, truth: Tensor) -> Tensor:
    if not len(truth):
        return torch.tensor([1.0, 0.0], dtype=torch.float64)
    return most_likely(lambda p: functional.cross_entropy(p[0] * logits, truth))


def most_likely(loss: Callable[[Tensor], Tensor]) -> Tensor:
    """(2,) float64 for which a loss is least, from 1 and 0 on."""
    parameters = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(parameters)
        value.backward()
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return parameters.detach()
