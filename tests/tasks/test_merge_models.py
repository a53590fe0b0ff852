"""A traced model with a gap and a bent prediction in a simulated map become one model that is nearer to the truth."""

import pytest
import torch

from kernels.models.atomic_model import AtomicModel
from kernels.models.predicted_structure import PredictedStructure
from kernels.rotations import from_rotation_vector, random_rotations
from tasks.formats.map_file import write_map
from tasks.formats.prediction import Prediction
from tasks.import_map import ImportMapParams, import_map
from tasks.merge_models import MergeModelsParams, merge_models
from tasks.records.prediction import PredictionSource
from tasks.records.session import StageParams
from tasks.stores.products.model_store import read_model, write_model
from tasks.stores.products.prediction_store import write_predictions
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps

GAP, HINGE = slice(30, 42), 45


def put(store, name: str, model: AtomicModel) -> None:
    with store.product(f"models/{name}").write("import_model", 1, StageParams(), {}) as attempt:
        write_model(attempt, model, name)


def off(model: AtomicModel, truth: AtomicModel) -> torch.Tensor:
    return (model.positions("CA")[:, 0] - truth.positions("CA")[:, 0]).norm(dim=1)


@pytest.fixture(scope="module")
def maps():
    return simulated_maps(cage_subunit(80), 3.0)


@pytest.fixture
def filled(store, workers, maps, tmp_path):
    write_map(tmp_path / "map.mrc", maps.sharpened)
    import_map.fn(store.url, ImportMapParams(map=str(tmp_path / "map.mrc"), resolution_angstrom=3.0))
    there = torch.ones(80, dtype=torch.bool)
    there[GAP] = False
    put(store, "refined", maps.model.take_residues(there))
    return store


def test_gaps_are_filled_by_a_prediction_that_is_bent_onto_the_trace(filled, maps):
    truth = maps.model
    turn = from_rotation_vector(torch.tensor([0.2, 0.0, 0.1], dtype=torch.float64))
    place, about = truth.coordinates_angstrom.clone(), truth.positions("CA")[HINGE, 0]
    moved = truth.residue >= HINGE
    place[moved] = (place[moved] - about) @ turn.T + about
    predicted = truth.at(place)
    assert off(predicted, truth).max() > 5
    put(filled, "docked", predicted)
    params = MergeModelsParams(map="imported")
    report = merge_models.fn(filled.url, params)
    assert report.done == ["merged of refined and docked in imported"], (report.failed, report.skipped)
    model, record = read_model(filled, "merged"), filled.product("models/merged").record()
    assert [str(r) for r in model.residues] == [str(r) for r in truth.residues]
    assert off(model, truth)[GAP].max() < 1.5 and off(model, truth).max() < 2
    rows = record.details["residues"]
    assert {row["source"] for row in rows[GAP]} <= {"bent", "predicted"}
    assert record.figures["n_traced"] + record.figures["n_predicted"] + record.figures["n_bent"] == 80
    assert merge_models.fn(filled.url, params).kept == report.done
    again = merge_models.fn(filled.url, params.model_copy(update={"round": 2}))
    assert again.done == ["rebuilt-2 of refined and docked in imported"]
    assert read_model(filled, "rebuilt-2").n_residues == 80


def test_a_prediction_that_was_not_docked_is_laid_on_the_trace(filled, maps):
    """Somewhere else, in an orientation of its own, and not sure of its last residues."""
    truth = maps.model
    turn = random_rotations(1, torch.Generator().manual_seed(5))[0].double()
    plddt = torch.full((80,), 90.0)
    plddt[75:] = 40.0
    structure = PredictedStructure(truth.at(truth.coordinates_angstrom @ turn.T + 90.0), plddt, None)
    with filled.product("predictions/alone").write("predict_structure", 1, StageParams(), {}) as attempt:
        write_predictions(attempt, [Prediction(structure, PredictionSource(engine="Boltz"))])
    params = MergeModelsParams(map="imported", placed="predictions/alone")
    report = merge_models.fn(filled.url, params)
    assert report.done == ["merged of refined and predictions/alone in imported"], (report.failed, report.skipped)
    model = read_model(filled, "merged")
    assert [str(r) for r in model.residues] == [str(r) for r in truth.residues]  # the last ones were traced
    assert off(model, truth).max() < 1.5


def test_models_of_other_molecules_are_told(filled, maps):
    put(filled, "docked", maps.model.at(maps.model.coordinates_angstrom + 80.0))
    (reason,) = merge_models.fn(filled.url, MergeModelsParams(map="imported")).skipped.values()
    assert "no chain of models/refined stands for one of models/docked" in reason and "same molecule" in reason
