"""Place predicted or known structures in a map: whole, in their rigid parts, in all copies at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, field_validator, model_validator

from tasks.docking.dock import NothingPlacedError, dock
from tasks.docking.domains import LEAST_PLDDT, MOST_PAE_ANGSTROM
from tasks.docking.hits import Scene
from tasks.docking.targets import Target, target_of_model, target_of_prediction
from tasks.formats.content_digest import content_digest
from tasks.formats.structure import read_structure
from tasks.records.forecast import Need
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.docking_store import write_docking
from tasks.stores.products.map_store import has_map, known_resolution, map_mates, map_sizes, masked_grid
from tasks.stores.products.model_store import write_model
from tasks.stores.products.prediction_store import read_prediction
from tasks.stores.session_store import SessionStore
from tasks.workers.device import device
from tasks.workers.stage import SkipItem, Stage, run_stage

_IN, _OF, _AND = " in ", " of ", "+"
"""In an item, before the name of the map, before those of the predictions, and between them."""
_BYTES_A_RESIDUE = 650
"""Of a PDB file."""
_REMEDY = "give a structure in mmCIF or PDB format"


class DockModelParams(StageParams):
    """What is placed, and in which map."""

    name: str = Field(default="docked", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Of the model that is made."""
    map: str = "sharpened"
    """Name of the map in the store."""
    predictions: tuple[str, ...] = ()
    """Names of predictions in the store; the best of each is taken."""
    models: tuple[str, ...] = ()
    """Files of structures that are no predictions, mmCIF or PDB; each of their chains may move apart."""
    copies: tuple[int | None, ...] | None = None
    """Of each prediction and then each file, of a symmetric map in one unit; None for as many as the map supports."""
    resolution_angstrom: float | None = Field(default=None, gt=0)
    """In place of what is known of the map."""
    least_confidence: float = Field(default=0.5, ge=0, le=1)
    """Probability below which nothing is placed."""
    least_plddt: float = Field(default=LEAST_PLDDT, ge=0, le=100)
    """Residues of a prediction below it are left out."""
    most_pae_angstrom: float = Field(default=MOST_PAE_ANGSTROM, gt=0)
    """Mean between parts of a prediction that move as one."""

    @field_validator("models")
    @classmethod
    def _are_there(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            if not Path(path).is_file():
                raise ValueError(f"{path}: there is no such file; {_REMEDY}")
        return paths

    @model_validator(mode="after")
    def _is_something(self) -> DockModelParams:
        n = len(self.predictions) + len(self.models)
        if n == 0:
            raise ValueError("nothing is to be placed; give the name of a prediction, or the file of a structure")
        if self.copies is not None and len(self.copies) != n:
            raise ValueError(f"found numbers of copies for {len(self.copies)} structures, expected {n}, one for each")
        if any(count is not None and count < 1 for count in self.copies or ()):
            raise ValueError(f"found copies {self.copies}, expected numbers of 1 and more")
        return self


class _ContentParams(DockModelParams):
    """With what the files hold, so that another content under the same name is another input."""

    digests: tuple[str, ...]


@task(name="dock_model", cache_policy=NO_CACHE)
def dock_model(session_url: str, params: DockModelParams) -> StageReport:
    """``models/<name>`` from a map and structures, with a record of what lies where, how sure that is, and what does
    not lie anywhere.

    B-factors are 100 times the probability of the body that a residue belongs to. Of a map with symmetry one unit is
    filled; the file says that its copies make up the assembly. Memory: see `_needs`.
    """
    digests = tuple(content_digest(path, remedy=_REMEDY) for path in params.models)
    content = _ContentParams(digests=digests, **params.model_dump())
    item = f"{params.name}{_IN}{params.map}{_OF}{_AND.join(params.predictions)}"
    return run_stage(session_url, _docking, [item], content)


def _address(item: str) -> str:
    return f"models/{item.partition(_IN)[0]}"


def _inputs(_store: SessionStore, item: str) -> list[str]:
    density, _, predictions = item.partition(_IN)[2].partition(_OF)
    return [f"maps/{density}", *(f"predictions/{name}" for name in predictions.split(_AND) if name)]


def _dock(store: SessionStore, _item: str, params: _ContentParams, attempt: Attempt) -> None:
    resolution = known_resolution(store, params.map, params.resolution_angstrom, _docking.name)
    grid, mates = masked_grid(store, params.map), map_mates(store, params.map)
    resolution = grid.resolution_shown(resolution)
    try:
        targets = _targets(store, params)
        scene = Scene(grid.to(device()), mates if len(mates) > 1 else None, resolution)
        found = dock(scene, targets, params.map, params.least_confidence)
    except NothingPlacedError as error:
        raise SkipItem(f"maps/{params.map}: nothing is placed: {error}") from error
    except ValueError as error:
        raise SkipItem(f"maps/{params.map}: {error}") from error
    # bodies that bend are handed on from here: `found.body` says which residues belong to which
    write_model(attempt, found.model, params.name, mates)
    write_docking(attempt, found.record)


def _targets(store: SessionStore, params: DockModelParams) -> list[Target]:
    copies = params.copies or (None,) * (len(params.predictions) + len(params.models))
    found = []
    for name, count in zip(params.predictions, copies):
        predicted = read_prediction(store, name).structure
        found.append(target_of_prediction(name, predicted, count, params.least_plddt, params.most_pae_angstrom))
    for path, count in zip(params.models, copies[len(params.predictions) :]):
        found.append(target_of_model(Path(path).name, read_structure(path), count))
    return found


def _needs(store: SessionStore, _items: Sequence[str], params: _ContentParams) -> Need | None:
    records = [store.product(f"predictions/{name}").record() for name in params.predictions]
    if not has_map(store, params.map) or any(record is None or record.state != "done" for record in records):
        return None
    sizes = map_sizes(store, params.map)
    n_residues = [int(record.figures["n_residues"] or 0) for record in records if record is not None]
    n_residues += [Path(path).stat().st_size // _BYTES_A_RESIDUE for path in params.models]
    return Need(
        stage=_docking.name,
        n_items=1,
        memory_bytes=180_000_000 + 50 * sizes.n_voxels + 40_000 * max(n_residues),
        disk_bytes=50_000 + 800 * sum(n_residues) * 10,
        cpu_seconds=5 + 0.02 * sum(n_residues) + 2e-6 * sizes.n_voxels * len(n_residues),
        told_from=f"{sum(n_residues)} residues and {sizes.words}",
        remedy="cut the map out around the molecule",
    )


_docking = Stage("dock_model", 2, "GPU", _dock, _inputs, _address, _needs)
