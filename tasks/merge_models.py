"""A model built de novo and placed predictions to one model that says of each residue where it is from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from kernels.models.atomic_model import AtomicModel
from kernels.models.merging import SOURCES, MergedModel, bent_onto, beside, laid_on, merged, register
from tasks.docking.domains import LEAST_PLDDT
from tasks.formats.structure import chain_name
from tasks.records.forecast import Need
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import density_grid, known_resolution, map_mates
from tasks.stores.products.model_store import model_in_map, read_model, write_model
from tasks.stores.products.prediction_store import read_prediction
from tasks.stores.session_store import SessionStore
from tasks.validation.readings import judged, settled
from tasks.workers.stage import SkipItem, Stage, run_stage

_OF, _AND, _IN = " of ", " and ", " in "
"""Between the names of what is made, of the two models and of the map in an item."""
_PREDICTIONS = "predictions/"
_FEWEST_IN_COMMON = 6


class MergeModelsParams(StageParams):
    """Parameters of `merge_models`."""

    traced: str = "refined"
    """Name of the model that was built de novo."""
    placed: str = "docked"
    """Name of the model that holds the placed predictions, in the frame of the map; or ``predictions/<name>``, for a
    prediction that was not docked: what it is sure of is laid on the traced model, once, by residues in common."""
    map: str = "sharpened"
    """Name of the map that both lie in."""
    round: int | None = Field(default=None, ge=1)
    """Where this is a round of rebuilding: then the model is called ``rebuilt-<round>``, and refined as such."""
    resolution_angstrom: float | None = Field(default=None, gt=0)
    """Of the map; None for what its record says."""


@task(name="merge_models", cache_policy=NO_CACHE)
def merge_models(session_url: str, params: MergeModelsParams) -> StageReport:
    """``models/merged``, or the model of a round: each residue from the model that the map supports better there.

    The predictions are taken as they were placed, and once more bent onto the residues that were traced; both are
    refined in real space, and each residue of all three models is judged as in `validate_model`. B-factors are those
    of the models; ``residues`` in the record tells the source and the probability of each. Chains and numbers are the
    prediction's. Joints are closed by the refinement that follows. Memory: see `_needs`.
    """
    made = "merged" if params.round is None else f"rebuilt-{params.round}"
    item = f"{made}{_OF}{params.traced}{_AND}{params.placed}{_IN}{params.map}"
    return run_stage(session_url, _merging, [item], params)


def _inputs(_store: SessionStore, item: str) -> list[str]:
    models, density = item.split(_OF)[1].split(_IN)
    addresses = [name if name.startswith(_PREDICTIONS) else f"models/{name}" for name in models.split(_AND)]
    return [*addresses, f"maps/{density}"]


def _address(item: str) -> str:
    return f"models/{item.split(_OF)[0]}"


def _merge(store: SessionStore, item: str, params: MergeModelsParams, attempt: Attempt) -> None:
    grid, mates = density_grid(store, params.map), map_mates(store, params.map)
    resolution = known_resolution(store, params.map, params.resolution_angstrom, _merging.name)
    resolution = grid.resolution_shown(resolution)
    where = (grid, resolution, mates)
    is_placed = not params.placed.startswith(_PREDICTIONS)
    placed = read_model(store, params.placed) if is_placed else _sure_of(store, params.placed)
    traced = read_model(store, params.traced)
    # of predictions B-factors are no such thing, and refinement in real space leaves them as they are
    usual = traced.b_factor_angstrom2.median()
    placed = replace(placed, b_factor_angstrom2=usual.expand_as(placed.b_factor_angstrom2).clone())
    first = judged(beside(traced, placed, mates) if is_placed else traced, *where)
    found = register(first.model, placed, is_placed)
    if int((found.match >= 0).sum()) < _FEWEST_IN_COMMON:
        what = f"models/{params.placed}" if is_placed else params.placed
        raise SkipItem(
            f"no chain of models/{params.traced} stands for one of {what}: found no stretch of six residues of the same"
            " letters, or at the same place; expected models of the same molecule in the same map"
        )
    if not is_placed:
        placed = laid_on(placed, first, found.match)
        found = register(first.model, placed)
    done = merged(
        first,
        judged(settled(placed, *where), *where),
        judged(settled(bent_onto(placed, first, found.match), *where), *where),
        found,
        chain_name,
    )
    write_model(attempt, done.model, item.split(_OF)[0], mates)
    attempt.details["residues"] = _rows(done)
    counts = torch.bincount(done.source, minlength=len(SOURCES)).tolist()
    attempt.figures.update(
        {f"n_{name}": count for name, count in zip(SOURCES, counts)},
        n_replaced=done.n_replaced,
        n_left_out=done.n_left_out,
        mean_probability=round(float(done.probability.nanmean()), 3),
    )


def _sure_of(store: SessionStore, address: str) -> AtomicModel:
    """What an engine is sure of, in a frame of its own."""
    predicted = read_prediction(store, address.removeprefix(_PREDICTIONS)).structure
    is_sure = predicted.plddt >= LEAST_PLDDT
    if not bool(is_sure.any()):
        raise SkipItem(
            f"{address}: no residue has a pLDDT of {LEAST_PLDDT:g} or more, the best has"
            f" {float(predicted.plddt.max()):.0f}; expected some that the engine is sure of; take another prediction"
        )
    return predicted.model.take_residues(is_sure)


def _rows(done: MergedModel) -> list[dict[str, object]]:
    """Source and probability of each residue."""
    return [
        {
            "residue": str(residue),
            "source": SOURCES[source],
            "probability": None if probability != probability else round(probability, 4),
        }
        for residue, source, probability in zip(done.model.residues, done.source.tolist(), done.probability.tolist())
    ]


def _needs(store: SessionStore, _items: Sequence[str], params: MergeModelsParams) -> Need | None:
    name = params.traced if params.placed.startswith(_PREDICTIONS) else params.placed
    work = model_in_map(store, name, params.map)
    if work is None:
        return None
    n_residues, sizes = work.n_residues, work.sizes
    return work.need(
        _merging.name,
        memory_bytes=200_000_000 + 200 * sizes.n_voxels + 1_000_000 * n_residues,
        disk_bytes=20_000 + 500 * n_residues,
        cpu_seconds=5 + 0.1 * n_residues,
    )


_merging = Stage("merge_models", 1, "CPU", _merge, _inputs, _address, _needs)
