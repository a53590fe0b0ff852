"""Structures are placed in a map of the store, parts and copies at once; what is not placed says why."""

import pytest
import torch
from pydantic import ValidationError

from kernels.models.atomic_model import joined
from kernels.models.residue_places import places_of_residues
from kernels.models.superposition import rmsd
from kernels.rotations import random_rotations
from tasks.dock_model import DockModelParams, dock_model
from tasks.docking.perturbed import hinged
from tasks.formats.map_file import write_map
from tasks.formats.prediction import Prediction
from tasks.formats.structure import write_structure
from tasks.import_map import ImportMapParams, import_map
from tasks.predict_structure import PredictStructureParams
from tasks.records.prediction import PredictionSource
from tasks.stores.products.docking_store import read_docking
from tasks.stores.products.model_store import read_model
from tasks.stores.products.prediction_store import write_predictions
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps

RESOLUTION = 6.0


def turned(model, seed):
    rotation = random_rotations(1, torch.Generator().manual_seed(seed))[0].double()
    return model.at((model.coordinates_angstrom - model.coordinates_angstrom.mean(0)) @ rotation.T + 150.0)


def two_copies():
    """One structure twice, the second turned and beside the first."""
    first = cage_subunit(60)
    second = turned(first, 4)
    middle = first.coordinates_angstrom.mean(0) + torch.tensor([4.0, 10.0, 34.0], dtype=torch.float64)
    second = second.at(second.coordinates_angstrom - second.coordinates_angstrom.mean(0) + middle)
    return first, second


def put_map(store, tmp_path, model, resolution=RESOLUTION):
    maps = simulated_maps(model, resolution, 1.8, 10.0)
    write_map(tmp_path / "map.mrc", maps.sharpened)
    import_map.fn(store.url, ImportMapParams(map=str(tmp_path / "map.mrc"), resolution_angstrom=resolution))


def put_prediction(store, prediction, name="predicted"):
    source = PredictionSource(engine="test")
    with store.product(f"predictions/{name}").write(
        "predict_structure", 1, PredictStructureParams(file="."), {}
    ) as made:
        write_predictions(made, [Prediction(prediction, source)])


def reason(report) -> str:
    (why,) = (*report.failed.values(), *report.skipped.values())
    return why


def test_both_copies_are_placed_and_a_third_is_not(store, workers, tmp_path):
    first, second = two_copies()
    put_map(store, tmp_path, joined([first, second]))
    write_structure(tmp_path / "own.pdb", turned(first, 9))
    params = DockModelParams(map="imported", models=(str(tmp_path / "own.pdb"),), copies=(3,))
    report = dock_model.fn(store.url, params)
    assert report.done, reason(report)
    found, told = read_model(store, "docked"), read_docking(store)
    assert {r.chain for r in found.residues} == {"A", "B"}
    placed = [
        places_of_residues(found.take_residues(torch.tensor([r.chain == name for r in found.residues])))
        for name in "AB"
    ]
    known = [places_of_residues(model) for model in (first, second)]
    apart = torch.tensor([[rmsd(a, b) for b in known] for a in placed])
    assert float(apart.amin(1).max()) < 1.5 and set(apart.argmin(1).tolist()) == {0, 1}
    for row in told.placed:
        assert row.part == "whole" and row.probability > 0.9 and row.contrast > 0.1 and row.overlap < 0.05
        rotation = torch.tensor(row.rotation, dtype=torch.float64)
        assert float(torch.linalg.det(rotation)) == pytest.approx(1, abs=1e-4)
    assert float(found.b_factor_angstrom2.min()) > 90
    (lacking,) = told.not_placed
    assert lacking.n_copies == 1 and "no density left for it" in lacking.reason
    assert dock_model.fn(store.url, params).kept


def test_the_parts_of_a_hinge_are_placed_apart(store, workers, tmp_path):
    truth = cage_subunit(110)
    put_map(store, tmp_path, truth)
    made = hinged(truth, 7.0, torch.Generator().manual_seed(2))
    put_prediction(store, made.prediction)
    report = dock_model.fn(store.url, DockModelParams(map="imported", predictions=("predicted",), copies=(1,)))
    assert report.done, reason(report)
    found, told = read_model(store, "docked"), read_docking(store)
    assert [row.part for row in told.placed] == ["part 1 of 2", "part 2 of 2"]
    numbers = {r.number: i for i, r in enumerate(truth.residues)}
    rows = torch.tensor([numbers[r.number] for r in found.residues])
    assert found.n_residues > 0.9 * truth.n_residues and len({r.chain for r in found.residues}) == 1
    assert rmsd(places_of_residues(found), places_of_residues(truth)[rows]) < 2.5 < made.rmsd_angstrom


def test_a_wrong_protein_is_not_placed(store, workers, tmp_path):
    truth = cage_subunit(70)
    put_map(store, tmp_path, truth)
    mirrored = truth.at(truth.coordinates_angstrom * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    write_structure(tmp_path / "wrong.pdb", mirrored)
    report = dock_model.fn(store.url, DockModelParams(map="imported", models=(str(tmp_path / "wrong.pdb"),)))
    assert "nothing is placed: wrong.pdb: its best place has a probability of 0." in reason(report)
    assert store.product("models/docked").record().state != "done"


def test_what_cannot_be_joined_is_said(store, workers, tmp_path):
    small, large = cage_subunit(30), cage_subunit(150)
    put_map(store, tmp_path, small)
    far = large.at(large.coordinates_angstrom * 8)
    write_structure(tmp_path / "large.pdb", far)
    report = dock_model.fn(store.url, DockModelParams(map="imported", models=(str(tmp_path / "large.pdb"),)))
    assert "so they cannot be joined; look at the map's voxel size" in reason(report)
    lacking = dock_model.fn(store.url, DockModelParams(map="imported", predictions=("none",)))
    assert "none" in reason(lacking)


def test_parameters_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ValidationError, match="nothing is to be placed"):
        DockModelParams()
    with pytest.raises(ValidationError, match="numbers of copies for 2 structures, expected 1"):
        DockModelParams(predictions=("a",), copies=(1, 2))
    with pytest.raises(ValidationError, match="there is no such file"):
        DockModelParams(models=(str(tmp_path / "none.pdb"),))
