"""A trace in the store becomes a refined model in it, and what is amiss is said."""

import pytest

from tasks.formats.map_file import write_map
from tasks.import_map import ImportMapParams, import_map
from tasks.model_refinement.params import RefineModelParams
from tasks.refine_model import refine_model
from tasks.stores.products.model_store import read_model, write_model
from tests.truth.cage_model import cage_subunit, smoothly_displaced, trace_of
from tests.truth.model_maps import simulated_maps
from tests.truth.monomers import unpacked_monomers


@pytest.fixture
def session(store, workers, tmp_path):
    """A session with imported maps of 30 residues, and their trace as a model."""
    maps = simulated_maps(cage_subunit(30), 3.0, padding_angstrom=8)
    files = {"map": maps.sharpened, "half_1": maps.half_1, "half_2": maps.half_2}
    for name, grid in files.items():
        write_map(tmp_path / f"{name}.mrc", grid)
    paths = {name: str(tmp_path / f"{name}.mrc") for name in files}
    import_map.fn(store.url, ImportMapParams(**paths, resolution_angstrom=3.0))
    with store.product("models/built").write("build_model", 1, RefineModelParams(), {}) as attempt:
        write_model(attempt, trace_of(maps.model, 0.4), "built")
    return store, maps.model


def test_a_trace_becomes_a_refined_model_with_all_its_rounds(session, real_data, tmp_path):
    store, truth = session
    library = unpacked_monomers(real_data, tmp_path / "monomers")
    params = RefineModelParams(map="imported", monomer_library=str(library), n_build_rounds=1)
    report = refine_model.fn(store.url, params)
    assert report.done == ["models/refined"], report.failed
    found = read_model(store, "refined")
    error = (found.positions("CA") - truth.positions("CA")).norm(dim=-1).square().mean().sqrt()
    assert error < 0.3
    assert found.names == truth.names
    record = store.product("models/refined").record()
    assert [r["name"] for r in record.details["rounds"]] == ["built_1", "refined", "repaired_1"]
    assert record.figures["is_half_map_refinement"]
    assert record.figures["angle_rmsd_deg"] < 1.6
    assert "built_1" in store.product("models/refined").read()
    assert refine_model.fn(store.url, params).kept == ["models/refined"]


def test_what_was_rebuilt_is_refined_as_it_stands_at_the_weight_of_before(session, real_data, tmp_path):
    store, truth = session
    library = unpacked_monomers(real_data, tmp_path / "monomers")
    params = RefineModelParams(map="imported", monomer_library=str(library), round=1, n_cycles=3)
    for name in ("refined", "rebuilt-1"):
        with store.product(f"models/{name}").write("refine_model", 1, params, {}) as attempt:
            write_model(attempt, smoothly_displaced(truth, 0.3), name)
            attempt.figures.update(weight=0.25)
    report = refine_model.fn(store.url, params)
    assert report.done == ["models/refined-1"], report.failed
    record = store.product("models/refined-1").record()
    assert [r["name"] for r in record.details["rounds"]] == ["refined"]
    assert record.figures["weight"] == 0.25
    assert "models/rebuilt-1" in record.inputs
    found = read_model(store, "refined-1")
    assert found.names == truth.names
    assert (found.positions("CA") - truth.positions("CA")).norm(dim=-1).square().mean().sqrt() < 0.25


@pytest.mark.parametrize("has_library", [True, False])
def test_a_trace_of_a_later_round_gets_its_atoms_as_the_first_one_did(session, real_data, tmp_path, has_library):
    store, truth = session
    folder = unpacked_monomers(real_data, tmp_path / "monomers") if has_library else tmp_path / "nowhere"
    params = RefineModelParams(
        map="imported", monomer_library=str(folder), without_library="real space", round=1, n_build_rounds=1, n_cycles=3
    )
    for name, model in {"refined": truth, "rebuilt-1": trace_of(truth, 0.4)}.items():
        with store.product(f"models/{name}").write("refine_model", 1, params, {}) as attempt:
            write_model(attempt, model, name)
            attempt.figures.update(weight=0.25)
    report = refine_model.fn(store.url, params)
    assert report.done == ["models/refined-1"], report.failed
    found = read_model(store, "refined-1")
    assert found.names == truth.names
    assert (found.positions("CA") - truth.positions("CA")).norm(dim=-1).square().mean().sqrt() < 0.4


def test_what_is_missing_is_named_and_nothing_is_left(session, tmp_path, monkeypatch):
    store, _ = session
    for name in ("CLIBD_MON", "CCP4"):
        monkeypatch.delenv(name, raising=False)
    params = RefineModelParams(map="imported", monomer_library=str(tmp_path / "nowhere"))
    report = refine_model.fn(store.url, params)
    assert "no monomer library" in report.failed["models/refined"]
    report = refine_model.fn(store.url, RefineModelParams(map="imported", model="docked"))
    assert "'docked'" in report.failed["models/refined"]
    assert store.product("models/refined").record().state == "failed"


def test_without_a_library_all_atoms_are_built_in_real_space_where_that_is_allowed(session, tmp_path):
    store, truth = session
    params = RefineModelParams(
        map="imported", monomer_library=str(tmp_path / "nowhere"), without_library="real space", n_build_rounds=1
    )
    report = refine_model.fn(store.url, params)
    assert report.done == ["models/refined"], report.failed
    found = read_model(store, "refined")
    error = (found.positions("CA") - truth.positions("CA")).norm(dim=-1).square().mean().sqrt()
    assert error < 0.4
    assert found.names == truth.names
    record = store.product("models/refined").record()
    figures = record.figures
    assert [r["name"] for r in record.details["rounds"]] == ["built_1", "repaired_1", "cleared"]
    assert figures["best_round"] == "cleared" and figures["clashscore"] < 4
    assert "no monomer library" in figures["refined_in"]
    assert not figures["is_half_map_refinement"]
