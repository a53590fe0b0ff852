"""A model in the store is judged once, and anew when it or its map has changed."""

import numpy as np
import pytest
import torch

from kernels.models.atomic_model import AtomicModel
from tasks.formats.map_file import write_map
from tasks.import_map import ImportMapParams, import_map
from tasks.records.density_map import DensityMap
from tasks.records.session import StageParams
from tasks.stores.products.map_store import describe
from tasks.stores.products.model_store import write_model
from tasks.stores.products.validation_store import read_validation
from tasks.stores.session_store import SessionStore
from tasks.validate_model import ValidateModelParams, validate_model
from tasks.validation.simulated_map import simulate_map
from tests.truth.cage_model import cage_subunit
from tests.truth.ideal_proteins import ideal_protein
from tests.truth.model_maps import simulated_maps

PARAMS = ValidateModelParams(model="built", resolution_angstrom=3.2)


def put(store: SessionStore, model: AtomicModel, turn: int) -> None:
    with store.product("models/built").write("build_model", 1, PARAMS, {"turn": str(turn)}) as attempt:
        write_model(attempt, model, "built")


def test_a_model_is_judged_in_its_map(store, workers, tmp_path):
    model = ideal_protein("SAFSLKWTEYAVMRDGFLSTIQNEWAK")
    write_map(tmp_path / "map.mrc", simulate_map(model, 3.2, torch.Generator().manual_seed(3)))
    import_map.fn(store.url, ImportMapParams(map=str(tmp_path / "map.mrc")))
    assert validate_model.fn(store.url, PARAMS).skipped  # there is no model yet
    put(store, model, 1)
    assert validate_model.fn(store.url, PARAMS).done == ["built in imported"]
    found = read_validation(store, "built")
    assert (found.n_residues, found.resolution_source) == (27, "given")
    assert found.cc_mask > 0.6
    assert store.product("validations/built").record().figures["decision"] == found.decision
    assert validate_model.fn(store.url, PARAMS).kept == ["built in imported"]
    put(store, model.at(model.coordinates_angstrom + 300), 2)
    report = validate_model.fn(store.url, PARAMS)
    (reason,) = report.skipped.values()
    assert "dock the model into the map" in reason


def test_a_sharpened_map_has_the_halves_of_the_refinement(store, workers):
    maps = simulated_maps(cage_subunit(40), 3.0)
    grids = {"refined": {"map": maps.sharpened, "half_1": maps.half_1, "half_2": maps.half_2}}
    grids["sharpened"] = {"map": maps.sharpened}
    z, y, x = maps.sharpened.origin_angstrom.tolist()
    for name, arrays in grids.items():
        about = DensityMap(
            name=name, kind=name, pixel_size_angstrom=1.0, symmetry="C1", resolution_angstrom=3.0,
            origin_angstrom=(z, y, x),
        )  # fmt: skip
        with store.product(f"maps/{name}").write("refine_map", 1, StageParams(), {}) as attempt:
            for array, grid in arrays.items():
                attempt.write(array, grid.voxels.numpy().astype(np.float32))
            describe(attempt, about)
    put(store, maps.model, 1)
    assert validate_model.fn(store.url, ValidateModelParams(model="built", map="sharpened")).done
    found = read_validation(store, "built")
    assert found.resolution_source == "half maps"
    assert found.fsc_free == pytest.approx(found.fsc_work, abs=0.03) and found.fsc_free > 0.5  # nothing was fitted
    assert "maps/refined" in store.product("validations/built").record().inputs
