"""Bend docked chains into their map, each where a map that was not looked at agrees better afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field
from torch import Tensor

from kernels.models.atomic_model import AtomicModel, Residue, joined
from kernels.models.mates import Mates, copies
from kernels.models.predicted_structure import PredictedStructure
from tasks.docking.flexing import FEWEST_RESIDUES, FlexedModel, flexed
from tasks.records.forecast import Need
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.docking_store import read_docking
from tasks.stores.products.map_store import half_grids, known_resolution, map_mates, masked_grid
from tasks.stores.products.model_store import model_in_map, read_model, write_model
from tasks.stores.products.prediction_store import read_prediction
from tasks.stores.session_store import SessionStore
from tasks.workers.stage import Stage, run_stage

_OF, _IN = " of ", " in "
"""Between what is made, the names of the model and of the map in an item."""


class FlexModelParams(StageParams):
    """Parameters of `flex_model`."""

    name: str = Field(default="flexed", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Of the model that is made."""
    model: str = "docked"
    """Name of the model in the store, rigidly placed in its map."""
    map: str = "sharpened"
    """Name of the map that it lies in."""
    half_maps: str | None = "refined"
    """Map whose halves bend and decide; those of `map` when it has its own, and the finest shells of the map where
    neither has."""
    resolution_angstrom: float | None = Field(default=None, gt=0)
    """Of the map; None for what its record says."""


@task(name="flex_model", cache_policy=NO_CACHE)
def flex_model(session_url: str, params: FlexModelParams) -> StageReport:
    """``models/<name>``: chains of a docked model, each bent along its soft motions and then residue by residue.

    A chain stays as it was where nothing is gained in the half map, or the shells, that were held back; ``chains`` in
    the record says of each what was found. What an engine says of errors (PAE) tells where a chain is soft. Memory: see
    `_needs`.
    """
    return run_stage(session_url, _flexing, [f"{params.name}{_OF}{params.model}{_IN}{params.map}"], params)


def _address(item: str) -> str:
    return f"models/{item.partition(_OF)[0]}"


def _inputs(store: SessionStore, item: str) -> list[str]:
    model, density = item.split(_OF)[1].split(_IN)
    halves = [f"maps/{name}" for name in ("refined", "imported") if name != density]
    there = [address for address in halves if store.product(address).record() is not None]
    return [f"models/{model}", f"maps/{density}", *there]


def _flex(store: SessionStore, _item: str, params: FlexModelParams, attempt: Attempt) -> None:
    resolution = known_resolution(store, params.map, params.resolution_angstrom, _flexing.name)
    grid, mates = masked_grid(store, params.map), map_mates(store, params.map)
    resolution = grid.resolution_shown(resolution)
    halves = half_grids(store, params.map, params.half_maps)
    if halves is not None and halves[0].voxels.shape != grid.voxels.shape:
        halves = None
    model = read_model(store, params.model)
    errors = _predicted_errors(store, params.model, model)
    told, parts = [], []
    for chain in dict.fromkeys(residue.chain for residue in model.residues):
        own = torch.tensor([residue.chain == chain for residue in model.residues])
        part = model.take_residues(own)
        if part.n_residues < FEWEST_RESIDUES:
            parts.append(part)
            told.append({"chain": chain, "is_kept": False, "reason": f"{part.n_residues} residues are too few to bend"})
            continue
        others = _others(model, own, mates)
        found = flexed(part, grid, resolution, errors.get(chain), halves, others)
        parts.append(found.model)
        told.append({"chain": chain, **_figures(found)})
    write_model(attempt, joined(parts), params.name, mates)
    attempt.details["chains"] = told
    attempt.figures.update(n_chains=len(told), n_bent=sum(bool(row["is_kept"]) for row in told))


def _others(model: AtomicModel, own: Tensor, mates: Mates) -> AtomicModel | None:
    """All that stands in the map beside one chain: other chains, and the copies of everything."""
    beside = [model.take_residues(~own)] if bool((~own).any()) else []
    beside += copies(model, mates)[1:]
    return joined(beside) if beside else None


def _figures(found: FlexedModel) -> dict[str, object]:
    told = {name: value for name, value in vars(found).items() if name != "model"}
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in told.items()}


def _predicted_errors(store: SessionStore, name: str, model: AtomicModel) -> dict[str, Tensor]:
    """Chain -> PAE of its residues, where it comes from a prediction in the store that tells one."""
    if "docking" not in store.product(f"models/{name}").read():
        return {}
    predictions = set(store.names("predictions"))
    found: dict[str, Tensor] = {}
    for placed in read_docking(store, name).placed:
        if placed.source in predictions:
            predicted = read_prediction(store, placed.source).structure
            errors = {chain: _error_of(model, chain, predicted) for chain in placed.chains}
            found |= {chain: error for chain, error in errors.items() if error is not None}
    return found


def _error_of(model: AtomicModel, chain: str, predicted: PredictedStructure) -> Tensor | None:
    """PAE among the residues of a chain, which bear the names and numbers of one of the prediction's."""
    if predicted.pae_angstrom is None:
        return None
    wanted = [_key(residue) for residue in model.residues if residue.chain == chain]
    for source in dict.fromkeys(residue.chain for residue in predicted.model.residues):
        index = {_key(r): i for i, r in enumerate(predicted.model.residues) if r.chain == source}
        if all(key in index for key in wanted):
            rows = torch.tensor([index[key] for key in wanted])
            return predicted.pae_angstrom[rows][:, rows]
    return None


def _key(residue: Residue) -> tuple[int, str, str]:
    return residue.number, residue.insertion_code, residue.name


def _needs(store: SessionStore, _items: Sequence[str], params: FlexModelParams) -> Need | None:
    work = model_in_map(store, params.model, params.map)
    if work is None:
        return None
    n_residues, sizes = work.n_residues, work.sizes
    return work.need(
        _flexing.name,
        memory_bytes=300_000_000 + 200 * sizes.n_voxels + 500_000 * n_residues,
        disk_bytes=20_000 + 500 * n_residues,
        cpu_seconds=5 + 0.08 * n_residues,
    )


_flexing = Stage("flex_model", 1, "CPU", _flex, _inputs, _address, _needs)
