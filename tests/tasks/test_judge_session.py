"""A model with a gap beside a prediction: what fills the gap is told, and decided on."""

from dataclasses import replace

import pytest
import torch

from kernels.models.atomic_model import AtomicModel
from kernels.models.predicted_structure import PredictedStructure
from kernels.rotations import from_rotation_vector, random_rotations
from tasks.formats.map_file import write_map
from tasks.formats.prediction import Prediction
from tasks.import_map import ImportMapParams, import_map
from tasks.judge_session import JudgeSessionParams, judge_session
from tasks.records.prediction import PredictionSource
from tasks.records.session import StageParams
from tasks.stores.products.model_store import write_model
from tasks.stores.products.particle_store import read_particles, write_particles
from tasks.stores.products.prediction_store import write_predictions
from tasks.stores.products.verdict_store import read_verdict
from tasks.validate_model import ValidateModelParams, validate_model
from tests.truth.cage_model import cage_subunit
from tests.truth.filled_session import fill_session
from tests.truth.model_maps import simulated_maps

GAP = slice(30, 42)
PARAMS = JudgeSessionParams(model="refined", map="imported", prediction="predicted")


@pytest.fixture(scope="module")
def maps():
    return simulated_maps(cage_subunit(80), 3.0)


def put_prediction(store, model: AtomicModel, plddt: torch.Tensor) -> None:
    structure = PredictedStructure(model, plddt, None)
    with store.product("predictions/predicted").write("predict_structure", 1, StageParams(), {}) as attempt:
        write_predictions(attempt, [Prediction(structure, PredictionSource(engine="Boltz"))])


@pytest.fixture
def filled(store, workers, maps, tmp_path):
    """The map, and a validated model without a stretch."""
    write_map(tmp_path / "map.mrc", maps.sharpened)
    import_map.fn(store.url, ImportMapParams(map=str(tmp_path / "map.mrc"), resolution_angstrom=3.0))
    there = torch.ones(80, dtype=torch.bool)
    there[GAP] = False
    with store.product("models/refined").write("refine_model", 1, StageParams(), {}) as attempt:
        write_model(attempt, maps.model.take_residues(there), "refined")
    report = validate_model.fn(store.url, ValidateModelParams(map="imported"))
    assert report.done, report
    return store


def elsewhere(model: AtomicModel) -> AtomicModel:
    turn = random_rotations(1, torch.Generator().manual_seed(1))[0].double()
    return model.at(model.coordinates_angstrom @ turn.T + 100)


def test_what_a_prediction_fills_is_to_be_rebuilt(filled, maps):
    put_prediction(filled, elsewhere(maps.model), torch.full((80,), 90.0))
    report = judge_session.fn(filled.url, PARAMS)
    assert report.done == ["refined in imported beside predicted"], (report.failed, report.skipped)
    found = read_verdict(filled, "refined")
    assert found.decision == "rebuild here" and "the map speaks for the prediction" in found.reason
    told = [d for d in found.disagreements if d.side == "not built"]
    covered = {n for d in told for n in range(int(d.first), int(d.last) + 1)}
    assert len(covered & set(range(GAP.start + 1, GAP.stop + 1))) >= 10
    assert any("of the prediction" in where for where in found.rebuild)
    assert judge_session.fn(filled.url, PARAMS).kept == report.done


def test_wrong_stretches_of_a_prediction_are_held_against_it(filled, maps):
    place = maps.model.coordinates_angstrom.clone()
    wrong = (maps.model.residue >= 55) & (maps.model.residue < 67)
    about = maps.model.positions("CA")[54, 0]
    turn = from_rotation_vector(torch.tensor([1.2, 0.4, 0.0], dtype=torch.float64))
    place[wrong] = (place[wrong] - about) @ turn.T + about
    plddt = torch.full((80,), 90.0)
    plddt[55:67] = 62.0
    put_prediction(filled, elsewhere(maps.model.at(place)), plddt)
    judge_session.fn(filled.url, PARAMS)
    against = [d for d in read_verdict(filled, "refined").disagreements if d.side == "map"]
    covered = {n for d in against for n in range(int(d.first), int(d.last) + 1)}
    assert len(covered & set(range(56, 68))) >= 9 and len(covered - set(range(53, 71))) == 0
    assert "the engine itself is not sure of it" in against[0].why


def test_a_prediction_of_another_protein_is_refused(filled, maps):
    other = tuple(replace(residue, name="TRP") for residue in maps.model.residues)
    put_prediction(filled, replace(maps.model, residues=other), torch.full((80,), 90.0))
    (reason,) = judge_session.fn(filled.url, PARAMS).skipped.values()
    assert "no chain of the model stands for one of the prediction" in reason


def test_views_that_are_missing_are_named(filled, maps):
    """Particles of an octahedron that all look along one of its axes, and a goal that is not reached."""
    fill_session(filled)
    product = filled.product("particles/refined")
    particles = read_particles(product.read())
    flat = torch.zeros(len(particles.columns["rotation"]), 3)
    flat[:, 0] = torch.linspace(0, 6.28, len(flat))
    particles.columns["rotation"] = from_rotation_vector(flat).numpy()
    with product.write("refine_map", 1, StageParams(), {}) as attempt:
        write_particles(attempt, particles)
    params = PARAMS.model_copy(update={"prediction": None, "goal_angstrom": 2.0})
    report = judge_session.fn(filled.url, params)
    assert report.done, (report.failed, report.skipped)
    found = read_verdict(filled, "refined")
    assert found.missing.evenness < 0.3
    assert "views are uneven" in found.missing.views
    assert (
        found.decision == "rebuild here" and "clashscore" in found.reason
    )  # the cage's side chains were never refined
