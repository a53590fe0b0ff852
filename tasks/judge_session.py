"""A model, its map, a prediction and the particles, or a map alone, to one decision: what is to be done next."""

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
from tasks.records.verdict import ActionTaken, SessionVerdict, WeakPart
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import density_grid, density_map, map_mates, read_map
from tasks.stores.products.model_store import model_in_map, read_model
from tasks.stores.products.prediction_store import read_prediction
from tasks.stores.products.validation_store import read_validation
from tasks.stores.products.verdict_store import verdict_address, write_verdict
from tasks.stores.session_store import SessionStore
from tasks.verdict.comparing import compared
from tasks.verdict.decision import TRACEABLE_ANGSTROM, decided, decided_on_map, to_rebuild
from tasks.verdict.disagreements import disagreements, sides_of_model
from tasks.verdict.missing_data import goal_of_forecast, missing_data
from tasks.verdict.unbuilt import unbuilt_density
from tasks.verdict.weak_parts import weak_parts
from tasks.workers.stage import SkipItem, Stage, run_stage

_IN, _BESIDE = " in ", " beside "
"""Between the names of model, map and prediction in an item."""
_ALSO = ("particles/refined", "maps/refined", "session/resolution_forecast")


class JudgeSessionParams(StageParams):
    """Parameters of `judge_session`."""

    model: str | None = "chosen"
    """Name of the model in the store; it must have been validated. None for a session that has no model yet."""
    map: Literal["sharpened", "imported", "flipped", "joined"] = "sharpened"
    """Name of the map that it lies in."""
    prediction: str | None = None
    """Name of a prediction in the store that the model is compared with."""
    goal_angstrom: float | None = Field(default=None, gt=0)
    """Resolution without which the map is not good enough; that of the session's forecast when None."""
    action: ActionTaken | None = None
    """What was done about an earlier verdict before this one."""


@task(name="judge_session", cache_policy=NO_CACHE)
def judge_session(session_url: str, params: JudgeSessionParams) -> StageReport:
    """``verdicts/<model>``, or ``session/verdict`` of a map alone: what is to be done next, and why.

    Beside the record it holds a soft mask for each part of the map that is worse than the rest, for a local refinement.
    Memory: see `_needs`.
    """
    beside = "" if params.prediction is None else f"{_BESIDE}{params.prediction}"
    item = params.map if params.model is None else f"{params.model}{_IN}{params.map}{beside}"
    return run_stage(session_url, _verdict, [item], params)


def _address(item: str) -> str:
    model, separator, _ = item.partition(_IN)
    return verdict_address(model if separator else None)


def _inputs(store: SessionStore, item: str) -> list[str]:
    model, separator, rest = item.rpartition(_IN)
    density, _, prediction = rest.partition(_BESIDE)
    also = [address for address in _ALSO if store.product(address).record() is not None]
    if prediction:
        also.append(f"predictions/{prediction}")
    if separator:
        also += [f"models/{model}", f"validations/{model}"]
    return [f"maps/{density}", *also]


def _judge(store: SessionStore, _item: str, params: JudgeSessionParams, attempt: Attempt) -> None:
    goal = params.goal_angstrom or goal_of_forecast(store)
    verdict = _of_map(store, params, goal) if params.model is None else _of_model(store, params, goal, attempt)
    write_verdict(attempt, verdict)


def _of_map(store: SessionStore, params: JudgeSessionParams, goal_angstrom: float | None) -> SessionVerdict:
    missing = missing_data(store, goal_angstrom or TRACEABLE_ANGSTROM)
    resolution = density_map(store, params.map).resolution_angstrom
    decision, reason = decided_on_map(resolution, missing, goal_angstrom)
    return SessionVerdict(
        model=None,
        map=params.map,
        prediction=None,
        decision=decision,
        reason=reason,
        resolution_angstrom=resolution,
        goal_angstrom=goal_angstrom,
        rebuild=(),
        weak_parts=(),
        disagreements=(),
        missing=missing,
    )


def _of_model(
    store: SessionStore, params: JudgeSessionParams, goal_angstrom: float | None, attempt: Attempt
) -> SessionVerdict:
    assert params.model is not None
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
        told = disagreements(prediction.model, model, beside)
        attempt.write("side", sides_of_model(beside).numpy().astype(np.int8))
    local = torch.tensor([row.local_resolution_angstrom for row in found.residues])
    parts = []
    is_doubted = torch.tensor([row.is_doubted for row in found.residues])
    unbuilt = None
    if "local_resolution" in read_map(store, params.map):
        unbuilt = unbuilt_density(model, grid, density_grid(store, params.map, "local_resolution"), mates)
    for number, part in enumerate(weak_parts(model, local, grid, mates, unbuilt), start=1):
        name = f"mask_{number}"
        attempt.write(name, part.mask.numpy().astype(np.float32))
        parts.append(
            WeakPart(
                mask=name,
                residues=part.ranges,
                n_residues=int(part.is_part.sum()),
                n_unbuilt=part.n_unbuilt,
                n_doubted=int((part.is_around & is_doubted).sum()),
                resolution_angstrom=round(part.resolution_angstrom, 2),
                rest_angstrom=round(part.rest_angstrom, 2),
            )
        )
    missing = missing_data(store, goal_angstrom)
    decision, reason = decided(found, told, parts, missing, goal_angstrom)
    return SessionVerdict(
        model=params.model,
        map=params.map,
        prediction=params.prediction,
        decision=decision,
        reason=reason,
        resolution_angstrom=found.resolution_angstrom,
        goal_angstrom=goal_angstrom,
        rebuild=tuple(to_rebuild(found, told)),
        weak_parts=tuple(parts),
        disagreements=tuple(told),
        missing=missing,
        action=params.action,
    )


def _needs(store: SessionStore, _items: Sequence[str], params: JudgeSessionParams) -> Need | None:
    work = None if params.model is None else model_in_map(store, params.model, params.map)
    if work is None:  # a map alone is not read
        return None
    n_residues, sizes = work.n_residues, work.sizes
    is_compared = params.prediction is not None
    return work.need(
        _verdict.name,
        memory_bytes=200_000_000 + 200 * sizes.n_voxels + is_compared * (1_000_000 * n_residues + 200 * n_residues**2),
        disk_bytes=50_000 + 4 * sizes.n_voxels,
        cpu_seconds=2 + is_compared * 0.1 * n_residues,
    )


_verdict = Stage("judge_session", 4, "CPU", _judge, _inputs, _address, _needs)
