"""Find the chains of a map, de novo: residues found by a network, traced, threaded; `refine_model` adds all atoms."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from kernels.maps.grid import DensityGrid
from kernels.maps.sampling import sampled, spline_coefficients
from kernels.models.atomic_model import AtomicModel
from kernels.networks.detection import detect
from tasks.building.build_chains import build_chains
from tasks.building.detector import detector
from tasks.building.elements import topology_lines, traced_elements
from tasks.records.forecast import Need
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import density_grid, density_map, read_map
from tasks.stores.products.model_store import write_model
from tasks.stores.session_store import SessionStore
from tasks.workers.stage import SkipItem, Stage, run_stage

logger = logging.getLogger(__name__)

_PRODUCT = "models/built"
_IN_REGISTER = 0.5
_MARGIN_ANGSTROM = 2.0


class BuildModelParams(StageParams):
    """Parameters of `build_model`."""

    map: str = "sharpened"
    """Name of the map in the store."""
    sequences: tuple[str, ...] = ()
    """One-letter codes of the proteins; without any, residues get their likeliest types."""
    structures: tuple[str, ...] = ()
    """Known or predicted secondary structures of chains, a letter a residue (H helix, E strand): elements of the map
    are matched to them."""
    copies: tuple[int, ...] | None = None
    """How often each sequence is there; None where that is not known."""
    least_confidence: float = Field(default=0.2, ge=0, le=1)
    """Candidates of the network below it are not traced."""
    n_turns: int = Field(default=4, ge=1, le=24)
    """Orientations in which the network is shown the map."""
    weights: str | None = None
    """Weights of a network that was trained elsewhere; None for those that come with the project."""


@task(name="build_model", cache_policy=NO_CACHE)
def build_model(session_url: str, params: BuildModelParams) -> StageReport:
    """``models/built`` from a map: N, CA, C and O, B-factors 100 times the confidence. Memory: see `_needs`."""
    return run_stage(session_url, _building, [f"{_PRODUCT} in {params.map}"], params)


def _inputs(_store: SessionStore, item: str) -> list[str]:
    return [f"maps/{item.rpartition(' in ')[2]}"]


def _address(_item: str) -> str:
    return _PRODUCT


def _build(store: SessionStore, _item: str, params: BuildModelParams, attempt: Attempt) -> None:
    grid = density_grid(store, params.map)
    found = detect(detector(params.weights), grid, params.n_turns)
    candidates = found.protein.surest(params.least_confidence).on_cpu()
    coefficients = spline_coefficients(grid.voxels.float())
    try:
        built = build_chains(
            candidates,
            params.sequences,
            params.copies,
            lambda places: sampled(coefficients, grid.to_voxels(places)),
        )
    except ValueError as error:
        raise SkipItem(f"maps/{params.map}: {error}") from error
    is_inside = _is_inside(built.model, grid)
    model = built.model.take_residues(is_inside)
    write_model(attempt, model, "built")
    traced = traced_elements(model, found)
    elements = traced.records()
    attempt.details["elements"] = [element.model_dump(mode="json") for element in elements]
    attempt.details["topology"] = topology_lines(traced, params.structures)
    attempt.details["chains"] = [str(chain) for chain in built.chains]
    attempt.figures.update(
        n_candidates=len(candidates),
        n_cut_off=int((~is_inside).sum()),
        n_in_register=int((built.register_probability > _IN_REGISTER).sum()),
        n_helices=sum(element.kind == "helix" for element in elements),
        n_strands=sum(element.kind == "strand" for element in elements),
        mean_confidence=round(float(built.confidence.mean()), 3),
    )


def _is_inside(model: AtomicModel, grid: DensityGrid) -> torch.Tensor:
    """(residue,) whether it stands well inside of the map: a cut-out ends in the middle of chains."""
    place = grid.to_voxels(model.coordinates_angstrom)
    margin = _MARGIN_ANGSTROM / grid.voxel_size_angstrom
    last = torch.tensor(grid.voxels.shape) - 1
    is_out = ((place < margin) | (place > last - margin)).any(-1)
    inside = torch.ones(model.n_residues, dtype=torch.bool)
    inside[model.residue[is_out]] = False
    return inside


def _needs(store: SessionStore, _items: Sequence[str], params: BuildModelParams) -> Need:
    shape = read_map(store, params.map).shape("map")
    n_voxels = shape[0] * shape[1] * shape[2]
    volume = n_voxels * density_map(store, params.map).pixel_size_angstrom ** 3
    return Need(
        stage=_building.name,
        n_items=1,
        memory_bytes=round(700e6 + 40 * n_voxels + 60 * volume),
        disk_bytes=10_000_000,
        cpu_seconds=20 + 5e-6 * params.n_turns * volume + 1e-4 * volume,
        told_from=f"a map of {' x '.join(map(str, shape))} voxels",
        remedy="cut the map out around the molecule",
    )


_building = Stage("build_model", 2, "GPU", _build, _inputs, _address, _needs)
