"""A model with a gap beside a prediction: what fills the gap is told, and decided on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from kernels.models.atomic_model import AtomicModel
from kernels.models.disagreement import AGREE, MAP, NOT_BUILT
from kernels.models.predicted_structure import PredictedStructure
from kernels.models.residue_ranges import rows_of_ranges
from kernels.rotations import from_rotation_vector, random_rotations
from tasks.formats.map_file import write_map
from tasks.formats.prediction import Prediction
from tasks.import_map import ImportMapParams, import_map
from tasks.judge_session import JudgeSessionParams, judge_session
from tasks.records.prediction import PredictionSource
from tasks.records.session import StageParams
from tasks.stores.products.model_store import read_model, write_model
from tasks.stores.products.particle_store import read_particles, write_particles
from tasks.stores.products.prediction_store import write_predictions
from tasks.stores.products.verdict_store import read_verdict, sides_of_residues, standing_verdict
from tasks.validate_model import ValidateModelParams, validate_model
from tests.truth.cage_model import cage_subunit
from tests.truth.filled_session import fill_session
from tests.truth.model_maps import simulated_maps

GAP = slice(30, 42)
ON_MAP = JudgeSessionParams(model=None)
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
    side = sides_of_residues(filled, "refined")
    assert side.shape == (68,) and (side == AGREE).mean() > 0.8 and NOT_BUILT not in side
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
    side = sides_of_residues(filled, "refined")
    model = read_model(filled, "refined")
    rows = [i for some in rows_of_ranges(model, [told for d in against for told in d.of_model]) for i in some]
    assert (side[rows] == MAP).all() and {model.residues[i].number for i in rows} == covered


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


def put_forecast(store, goal_angstrom: float | None) -> None:
    """A curve that reaches 4 Å with 2,000 particles."""
    n = np.geomspace(50, 5_000, 30)
    expected = 4.0 * np.sqrt(np.log(2_000) / np.log(n))
    with store.product("session/resolution_forecast").write("forecast_resolution", 2, StageParams(), {}) as attempt:
        attempt.write("points", np.array([[50, 5.6, 1e-3]]))
        attempt.write("curve", np.stack([n, expected, 0.98 * expected, 1.02 * expected], axis=1))
        attempt.figures.update(
            verdict="4.4 Å (4.2 to 4.6) with 20 exposures", goal_angstrom=goal_angstrom, particles_per_exposure=10.0,
            limit_angstrom=2.0,
        )  # fmt: skip


def test_a_session_without_a_model_is_told_how_many_particles_it_lacks(store, workers):
    """The filled session reaches 5.6 Å with views from everywhere."""
    fill_session(store)
    put_forecast(store, goal_angstrom=None)
    report = judge_session.fn(store.url, ON_MAP)
    assert report.done == ["sharpened"], (report.failed, report.skipped)
    found = read_verdict(store, None)
    assert found.decision == "collect more data"
    assert "the map reaches 5.60 Å, chains can be traced from 4 Å on" in found.reason
    assert abs(found.missing.needed.n_particles - 2_000) < 20
    assert found.missing.needed.n_exposures in (200, 201)
    assert f"{found.missing.needed.n_exposures} exposures like these" in found.reason
    assert "4.4 Å (4.2 to 4.6) with 20 exposures" in found.reason
    assert judge_session.fn(store.url, ON_MAP).kept == report.done


def test_the_goal_of_the_recipe_counts_where_no_other_is_given(store, workers):
    fill_session(store)
    put_forecast(store, goal_angstrom=6.0)
    judge_session.fn(store.url, ON_MAP)
    found = read_verdict(store, None)
    assert found.goal_angstrom == 6.0 and found.decision == "build a model"
    judge_session.fn(store.url, ON_MAP.model_copy(update={"goal_angstrom": 5.0}))
    assert read_verdict(store, None).decision == "collect more data"


def test_a_verdict_stands_until_what_it_rests_on_is_made_anew(filled):
    fill_session(filled)
    assert standing_verdict(filled) is None
    judge_session.fn(filled.url, ON_MAP)
    assert standing_verdict(filled).params["model"] is None
    judge_session.fn(filled.url, PARAMS.model_copy(update={"prediction": None}))
    assert standing_verdict(filled).params["model"] == "refined"
    with filled.product("maps/refined").write("refine_map", 9, StageParams(), {}) as attempt:
        attempt.figures["resolution_angstrom"] = 5.0
    assert standing_verdict(filled) is None


def test_a_session_without_a_map_is_not_judged(store, workers):
    (reason,) = judge_session.fn(store.url, ON_MAP).skipped.values()
    assert "maps/sharpened" in reason
    assert standing_verdict(store) is None
