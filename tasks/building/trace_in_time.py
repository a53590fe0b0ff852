"""Tracing of more candidates than can be told apart: where it takes too long, the least sure ones are left out."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch

from kernels.models.detections import Detections
from kernels.models.tracing import Density
from tasks.building.chain_names import NoChainError
from tasks.building.trace_chains import SHORTEST_TRACE, Trace, trace_chains

logger = logging.getLogger(__name__)

_SHARE_KEPT = 0.7
"""Of the candidates, in each further try."""


@dataclass(frozen=True)
class Traced:
    """Stretches of chain, and which candidates they were looked for among."""

    traces: list[Trace]
    least_confidence: float | None
    """Of the candidates that were traced; None where all were."""


def trace_in_time(detections: Detections, density_at: Density | None = None) -> Traced:
    """Stretches of chain as `trace_chains` finds them, among fewer candidates where it does not end in time.

    Raises
    ------
    NoChainError
        Where not even the few surest candidates are traced in time.
    """
    kept = torch.arange(len(detections))
    least: float | None = None
    while True:
        try:
            traces = trace_chains(detections.take(kept), density_at)
        except TimeoutError as error:
            n_kept = int(_SHARE_KEPT * len(kept))
            if n_kept < SHORTEST_TRACE:
                raise NoChainError(
                    f"{error}; the {len(kept)} surest of {len(detections)} candidates were tried last: give this worker"
                    " a core of its own, or cut the map out around the molecule"
                ) from error
            surest = detections.confidence[kept].argsort(descending=True, stable=True)[:n_kept]
            kept = kept[surest.sort().values]
            least = float(detections.confidence[kept].min())
            logger.warning("%s; traced again with the %d of a confidence of at least %.3f", error, n_kept, least)
        else:
            return Traced([replace(t, candidate=_of_all(t.candidate, kept)) for t in traces], least)


def _of_all(candidate: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """(residue,) rows among all candidates of rows among those that were kept; -1 stays."""
    return torch.where(candidate >= 0, kept[candidate.clamp(min=0)], candidate)
