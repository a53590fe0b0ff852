"""Rounds of a model side by side: how well each agrees with one half map inside of one mask around all of them."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from kernels.models.common_mask import MARGIN_ANGSTROM, common_mask_fsc, ends
from tasks.records.forecast import Need
from tasks.records.rounds import ComparedRound, RoundsComparison
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import density_box, half_sets_of, halves_of, has_map, map_mates, map_sizes
from tasks.stores.products.model_store import n_residues_of, read_model
from tasks.stores.products.rounds_store import rounds_address, write_rounds
from tasks.stores.products.validation_store import read_validation
from tasks.stores.session_store import SessionStore
from tasks.workers.stage import Stage, run_stage

_AND, _IN = ", ", " in "
"""Between the names of the models, and before that of the map, in an item."""
_FREE = "half_2"


class CompareRoundsParams(StageParams):
    """Parameters of `compare_rounds`."""

    models: tuple[str, ...] = Field(default=("refined",), min_length=1)
    """Names of the models in the store, round by round; each must have been validated."""
    map: str = "sharpened"
    """Name of the map that they are compared in, the newest where they were fitted to several."""


@task(name="compare_rounds", cache_policy=NO_CACHE)
def compare_rounds(session_url: str, params: CompareRoundsParams) -> StageReport:
    """``rounds/<last model>``: mean FSC of each model with the free half map, inside of one mask around all of them.

    The free half is the second one of the map. What is built anew is built in first halves alone, and the halves of all
    maps that come from one refinement (sharpened, flipped, joined with a part) are of the same two sets of particles:
    so the second half of the newest map is free of what was built in the first half of an earlier one, too. Refinement
    at the end of a round sees both halves, in each round alike. Shells count up to the coarsest of the resolutions that
    the models were validated at. Memory: see `_needs`.
    """
    item = f"{_AND.join(params.models)}{_IN}{params.map}"
    return run_stage(session_url, _comparison, [item], params)


def _names(item: str) -> list[str]:
    return item.split(_IN)[0].split(_AND)


def _address(item: str) -> str:
    return rounds_address(_names(item))


def _inputs(store: SessionStore, item: str) -> list[str]:
    density = item.split(_IN)[1]
    halves = halves_of(store, density)
    return [
        *(f"{group}/{name}" for name in _names(item) for group in ("models", "validations")),
        f"maps/{density}",
        *([f"maps/{halves}"] if halves not in (None, density) else []),
    ]


def _compare(store: SessionStore, _item: str, params: CompareRoundsParams, attempt: Attempt) -> None:
    maps = [_fitted_to(store, name, params) for name in params.models]
    # one model alone is compared with nothing
    halves = halves_of(store, params.map) if len(params.models) > 1 else None
    measured: list[float | None] = [None] * len(params.models)
    resolution = None
    if halves is not None:
        _require_same_half_sets(store, dict(zip(params.models, maps)), params.map)
        resolution = max(read_validation(store, name).resolution_angstrom for name in params.models)
        models, mates = [read_model(store, name) for name in params.models], map_mates(store, params.map)
        box = density_box(store, halves, _FREE, ends(models, mates), MARGIN_ANGSTROM)
        measured = [round(value, 4) for value in common_mask_fsc(box, models, mates, resolution)]
    rounds = [ComparedRound(name=n, map=m, fsc_free=value) for n, m, value in zip(params.models, maps, measured)]
    found = RoundsComparison(map=params.map, halves=halves, resolution_angstrom=resolution, rounds=tuple(rounds))
    write_rounds(attempt, found)


def _fitted_to(store: SessionStore, name: str, params: CompareRoundsParams) -> str:
    """Name of the map that a model was judged in."""
    record = store.product(f"validations/{name}").done_record(f"validation of {name!r}", "run validate_model")
    return str(record.params.get("map", params.map))


def _require_same_half_sets(store: SessionStore, maps: dict[str, str], density: str) -> None:
    expected = half_sets_of(store, density)
    for name, own in maps.items():
        if own != density and half_sets_of(store, own) != expected:
            raise ValueError(
                f"models/{name} was fitted to maps/{own}, whose halves are of other particles than those of"
                f" maps/{density}, so that neither half of one is free of the other; compare models of maps that come"
                " from one refinement, or fit them to one map"
            )


def _needs(store: SessionStore, _items: Sequence[str], params: CompareRoundsParams) -> Need | None:
    n_residues = [n_residues_of(store, name) for name in params.models]
    if None in n_residues or not has_map(store, params.map):
        return None
    sizes, largest = map_sizes(store, params.map), max(n or 0 for n in n_residues)
    n_around = sizes.n_voxels_around(largest * sizes.n_copies)
    return Need(
        stage=_comparison.name,
        n_items=1,
        memory_bytes=45_000_000 + 110 * n_around + 20_000 * sum(n or 0 for n in n_residues),
        disk_bytes=20_000,
        cpu_seconds=0.3 + (0.3 + 1e-6 * n_around) * len(params.models),
        told_from=f"{len(params.models)} models of up to {largest} residues in {sizes.words}",
        remedy="compare fewer rounds, or cut the map out around the molecule",
    )


_comparison = Stage("compare_rounds", 1, "CPU", _compare, _inputs, _address, _needs)
