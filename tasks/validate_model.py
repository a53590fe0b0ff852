"""A model judged in its map: every residue with its density, geometry and probability of being right."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from tasks.building.detector import cost_of_looking, digest_of_weights
from tasks.building.known_residues import N_TURNS, is_known, question, residues_around
from tasks.records.forecast import Need
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import density_grid, density_map, half_grids, halves_of, map_mates, masked_grid
from tasks.stores.products.model_store import model_in_map, read_model
from tasks.stores.products.validation_store import write_validation
from tasks.stores.session_store import SessionStore
from tasks.validation.judgement import Maps, judge, judgement_memory_bytes
from tasks.workers.stage import SkipItem, Stage, run_stage


class ValidateModelParams(StageParams):
    """Parameters of `validate_model`."""

    model: str = "refined"
    """Name of the model in the store."""
    map: str = "imported"
    """Name of the map that it lies in."""
    resolution_angstrom: float | None = Field(default=None, gt=0)
    """Of the map; None for what its half maps say, or else its record."""
    is_network_asked: bool = False
    """Whether the detection network judges the amino acids as well."""
    weights: str | None = None
    """Of the network; None for those that come with the project."""


class _AskedParams(ValidateModelParams):
    """With what the weights of the network are, where it is asked."""

    digest: str | None


@task(name="validate_model", cache_policy=NO_CACHE)
def validate_model(session_url: str, params: ValidateModelParams) -> StageReport:
    """``validations/<model>`` from a model and its map. Memory: see `_needs`."""
    digest = digest_of_weights(params.weights) if params.is_network_asked else None
    asked = _AskedParams(digest=digest, **params.model_dump())
    return run_stage(session_url, _validation, [f"{params.model}{_IN}{params.map}"], asked)


_IN = " in "
"""Between the names of model and map in an item."""


def _inputs(store: SessionStore, item: str) -> list[str]:
    model, density = item.split(_IN)
    halves = halves_of(store, density)
    return [f"models/{model}", f"maps/{density}", *([f"maps/{halves}"] if halves not in (None, density) else [])]


def _address(item: str) -> str:
    return f"validations/{item.split(_IN)[0]}"


def _validate(store: SessionStore, item: str, params: ValidateModelParams, attempt: Attempt) -> None:
    halves, resolution = half_grids(store, halves_of(store, params.map)), params.resolution_angstrom
    if resolution is None and halves is None:
        resolution = density_map(store, params.map).resolution_angstrom
    grid, model = density_grid(store, params.map), read_model(store, params.model)
    mates = map_mates(store, params.map)
    is_symmetric = len(mates) > 1
    try:
        detections = None
        if params.is_network_asked:
            where, place = [f"maps/{params.map}"], model.coordinates_angstrom
            shown = masked_grid(store, params.map)
            detections = residues_around(store, params.map, where, shown, mates, place, params.weights)
        found = judge(model, Maps(grid, *(halves or ())), resolution, detections, mates if is_symmetric else None)
    except ValueError as error:
        raise SkipItem(f"model {item}: {error}") from error
    write_validation(attempt, found)


def _needs(store: SessionStore, _items: Sequence[str], params: ValidateModelParams) -> Need | None:
    work = model_in_map(store, params.model, params.map)
    if work is None:
        return None
    n_residues, sizes = work.n_residues, work.sizes
    maps = [f"maps/{params.map}"]
    is_looked_at = params.is_network_asked and not is_known(store, params.map, maps, question(params.weights))
    asked = cost_of_looking(sizes.sides_angstrom, N_TURNS, sizes.n_copies) if is_looked_at else (0, 0.0)
    n_shown = sizes.n_voxels_around(n_residues * sizes.n_copies)
    own = judgement_memory_bytes(sizes.n_voxels, n_shown, halves_of(store, params.map) is not None)
    return work.need(
        _validation.name,
        memory_bytes=own + asked[0],
        disk_bytes=10_000 + 100 * n_residues,
        cpu_seconds=2 + 1e-6 * sizes.n_voxels + asked[1],
    )


_validation = Stage("validate_model", 5, "CPU", _validate, _inputs, _address, _needs)
