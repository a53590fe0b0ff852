"""An engine that is shown the fitted model predicts anew; the round is kept where the free half map agrees better."""

from __future__ import annotations

import os
from functools import partial

import pytest
import torch

from flows import template_rounds
from flows.model import ModelRecipe, StageFailedError, model
from flows.sole_use import MODELS, sole_use
from flows.template_rounds import placed_anew, rounds_with_template, why_no_template
from kernels.rotations import random_rotations
from tasks.choose_model import ChooseModelParams, best_of, choose_model
from tasks.deposition.lineage import model_lineage
from tasks.dock_model import DockModelParams, dock_model
from tasks.flex_model import FlexModelParams, flex_model
from tasks.formats.map_file import write_map
from tasks.formats.structure import write_structure
from tasks.import_map import ImportMapParams, import_map
from tasks.merge_models import MergeModelsParams
from tasks.model_refinement.params import RefineModelParams
from tasks.predict_structure import PredictStructureParams, predict_structure
from tasks.records.session import StageParams, StageReport
from tasks.refine_model import refine_model
from tasks.stores.products.model_store import read_model, write_model
from tasks.stores.products.rounds_store import read_rounds
from tasks.stores.products.validation_store import read_validation
from tasks.stores.session_store import SessionStore
from tasks.validate_model import ValidateModelParams, validate_model
from tests.tasks.formats.test_prediction import files_of
from tests.tasks.test_predict_structure import bend
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps
from tests.truth.stand_in_engine import command_of, stand_in

N, RIGHT = 48, 32
"""Residues of the protein, and how many of them were traced rightly."""
MAP = "imported"
REFINING = RefineModelParams(monomer_library="nowhere", without_library="real space", map=MAP)

STAGES = ("predict_structure", "dock_model", "flex_model", "merge_models", "compare_rounds")


@pytest.fixture(scope="module")
def maps():
    return simulated_maps(cage_subunit(N), 3.0)


@pytest.fixture
def started(workers, maps, tmp_path, monkeypatch):
    """A session with a map, the model that was traced in it, and an engine that believes in a bent state.

    Stages run as plain functions, without Prefect's tasks around them.
    """
    for stage in STAGES:
        monkeypatch.setattr(template_rounds, stage, getattr(template_rounds, stage).fn)
    store = SessionStore.create(str(tmp_path / "s.zarr"))
    for name, grid in {"map": maps.sharpened, "half_1": maps.half_1, "half_2": maps.half_2}.items():
        write_map(tmp_path / f"{name}.mrc", grid)
    files = {name: str(tmp_path / f"{name}.mrc") for name in ("map", "half_1", "half_2")}
    elsewhere = random_rotations(1, torch.Generator().manual_seed(4))[0].double()
    states = {"bent": bend(bend(maps.model, 16, 15.0), RIGHT - 2, 70.0), "straight": maps.model}
    for name, state in states.items():
        write_structure(tmp_path / f"{name}.cif", state.at(state.coordinates_angstrom @ elsewhere.T + 50.0))
    (tmp_path / "own.a3m").write_text(f">own\n{maps.model.sequences['A']}\n")

    def start(n_right: int = RIGHT, **surroundings: str) -> SessionStore:
        import_map.fn(store.url, ImportMapParams(**files, resolution_angstrom=3.0))
        with store.product("models/built").write("build_model", 1, StageParams(), {}) as attempt:
            write_model(attempt, maps.model if n_right == N else bend(maps.model, n_right, 40.0), "built")
        refine_model.fn(store.url, REFINING)
        validate_model.fn(store.url, ValidateModelParams(model="refined", map=MAP))
        known = os.pathsep.join(str(tmp_path / f"{name}.cif") for name in states)
        told = " ".join(f"{k}={v}" for k, v in {"STAND_IN_STATES": known, **surroundings}.items())
        asked = PredictStructureParams(
            program=command_of(tmp_path / "bin" / "boltz", f"{told} {stand_in('boltz')}"),
            sequences=(maps.model.sequences["A"],),
            alignments=(str(tmp_path / "own.a3m"),),
            n_samples=1,
        )
        report = predict_structure.fn(store.url, asked)
        assert report.done, report.failed
        return store

    return start


def refined_and_judged(store: SessionStore, number: int):
    judging = ValidateModelParams(model=f"refined-{number}", map=MAP)
    return [
        refine_model.fn(store.url, REFINING.model_copy(update={"round": number})),
        validate_model.fn(store.url, judging),
    ]


def figures(store: SessionStore, name: str):
    told = read_validation(store, name)
    return name, told.fsc_free, told.clashscore, told.ramachandran_outlier_percent, told.n_residues


def rounds(store: SessionStore, placed: str, n_rounds: int = 1):
    merging = MergeModelsParams(placed=placed, map=MAP)
    return rounds_with_template(store.url, merging, ["refined"], n_rounds, partial(refined_and_judged, store))


def off(store: SessionStore, name: str, truth) -> torch.Tensor:
    found = {(r.number, r.name): place for r, place in zip(*alpha(read_model(store, name)))}
    pairs = [(found[(r.number, r.name)], place) for r, place in zip(*alpha(truth)) if (r.number, r.name) in found]
    return torch.stack([(a - b).norm() for a, b in pairs])


def alpha(model):
    return model.residues, model.positions("CA")[:, 0]


def test_a_round_that_is_better_is_kept_and_one_that_is_not_ends_it(started, maps):
    store = started()
    assert why_no_template(store.url, "predictions/predicted", MAP) is None
    reports, made = rounds(store, "predictions/predicted", 3)
    assert made == ["refined-1", "refined-2"], [figures(store, name) for name in ("refined", *made)]
    stages = ["predict_structure", "merge_models", "refine_model", "validate_model", "compare_rounds"]
    assert [r.stage for r in reports] == ["compare_rounds", *2 * stages]
    first, second, _ = (one.fsc_free for one in read_rounds(store, ("refined", *made), MAP).rounds)
    assert second > first + 0.02
    assert read_model(store, "refined-1").n_residues >= N - 2
    assert off(store, "refined-1", maps.model).max() < 1.5
    choose_model.fn(store.url, ChooseModelParams(models=("refined", *made), map=MAP))
    record = store.product("models/chosen").record()
    assert record.figures["best_round"] == "refined-1"
    assert record.details["rounds"][1]["rebuilt"].endswith("residues of predictions that were shown refined")
    assert record.details["rounds"][2]["rebuilt"].endswith("residues of predictions that were shown refined-1")
    (source,) = model_lineage(store, "chosen").predictions  # of the round that was taken alone
    assert (source.engine, source.template) == ("Boltz", "refined")


def test_what_was_docked_and_bent_is_docked_and_bent_anew(started):
    store = started()
    docking = DockModelParams(
        map=MAP, predictions=("predicted",), copies=(1,), most_pae_angstrom=30.0, least_confidence=0.0
    )
    report = dock_model.fn(store.url, docking)
    assert report.done, report.skipped
    assert flex_model.fn(store.url, FlexModelParams(map=MAP)).done
    before = [store.product(f"models/{name}").record().fingerprint for name in ("docked", "flexed")]
    reports: list[StageReport] = []
    assert placed_anew(store.url, "flexed", "refined", 1, reports) == "flexed-1"
    assert [r.stage for r in reports] == ["predict_structure", "dock_model", "flex_model"]
    assert store.product("models/docked-1").record().params["predictions"] == ["predicted-1"]
    assert store.product("models/flexed-1").record().params["model"] == "docked-1"
    # what an earlier round was made of stays as it was
    assert [store.product(f"models/{name}").record().fingerprint for name in ("docked", "flexed")] == before


def test_a_template_that_makes_it_worse_is_dropped(started):
    store = started(N, STAND_IN_IS_CONTRARY="1")
    reports, made = rounds(store, "predictions/predicted", 2)
    assert made == ["refined-1"], [(r.stage, r.failed, r.skipped) for r in reports]  # and no second one
    assert best_of(store.url, ChooseModelParams(models=("refined", *made), map=MAP)) == "refined"


def test_what_fails_in_a_round_is_said_and_the_earlier_model_stays(started, tmp_path):
    store = started()
    program = tmp_path / "bin" / "boltz"
    works = program.read_text()
    command_of(program, "echo CUDA out of memory; exit 1")
    reports, made = rounds(store, "predictions/predicted")
    assert made == []
    (why,) = reports[-1].failed.values()
    assert "ended with code 1: CUDA out of memory" in why
    program.write_text(works)
    (tmp_path / "own.a3m").unlink()
    reports, made = rounds(store, "predictions/predicted")
    (why,) = reports[-1].failed.values()
    assert made == [] and "own.a3m: there is no such file; give an alignment" in why
    assert best_of(store.url, ChooseModelParams(models=("refined",), map=MAP)) == "refined"


@pytest.mark.server
def test_what_no_round_can_be_made_of_is_said_before_anything_is_built(connected, maps, tmp_path):
    url = str(tmp_path / "s.zarr")
    write_map(tmp_path / "map.mrc", maps.sharpened)
    (tmp_path / "run").mkdir()
    for name, content in files_of("ColabFold").items():
        (tmp_path / "run" / name).write_bytes(content)
    store = SessionStore.create(url)
    own = PredictStructureParams(file=str(tmp_path / "run"), name="own")
    letters = "ACDEFGHIKLMNQRSTVWYA"
    program = command_of(tmp_path / "bin" / "boltz", stand_in("boltz"))
    asked = PredictStructureParams(program=program, sequences=(letters,), is_server_asked=True, n_samples=1)
    with sole_use(url, MODELS):
        assert predict_structure(url, own).done and predict_structure(url, asked).done
    files = ImportMapParams(map=str(tmp_path / "map.mrc"), resolution_angstrom=3.0)
    refining = RefineModelParams(monomer_library="nowhere", without_library="real space")

    def refused(placed: str | None) -> str:
        merging = None if placed is None else MergeModelsParams(placed=placed)
        recipe = ModelRecipe(import_map=files, refine_model=refining, merge_models=merging, n_template_rounds=1)
        with pytest.raises(StageFailedError) as told:
            model(url, recipe)
        assert store.product("models/built").record() is None
        return str(told.value)

    assert "predictions/own comes from files, so no engine is known" in refused("predictions/own")
    assert "maps/imported has no half maps" in refused("predictions/predicted")
    assert "models/docked is not there; place a prediction with `vitriflow dock`" in refused("docked")
    assert "starts from placed predictions; name them (`--placed`)" in refused(None)
