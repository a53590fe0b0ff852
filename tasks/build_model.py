"""Find the chains of a map, de novo: residues found by a network, traced, threaded; `refine_model` adds all atoms."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from kernels.models.mates import Mates
from kernels.rotations import symmetry_group
from tasks.building.build_chains import build_chains
from tasks.building.compact_unit import is_apart_from_mates
from tasks.building.detector import detector
from tasks.building.elements import topology_lines, traced_elements
from tasks.building.find_residues import find_residues, require_symmetry
from tasks.records.forecast import Need
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import density_map, masked_grid, read_map
from tasks.stores.products.model_store import write_model
from tasks.stores.session_store import SessionStore
from tasks.workers.stage import SkipItem, Stage, run_stage

logger = logging.getLogger(__name__)

_PRODUCT = "models/built"
_IN_REGISTER = 0.5
_MARGIN_ANGSTROM = 2.0
_SHARE_OF_UNIT = 4.0
"""How much larger the box is in which a unit of a symmetric map lies, in units of its share of the map."""


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
    """How often each sequence is there, of a symmetric map in one unit; None where that is not known."""
    least_confidence: float = Field(default=0.2, ge=0, le=1)
    """Candidates of the network below it are not traced."""
    n_turns: int = Field(default=4, ge=1, le=24)
    """Orientations in which the network is shown the map."""
    weights: str | None = None
    """Weights of a network that was trained elsewhere; None for those that come with the project."""


@task(name="build_model", cache_policy=NO_CACHE)
def build_model(session_url: str, params: BuildModelParams) -> StageReport:
    """``models/built`` from a map: N, CA, C and O, B-factors 100 times the confidence. Memory: see `_needs`.

    Of a map with symmetry one asymmetric unit is built; the file says that its copies make up the assembly.
    """
    return run_stage(session_url, _building, [f"{_PRODUCT} in {params.map}"], params)


def _inputs(_store: SessionStore, item: str) -> list[str]:
    return [f"maps/{item.rpartition(' in ')[2]}"]


def _address(_item: str) -> str:
    return _PRODUCT


def _build(store: SessionStore, _item: str, params: BuildModelParams, attempt: Attempt) -> None:
    grid, symmetry = masked_grid(store, params.map), density_map(store, params.map).symmetry
    mates = Mates.about(symmetry, grid)
    network = detector(params.weights)
    try:
        require_symmetry(grid, mates, symmetry)
        found = find_residues(network, grid, mates, params.n_turns, params.least_confidence)
        built = build_chains(found.candidates, params.sequences, params.copies, found.density_at)
    except ValueError as error:
        raise SkipItem(f"maps/{params.map}: {error}") from error
    is_inside = _is_inside(built.model, grid)
    is_apart = is_apart_from_mates(built.model, mates)
    model = built.model.take_residues(is_inside & is_apart)
    write_model(attempt, model, "built", mates)
    traced = traced_elements(model, found.structure_at)
    elements = traced.records()
    attempt.details["elements"] = [element.model_dump(mode="json") for element in elements]
    attempt.details["topology"] = topology_lines(traced, params.structures)
    attempt.details["chains"] = [str(chain) for chain in built.chains]
    attempt.figures.update(
        n_candidates=len(found.candidates),
        symmetry=symmetry,
        n_in_copies=int((~is_apart).sum()),
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
    about = density_map(store, params.map)
    volume = n_voxels * about.pixel_size_angstrom**3
    looked_at = volume * min(1.0, _SHARE_OF_UNIT / len(symmetry_group(about.symmetry)))
    return Need(
        stage=_building.name,
        n_items=1,
        memory_bytes=round(700e6 + 40 * n_voxels + 60 * looked_at),
        disk_bytes=10_000_000,
        cpu_seconds=20 + 5e-6 * params.n_turns * looked_at + 1e-4 * looked_at,
        told_from=f"a map of {' x '.join(map(str, shape))} voxels",
        remedy="cut the map out around the molecule",
    )


_building = Stage("build_model", 3, "GPU", _build, _inputs, _address, _needs)
