"""What stands beside the chains of a model: ligands that were named, ions and waters, where the map supports them."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from kernels.models.atomic_model import AtomicModel
from tasks.formats.monomer_library import require_monomers
from tasks.ligands.params import PlaceLigandsParams
from tasks.ligands.placing import PlacedModel, placed
from tasks.ligands.requested import RequestedLigand, library_of, read_requested, require_readable
from tasks.model_refinement.evidence import Evidence
from tasks.model_refinement.servalcat import Effort, refined
from tasks.records.session import StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import density_grid, half_grids, known_resolution, map_mates
from tasks.stores.products.model_store import read_model, write_model, write_placement
from tasks.stores.session_store import SessionStore
from tasks.workers.stage import Stage, run_stage

logger = logging.getLogger(__name__)

_NAME = "placed"
_OF, _IN = " in ", " on "
"""Before the name of the model that is added to, and that of its map, in an item."""
_TORSION_SIGMA_DEG = 5.0
_USUAL_WEIGHT = 0.3


@task(name="place_ligands", cache_policy=NO_CACHE)
def place_ligands(session_url: str, params: PlaceLigandsParams) -> StageReport:
    """``models/placed`` from a refined model and its map, with a record of what was placed and what is left over.

    A ligand that cannot be read stops the stage before anything is searched.

    Memory: 400 bytes a voxel of the box around the model, and what servalcat takes (`memory_bytes`) beside the worker.
    """
    require_readable(params)
    return run_stage(session_url, _placing, [f"{_NAME}{_OF}{params.model}{_IN}{params.map}"], params)


def _address(_item: str) -> str:
    return f"models/{_NAME}"


def _inputs(store: SessionStore, item: str) -> list[str]:
    model, density = item.split(_OF)[1].split(_IN)
    halves = [f"maps/{name}" for name in ("refined", "imported") if name != density]
    there = [address for address in halves if store.product(address).record() is not None]
    return [f"models/{model}", f"maps/{density}", *there]


def _place(store: SessionStore, item: str, params: PlaceLigandsParams, attempt: Attempt) -> None:
    model = read_model(store, params.model)
    resolution = known_resolution(store, params.map, params.resolution_angstrom, _placing.name)
    library = library_of(params)
    requested = read_requested(params.ligands, library)
    grid, mates = density_grid(store, params.map), map_mates(store, params.map)
    halves = half_grids(store, params.map, params.half_maps)
    done = placed(model, grid, halves, resolution, requested, params, mates if len(mates) > 1 else None)
    if done.placement.placed and params.is_refined and library is not None:
        maps = (grid,) if halves is None else halves
        evidence = Evidence(maps, grid.resolution_shown(resolution), mates)
        done = replace(done, model=_refined(store, done, evidence, library, requested, params))
        attempt.figures["is_refined"] = True
    write_model(attempt, done.model, _NAME, mates)
    write_placement(attempt, done.placement)
    source = store.product(f"models/{params.model}").done_record(f"model {params.model!r}")
    if "rounds" in source.details:  # the history of a model goes on with it
        attempt.details.update({k: source.details[k] for k in ("rounds", "compared") if k in source.details})
        attempt.figures.update({k: source.figures[k] for k in ("best_round", "n_rounds") if k in source.figures})
    kinds = [row.kind for row in done.placement.placed]
    attempt.figures.update(
        n_ligands=kinds.count("ligand"),
        n_ions=kinds.count("ion"),
        n_waters=kinds.count("water"),
        n_unexplained=len(done.placement.unexplained),
        n_refused=len(done.placement.refused),
    )


def _refined(
    store: SessionStore,
    done: PlacedModel,
    evidence: Evidence,
    library: Path,
    requested: list[RequestedLigand],
    params: PlaceLigandsParams,
) -> AtomicModel:
    dictionaries = [one.dictionary for one in requested if one.dictionary is not None]
    own = [one.template.code for one in requested if one.dictionary is not None]
    require_monomers(library, done.model, own)
    weight = _weight(store)
    effort = Effort(params.n_cycles, params.memory_bytes, params.time_limit_seconds)
    return refined(done.model, evidence, library, weight, False, _TORSION_SIGMA_DEG, effort, dictionaries).model


def _weight(store: SessionStore) -> float:
    """That of the refinement before, where there was one."""
    record = store.product("models/refined").record_if_done()
    weight = None if record is None else record.figures.get("weight")
    return _USUAL_WEIGHT if weight is None else float(weight)


_placing = Stage("place_ligands", 1, "CPU", _place, _inputs, _address)
