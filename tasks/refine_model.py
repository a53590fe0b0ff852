"""All atoms of a model, built and refined against its maps, round by round."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from kernels.models.atomic_model import AtomicModel
from kernels.models.mates import Mates
from tasks.formats.monomer_library import MonomerLibraryError, find_monomer_library, require_monomers
from tasks.formats.structure import mmcif_of
from tasks.model_refinement.evidence import Evidence
from tasks.model_refinement.params import RefineModelParams
from tasks.model_refinement.rounds import refined_rounds
from tasks.records.forecast import Need
from tasks.records.session import StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import density_grid, half_grids, known_resolution, map_mates
from tasks.stores.products.model_store import model_in_map, read_model, write_model
from tasks.stores.session_store import SessionStore
from tasks.workers.connection import require_workers
from tasks.workers.stage import Stage, run_stage

logger = logging.getLogger(__name__)

_FIRST = "models/refined"
_AFTER = "-"
"""Before the number of a round of rebuilding."""


@task(name="refine_model", cache_policy=NO_CACHE)
def refine_model(session_url: str, params: RefineModelParams) -> StageReport:
    """``models/refined`` from a model and its maps; all rounds are kept in it, the best one is the model.

    ``models/refined-<n>`` from what the n-th round of rebuilding made.

    Memory: see `_needs`; servalcat may take `RefineModelParams.memory_bytes` at most.
    """
    item = f"{_FIRST}{_AFTER}{params.round}" if params.round else _FIRST
    return run_stage(session_url, _refinement, [item], params)


def missing_for_refinement(session_url: str, params: RefineModelParams) -> str | None:
    """What a refinement would lack: the map's resolution, or a library that it has to have. Asked before building."""
    try:
        known_resolution(SessionStore.open(session_url), params.map, params.resolution_angstrom, _refinement.name)
        if params.without_library == "refuse":
            client = require_workers("CPU")
            looked = client.submit(find_monomer_library, params.monomer_library, resources={"CPU": 1}, pure=False)
            logger.info("restraints of %s", looked.result())
    except ValueError as error:
        return str(error)
    return None


def _address(item: str) -> str:
    return item


def _inputs(store: SessionStore, item: str) -> list[str]:
    """Those that are there of all maps and models that parameters may name."""
    number = item.removeprefix(_FIRST).removeprefix(_AFTER)
    named = (
        [_FIRST, _rebuilt(number)]
        if number
        else [f"models/{name}" for name in ("built", "imported", "docked", "merged")]
    )
    named += [f"maps/{name}" for name in ("sharpened", "refined", "imported", "flipped", "joined")]
    return [address for address in named if store.product(address).record() is not None]


def _source(params: RefineModelParams) -> str:
    """Name of the model to start from."""
    return _rebuilt(params.round).removeprefix("models/") if params.round else params.model


def _rebuilt(number: int | str) -> str:
    return f"models/rebuilt{_AFTER}{number}"


def _refine(store: SessionStore, item: str, params: RefineModelParams, attempt: Attempt) -> None:
    source = _source(params)
    model = read_model(store, source)
    resolution = known_resolution(store, params.map, params.resolution_angstrom, _refinement.name)
    library = _library(params, model)
    mates = map_mates(store, params.map)
    sharpened = density_grid(store, params.map)
    evidence = _evidence(store, params, sharpened.resolution_shown(resolution), mates)
    weight = store.product(_FIRST).done_record("model 'refined'").figures.get("weight") if params.round else None
    done = refined_rounds(model, sharpened, evidence, library, params, None if weight is None else float(weight))
    best = done.rounds[done.best]
    write_model(attempt, best.model, item.removeprefix("models/"), mates)
    for made in done.rounds:
        attempt.write(made.name, np.frombuffer(mmcif_of(made.model, made.name), dtype=np.uint8))
    attempt.details["rounds"] = [{"name": made.name, **made.figures} for made in done.rounds]
    attempt.details["weights"] = [vars(trial) for trial in done.trials]
    attempt.figures.update(
        best.figures, best_round=best.name, is_half_map_refinement=evidence.is_halved and library is not None
    )
    if library is None:
        attempt.figures["refined_in"] = "real space alone, no monomer library"
    else:
        attempt.figures["program"] = f"servalcat {version('servalcat')}"


def _library(params: RefineModelParams, model: AtomicModel) -> Path | None:
    """None where there is none and the model may do without."""
    try:
        library = find_monomer_library(params.monomer_library)
    except MonomerLibraryError as error:
        if params.without_library == "refuse":
            raise
        logger.warning("refined in real space alone: %s", error)
        return None
    require_monomers(library, model)
    return library


def _evidence(store: SessionStore, params: RefineModelParams, resolution_angstrom: float, mates: Mates) -> Evidence:
    """Half maps of the map itself or of the refinement it comes from, or the map alone."""
    halves = half_grids(store, params.map, params.half_maps)
    return Evidence(halves or (density_grid(store, params.map),), resolution_angstrom, mates)


def _needs(store: SessionStore, _items: Sequence[str], params: RefineModelParams) -> Need | None:
    """Of real space, and of servalcat, which runs beside the worker: 0.32 and 0.44 GB, 4 and 8 CPU-s a run, for 30 and
    120 residues in boxes of 54 and 96 voxels a side."""
    work = model_in_map(store, _source(params), params.map)
    if work is None:
        return None
    n_residues, sizes = work.n_residues, work.sizes
    by_servalcat = params.without_library == "refuse"
    return work.need(
        _refinement.name,
        memory_bytes=round(160e6 + 50 * sizes.n_voxels + 130 * sizes.n_voxels_around(n_residues) + 1.1e6 * n_residues)
        + by_servalcat * (300_000_000 + 150 * sizes.n_voxels),
        disk_bytes=100_000 + 1_500 * n_residues,
        cpu_seconds=8 + 0.06 * n_residues + by_servalcat * _N_RUNS * (3 + 0.05 * n_residues),
        remedy="cut the map out around the molecule, or refine its chains apart",
    )


_N_RUNS = 7
"""Of servalcat: weights that are tried, the best with both halves, and a round of repair."""
_refinement = Stage("refine_model", 3, "CPU", _refine, _inputs, _address, _needs)
