"""What the validation of a model does not trust, built anew in its map; every round is a model of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Literal

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from kernels.maps.grid import DensityGrid
from kernels.models.polymers import PROTEIN
from kernels.models.residue_ranges import rows_of_ranges
from tasks.building.detector import cost_of_looking, digest_of_weights
from tasks.building.known_residues import N_TURNS, residues_around
from tasks.building.sequences import sequences_of, targets
from tasks.rebuilding.maps import first_half_like
from tasks.rebuilding.rebuild import rebuilt
from tasks.rebuilding.windows import doubtful_residues
from tasks.records.forecast import Need
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import density_grid, map_mates, masked_grid, with_halves
from tasks.stores.products.model_store import model_in_map, read_model, write_model
from tasks.stores.products.validation_store import read_validation
from tasks.stores.session_store import SessionStore
from tasks.workers.stage import SkipItem, Stage, run_stage


class RebuildModelParams(StageParams):
    """Parameters of `rebuild_model`."""

    model: str = "refined"
    """Name of the model in the store; it must have been validated."""
    round: int = Field(default=1, ge=1)
    """Which round this is; its model is called ``rebuilt-<round>``."""
    map: Literal["sharpened", "imported", "flipped", "joined"] = "sharpened"
    """Map that it lies in, ``maps/<name>``."""
    half_maps: Literal["refined", "imported"] | None = "refined"
    """Map whose first half is built in, so that the second one can compare rounds; those of `map` when it has its own,
    and the map itself where neither has."""
    sequences: tuple[str, ...] = ()
    """One-letter codes of the proteins; without any, what the model itself says between its numbers."""
    residues: tuple[str, ...] | None = None
    """Stretches of the model, as ``A/12-87``, out of which nothing is built anew; None for wherever it is not trusted.
    """
    is_network_asked: bool = True
    """Whether the detection network tells amino acids and where chains run; density alone without it."""
    weights: str | None = None
    """Of the network; None for those that come with the project."""


class _AskedParams(RebuildModelParams):
    """With what the weights of the network are, where it is asked."""

    digest: str | None


@task(name="rebuild_model", cache_policy=NO_CACHE)
def rebuild_model(session_url: str, params: RebuildModelParams) -> StageReport:
    """``models/rebuilt-<round>`` from a model and its validation; skipped where nothing is to be done.

    Memory: see `_needs`.
    """
    digest = digest_of_weights(params.weights) if params.is_network_asked else None
    asked = _AskedParams(digest=digest, **params.model_dump())
    return run_stage(session_url, _rebuilding, [f"rebuilt-{params.round}{_OF}{params.model}{_IN}{params.map}"], asked)


_HALF = " half_1"
"""After the name of a map, in that of what the network tells of its first half."""
_OF, _IN = " of ", " in "
"""Between the names of what is made, of the model and of the map in an item."""


def _address(item: str) -> str:
    return f"models/{item.split(_OF)[0]}"


def _inputs(store: SessionStore, item: str) -> list[str]:
    model, density = item.split(_OF)[1].split(_IN)
    halves = [f"maps/{name}" for name in ("refined", "imported") if name != density]
    return [
        f"models/{model}",
        f"validations/{model}",
        f"maps/{density}",
        *(address for address in halves if store.product(address).record() is not None),
    ]


def _rebuild(store: SessionStore, item: str, params: RebuildModelParams, attempt: Attempt) -> None:
    model, found = read_model(store, params.model), read_validation(store, params.model)
    doubtful = doubtful_residues(model, found)
    where = ""
    if params.residues is not None:
        is_named = torch.zeros(model.n_residues, dtype=torch.bool)
        for rows in rows_of_ranges(model, params.residues):
            is_named[rows.start : rows.stop] = True
        doubtful &= is_named
        where = f" of {', '.join(params.residues)}"
    if not doubtful.any():
        raise SkipItem(f"models/{params.model}: every residue{where} is trusted, nothing is to be built anew")
    if not (doubtful & (model.amino_acid >= 0)).any():
        raise SkipItem(
            f"models/{params.model}: {int(doubtful.sum())} nucleotides are not trusted, and only amino acids are built"
            " anew; look at the regions that the validation names"
        )
    grid, half = _built_in(store, params)
    resolution = grid.resolution_shown(found.resolution_angstrom)
    mates = map_mates(store, params.map)
    told = None
    if params.is_network_asked:
        maps = [f"maps/{name}" for name in dict.fromkeys((params.map, half)) if name]
        # the map itself was shown to it when the model was built
        shown = (f"{params.map}{_HALF}", maps, grid) if half else (params.map, maps, masked_grid(store, params.map))
        told = residues_around(store, *shown, mates, model.coordinates_angstrom, params.weights)
    proteins, _ = sequences_of(PROTEIN, params.sequences, None)
    n_shown = max([model.n_residues, *map(len, proteins)])  # a model may hold a small part of its sequence
    sequences = [target.types for target in targets(proteins, None, n_shown)]
    done = rebuilt(model, doubtful, grid, resolution, sequences, told, mates)
    n_changed = sum(outcome.is_changed for outcome in done.outcomes)
    if not n_changed:
        raise SkipItem(
            f"models/{params.model}: {len(done.outcomes)} regions are doubtful, and map and chemistry like nothing"
            " better than what stands there"
        )
    name = item.split(_OF)[0]
    write_model(attempt, done.model, name, mates)
    attempt.details["windows"] = [asdict(outcome) for outcome in done.outcomes]
    attempt.figures.update(
        n_doubtful=int(doubtful.sum()),
        n_windows=len(done.outcomes),
        n_changed=n_changed,
        n_register_shifts=sum(outcome.shift is not None for outcome in done.outcomes),
        n_left_out=done.n_left_out,
        is_half_map_left=half is not None,
    )


def _built_in(store: SessionStore, params: RebuildModelParams) -> tuple[DensityGrid, str | None]:
    """The first half map, filtered as the map is, and the map that it is of; or the map, where there are no halves."""
    name = with_halves(store, params.map, params.half_maps)
    half = first_half_like(store, params.map, name)
    return (density_grid(store, params.map), None) if half is None else (half, name)


def _needs(store: SessionStore, _items: Sequence[str], params: RebuildModelParams) -> Need | None:
    work = model_in_map(store, params.model, params.map)
    if work is None:
        return None
    n_residues, sizes = work.n_residues, work.sizes
    asked = cost_of_looking(sizes.sides_angstrom, N_TURNS, sizes.n_copies) if params.is_network_asked else (0, 0.0)
    return work.need(
        _rebuilding.name,
        memory_bytes=150_000_000 + asked[0] + 150 * sizes.n_voxels,
        disk_bytes=20_000 + 400 * n_residues,
        cpu_seconds=4 + 0.03 * n_residues + asked[1],
    )


_rebuilding = Stage("rebuild_model", 2, "GPU", _rebuild, _inputs, _address, _needs)
