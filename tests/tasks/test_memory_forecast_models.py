"""Peak memory, disk and time of the stages that make and judge models, against what was said before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kernels.models.atomic_model import AtomicModel
from tasks import build_model as building_stage
from tasks import choose_model as choice_stage
from tasks import compare_rounds as comparison_stage
from tasks import compare_states as comparing_stage
from tasks import dock_model as docking_stage
from tasks import rebuild_model as rebuilding_stage
from tasks import refine_model as refinement_stage
from tasks import validate_model as validation_stage
from tasks.build_model import BuildModelParams
from tasks.choose_model import ChooseModelParams
from tasks.compare_rounds import CompareRoundsParams
from tasks.docking.perturbed import bent
from tasks.formats.map_file import write_map
from tasks.formats.prediction import Prediction
from tasks.import_map import _ContentParams, _import
from tasks.model_refinement.params import RefineModelParams
from tasks.predict_structure import PredictStructureParams
from tasks.rebuild_model import RebuildModelParams
from tasks.records.density_map import DensityMap
from tasks.records.prediction import PredictionSource
from tasks.records.session import StageParams
from tasks.stores.commit import Record
from tasks.stores.products.map_store import describe
from tasks.stores.products.model_store import write_model
from tasks.stores.products.prediction_store import write_predictions
from tasks.stores.session_store import SessionStore
from tasks.validate_model import ValidateModelParams
from tasks.workers.stage import Stage, _make_product, _StoreOfGroup
from tests.truth.cage_model import cage_subunit, trace_of
from tests.truth.model_maps import simulated_maps
from tests.truth.peak_memory import assert_foreseen, peak_memory_bytes
from tests.truth.states import laid_elsewhere
from tests.truth.symmetric_maps import symmetric_maps
from tests.truth.wrong_models import with_flipped_peptide

STAGES: dict[str, tuple[Stage, str, StageParams]] = {
    "build": (
        building_stage._building,
        "models/built in imported",
        BuildModelParams(map="imported", n_turns=1),
    ),
    "build a round": (
        building_stage._building,
        "models/rebuilt-2 in imported",
        BuildModelParams(map="imported", n_turns=1, round=2),
    ),
    "refine": (
        refinement_stage._refinement,
        "models/refined",
        RefineModelParams(map="imported", monomer_library="/nowhere", without_library="real space"),
    ),
    "validate": (
        validation_stage._validation,
        "wrong in imported",
        ValidateModelParams(model="wrong", is_network_asked=True),
    ),
    "validate own": (
        validation_stage._validation,
        "refined in sharpened",
        ValidateModelParams(model="refined", map="sharpened"),
    ),
    "rebuild": (
        rebuilding_stage._rebuilding,
        "rebuilt-1 of wrong in imported",
        RebuildModelParams(model="wrong", map="imported"),
    ),
    "dock": (
        docking_stage._docking,
        "docked in imported of predicted",
        docking_stage._ContentParams(map="imported", predictions=("predicted",), copies=(1,), digests=()),
    ),
    "compare": (
        comparison_stage._comparison,
        "wrong, wrong in imported",
        CompareRoundsParams(models=("wrong", "wrong"), map="imported"),
    ),
    "choose": (
        choice_stage._choice,
        "chosen of wrong, wrong in imported",
        ChooseModelParams(models=("wrong", "wrong"), map="imported"),
    ),
}
_TOLD = {"model": "few", "other_model": "many", "other_name": "test", "other_fingerprint": ""}
COMPARISONS: dict[str, tuple[Stage, str, StageParams]] = {
    name: (
        comparing_stage._comparing,
        f"few and many as {name}",
        comparing_stage._KnownParams.model_validate({**_TOLD, "name": name, "has_pockets": has_pockets}),
    )
    for name, has_pockets in {"pockets": True, "none": False}.items()
}


def make(url: str, name: str) -> None:
    stage, item, params = {**STAGES, **COMPARISONS}[name]
    made = _make_product(item, _StoreOfGroup(url), stage, params)
    assert isinstance(made, Record) and made.state == "done", made


def put(store: SessionStore, name: str, model: AtomicModel) -> None:
    with store.product(f"models/{name}").write("refine_model", 1, StageParams(), {}) as attempt:
        write_model(attempt, model, name)


def fill(store: SessionStore, folder: Path, n_residues: int, voxel_size_angstrom: float) -> None:
    """Half maps and their map, and a model with errors in it."""
    maps = simulated_maps(cage_subunit(n_residues), 3.0, voxel_size_angstrom, padding_angstrom=8)
    paths = {}
    for name, grid in {"map": maps.sharpened, "half_1": maps.half_1, "half_2": maps.half_2}.items():
        paths[name] = str(folder / f"{name}.mrc")
        write_map(folder / f"{name}.mrc", grid)
    params = _ContentParams(digests=("", "", ""), **paths, resolution_angstrom=3.0)
    _make_product("maps/imported", _StoreOfGroup(store.url), _import, params)
    predicted = bent(cage_subunit(n_residues), 0.5, torch.Generator().manual_seed(1)).prediction
    source = PredictionSource(engine="test")
    of_file = PredictStructureParams(file=".")
    with store.product("predictions/predicted").write("predict_structure", 1, of_file, {}) as attempt:
        write_predictions(attempt, [Prediction(predicted, source)])
    put(store, "built", trace_of(maps.model, 0.4))
    put(store, "wrong", with_flipped_peptide(with_flipped_peptide(maps.model, 12), 22))


@pytest.mark.timeout(900)  # eight processes that compute for some 10 CPU-s each
def test_stages_of_a_model_take_what_was_foreseen(store, tmp_path):
    fill(store, tmp_path, 60, 0.9)
    for name, (stage, item, params) in STAGES.items():
        if name == "validate own":
            continue
        assert stage.needs is not None
        foreseen = stage.needs(store, [item], params)
        found = peak_memory_bytes(f"{__name__}:make", store.url, name)
        record = store.product(stage.address_of(item)).record()
        print(name, record.cpu_seconds, "CPU-s foreseen", foreseen.cpu_seconds, record.n_bytes, foreseen.disk_bytes)
        if name == "choose":  # some MB
            assert found < foreseen.memory_bytes < 50_000_000
            continue
        assert_foreseen(foreseen, found)
        assert record.n_bytes <= foreseen.disk_bytes
        assert 0.4 * record.cpu_seconds < foreseen.cpu_seconds < max(4 * record.cpu_seconds, 2.0)


def test_states_of_different_sizes_take_what_was_foreseen(store):
    put(store, "few", cage_subunit(60))
    put(store, "many", laid_elsewhere(cage_subunit(), 0.3))
    for name, (stage, item, params) in COMPARISONS.items():
        assert stage.needs is not None
        foreseen = stage.needs(store, [item], params)
        assert foreseen.told_from == "156 residues"
        assert_foreseen(foreseen, peak_memory_bytes(f"{__name__}:make", store.url, name))
        record = store.product(stage.address_of(item)).record()
        assert record.n_bytes <= foreseen.disk_bytes


def fill_own(store: SessionStore, symmetry: str, padding_angstrom: float) -> None:
    """A session's own symmetric map, whose halves are in another product, and a model of its unit."""
    maps = symmetric_maps(symmetry, 60, 3.5, padding_angstrom=padding_angstrom)
    z, y, x = maps.sharpened.origin_angstrom.tolist()
    for name, arrays in {
        "refined": {"map": maps.half_1, "half_1": maps.half_1, "half_2": maps.half_2},
        "sharpened": {"map": maps.sharpened},
    }.items():
        about = DensityMap(
            name=name, kind=name, pixel_size_angstrom=maps.sharpened.voxel_size_angstrom, symmetry=symmetry,
            resolution_angstrom=3.5, origin_angstrom=(z, y, x),
        )  # fmt: skip
        with store.product(f"maps/{name}").write(f"{name}_map", 1, StageParams(), {}) as attempt:
            for array, grid in arrays.items():
                attempt.write(array, grid.voxels.numpy().astype(np.float32))
            describe(attempt, about)
    put(store, "refined", maps.model)


@pytest.mark.parametrize(("symmetry", "padding_angstrom"), [("D2", 8.0), ("C2", 40.0)])
def test_a_validation_in_a_sessions_own_map_takes_what_was_foreseen(store, symmetry, padding_angstrom):
    """Full of copies, or mostly solvent; with the halves of its refinement."""
    fill_own(store, symmetry, padding_angstrom)
    stage, item, params = STAGES["validate own"]
    foreseen = stage.needs(store, [item], params)
    found = peak_memory_bytes(f"{__name__}:make", store.url, "validate own")
    assert store.product("validations/refined").record().figures["resolution_angstrom"] != 3.5  # the halves told it
    ratio = foreseen.memory_bytes / found
    print(f"{symmetry}: foreseen {foreseen.memory_bytes / 1e6:.0f} MB, found {found / 1e6:.0f}: {ratio:.2f}")
    assert 0.78 < ratio < 1.3
