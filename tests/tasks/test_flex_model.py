"""A docked chain that swung about a hinge goes back to where the map shows it; one that lies right stays."""

import pytest
import torch

from kernels.models.atomic_model import AtomicModel
from tasks.flex_model import FlexModelParams, flex_model
from tasks.formats.map_file import write_map
from tasks.import_map import ImportMapParams, import_map
from tasks.records.session import StageParams
from tasks.stores.products.model_store import read_model, write_model
from tests.truth.bent_models import hinge_moved
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps

PARAMS = FlexModelParams(map="imported", half_maps=None)


class _Named(StageParams):
    name: str


def put(store, model: AtomicModel, name: str) -> None:
    with store.product("models/docked").write("dock_model", 1, _Named(name=name), {}) as attempt:
        write_model(attempt, model, "docked")


def off(model: AtomicModel, truth: AtomicModel) -> float:
    return float((model.positions("CA") - truth.positions("CA")).square().sum(-1).mean().sqrt())


@pytest.fixture
def filled(store, workers, tmp_path):
    maps = simulated_maps(cage_subunit(80), 5.0, voxel_size_angstrom=1.6)
    write_map(tmp_path / "map.mrc", maps.sharpened)
    for name in ("half_1", "half_2"):
        write_map(tmp_path / f"{name}.mrc", getattr(maps, name))
    paths = {name: str(tmp_path / f"{name}.mrc") for name in ("map", "half_1", "half_2")}
    import_map.fn(store.url, ImportMapParams(resolution_angstrom=5.0, **paths))
    return store, maps.model


def test_chains_that_swung_come_back_and_right_ones_stay(filled):
    store, truth = filled
    moved = hinge_moved(truth, 4.0, torch.Generator().manual_seed(3))
    put(store, moved, "moved")
    assert off(moved, truth) > 3.5
    report = flex_model.fn(store.url, PARAMS)
    assert report.done == ["flexed of docked in imported"], (report.failed, report.skipped)
    record = store.product("models/flexed").record()
    (told,) = record.details["chains"]
    assert told["is_kept"], told["reason"]
    assert off(read_model(store, "flexed"), truth) < 1.5
    assert flex_model.fn(store.url, PARAMS).kept == report.done
    put(store, truth, "right")
    assert flex_model.fn(store.url, PARAMS).done
    (told,) = store.product("models/flexed").record().details["chains"]
    assert not told["is_kept"] and "left as it was" in told["reason"]
    assert off(read_model(store, "flexed"), truth) < 1e-3


def test_a_map_of_unknown_resolution_is_refused(store, workers, tmp_path):
    maps = simulated_maps(cage_subunit(30), 5.0, voxel_size_angstrom=1.6)
    write_map(tmp_path / "map.mrc", maps.sharpened)
    import_map.fn(store.url, ImportMapParams(map=str(tmp_path / "map.mrc")))
    put(store, maps.model, "any")
    (reason,) = flex_model.fn(store.url, PARAMS).failed.values()
    assert "the resolution of maps/imported is not known" in reason and "half maps" in reason
