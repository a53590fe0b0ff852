"""A model, its map, a prediction and the particles to one decision: what is to be done next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from tasks.records.forecast import Need
from tasks.records.session import StageParams, StageReport
from tasks.records.verdict import SessionVerdict, WeakPart
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import density_grid, map_mates
from tasks.stores.products.model_store import model_in_map, read_model
from tasks.stores.products.prediction_store import read_prediction
from tasks.stores.products.validation_store import read_validation
from tasks.stores.products.verdict_store import write_verdict
from tasks.stores.session_store import SessionStore
from tasks.verdict.comparing import compared
from tasks.verdict.decision import decided, to_rebuild
from tasks.verdict.disagreements import disagreements
from tasks.verdict.missing_data import missing_data
from tasks.verdict.weak_parts import weak_parts
from tasks.workers.stage import SkipItem, Stage, run_stage

_IN, _BESIDE = " in ", " beside "
"""Between the names of model, map and prediction in an item."""
_ALSO = ("particles/refined", "maps/refined", "session/resolution_forecast")


class JudgeSessionParams(StageParams):
    """Parameters of `judge_session`."""

    model: str = "chosen"
    """Name of the model in the store; it must have been validated."""
    map: Literal["sharpened", "imported", "flipped"] = "sharpened"
    """Name of the map that it lies in."""
    prediction: str | None = None
    """Name of a prediction in the store that the model is compared with."""
    goal_angstrom: float | None = Field(default=None, gt=0)
    """Resolution without which the map is not good enough."""


@task(name="judge_session", cache_policy=NO_CACHE)
def judge_session(session_url: str, params: JudgeSessionParams) -> StageReport:
    """``verdicts/<model>``: what is to be done next, and why.

    Beside the record it holds a soft mask for each part of the map that is worse than the rest, for a local refinement.
    Memory: see `_needs`.
    """
    beside = "" if params.prediction is None else f"{_BESIDE}{params.prediction}"
    return run_stage(session_url, _verdict, [f"{params.model}{_IN}{params.map}{beside}"], params)


def _address(item: str) -> str:
    return f"verdicts/{item.split(_IN)[0]}"


def _inputs(store: SessionStore, item: str) -> list[str]:
    model, rest = item.split(_IN)
    density, _, prediction = rest.partition(_BESIDE)
    also = [address for address in _ALSO if store.product(address).record() is not None]
    if prediction:
        also.append(f"predictions/{prediction}")
    return [f"models/{model}", f"validations/{model}", f"maps/{density}", *also]


def _judge(store: SessionStore, _item: str, params: JudgeSessionParams, attempt: Attempt) -> None:
    model, found = read_model(store, params.model), read_validation(store, params.model)
    grid, mates = density_grid(store, params.map), map_mates(store, params.map)
    told = []
    if params.prediction is not None:
        prediction = read_prediction(store, params.prediction).structure
        resolution = grid.resolution_shown(found.resolution_angstrom)
        try:
            beside = compared(prediction, model, grid, resolution, mates)
        except ValueError as error:
            raise SkipItem(f"predictions/{params.prediction}: {error}") from error
        told = disagreements(prediction.model, beside.compared)
    local = torch.tensor([row.local_resolution_angstrom for row in found.residues])
    parts = []
    for number, part in enumerate(weak_parts(model, local, grid), start=1):
        name = f"mask_{number}"
        attempt.write(name, part.mask.numpy().astype(np.float32))
        parts.append(
            WeakPart(
                mask=name,
                residues=part.ranges,
                n_residues=int(part.is_part.sum()),
                resolution_angstrom=round(part.resolution_angstrom, 2),
                rest_angstrom=round(part.rest_angstrom, 2),
            )
        )
    missing = missing_data(store)
    decision, reason = decided(found, told, parts, missing, params.goal_angstrom)
    verdict = SessionVerdict(
        model=params.model,
        map=params.map,
        prediction=params.prediction,
        decision=decision,
        reason=reason,
        rebuild=tuple(to_rebuild(found, told)),
        weak_parts=tuple(parts),
        disagreements=tuple(told),
        missing=missing,
    )
    write_verdict(attempt, verdict)


def _needs(store: SessionStore, _items: Sequence[str], params: JudgeSessionParams) -> Need | None:
    work = model_in_map(store, params.model, params.map)
    if work is None:
        return None
    n_residues, sizes = work.n_residues, work.sizes
    is_compared = params.prediction is not None
    return work.need(
        _verdict.name,
        memory_bytes=200_000_000 + 200 * sizes.n_voxels + is_compared * (1_000_000 * n_residues + 200 * n_residues**2),
        disk_bytes=50_000 + 4 * sizes.n_voxels,
        cpu_seconds=2 + is_compared * 0.1 * n_residues,
    )


_verdict = Stage("judge_session", 1, "CPU", _judge, _inputs, _address, _needs)
