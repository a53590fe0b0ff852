"""Tell whether a map is of the right hand, before a model is built into it."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from kernels.models.helix_hand import helix_hand
from kernels.networks.detection import detect
from tasks.building.detector import detector
from tasks.records.forecast import Need
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import density_grid
from tasks.stores.session_store import SessionStore
from tasks.workers.stage import Stage, run_stage

_SIDE_ANGSTROM = 80.0
_LEAST_CONFIDENCE = 0.2


class CheckHandParams(StageParams):
    """Parameters of `check_hand`."""

    map: str = "sharpened"
    """Name of the map in the store."""
    weights: str | None = None
    """Weights of a network that was trained elsewhere; None for those that come with the project."""


@task(name="check_hand", cache_policy=NO_CACHE)
def check_hand(session_url: str, params: CheckHandParams) -> StageReport:
    """``session/hand of <map>``: how the helices wind in the fullest 80 Å of the map. Memory: see `_needs`."""
    return run_stage(session_url, _checking, [params.map], params)


def is_wrong_hand(store: SessionStore, name: str) -> tuple[bool, str]:
    """Whether `check_hand` found the map ``maps/<name>`` to be a mirror image, and what it saw."""
    record = store.product(_address(name)).done_record(f"hand of map {name!r}")
    return bool(record.details["is_wrong"]), str(record.details["evidence"])


def _address(item: str) -> str:
    return f"session/hand of {item}"


def _inputs(_store: SessionStore, item: str) -> list[str]:
    return [f"maps/{item}"]


def _check(store: SessionStore, item: str, params: CheckHandParams, attempt: Attempt) -> None:
    grid = density_grid(store, item).fullest_cube(_SIDE_ANGSTROM)
    found = detect(detector(params.weights), grid, n_turns=1).protein.surest(_LEAST_CONFIDENCE)
    hand = helix_hand(found.alpha_angstrom, found.confidence)
    attempt.details.update(is_wrong=hand.is_wrong, evidence=str(hand))
    attempt.figures.update(
        hand="wrong" if hand.is_wrong else "right" if hand.is_told else "not told",
        helical_places=round(hand.n_right + hand.n_left, 1),
        left_handed_percent=round(100 * hand.share_left, 1),
    )


def _needs(_store: SessionStore, _items: Sequence[str], _params: CheckHandParams) -> Need:
    return Need(
        stage=_checking.name,
        n_items=1,
        memory_bytes=1_000_000_000,
        disk_bytes=0,
        cpu_seconds=5,
        told_from=f"a cube of {_SIDE_ANGSTROM:.0f} Å",
        remedy="free memory on the workers",
    )


_checking = Stage("check_hand", 1, "GPU", _check, _inputs, _address, _needs)
