"""Engines are run as programs of their own, files are read as they are, and what is missing is named."""

import json
import stat
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from tasks.predict_structure import PredictStructureParams, predict_structure
from tasks.stores.products.prediction_store import read_prediction
from tasks.stores.session_store import SessionStore
from tests.truth.stand_in_engine import PLDDT

SEQUENCE = "ACDEFGHIKLMNQRSTVWYAACDE"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path, workers):
    return SessionStore.create(str(tmp_path / "s.zarr"))


@pytest.fixture
def program(tmp_path):
    """The stand-in under a name of its own, as an engine is in another environment."""

    def made(engine: str, body: str | None = None) -> str:
        path = tmp_path / "bin" / engine
        path.parent.mkdir(exist_ok=True)
        run = body or f'PYTHONPATH={ROOT} exec {sys.executable} -m tests.truth.stand_in_engine {engine} "$@"'
        path.write_text(f"#!/bin/sh\n{run}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return made


def alignment(tmp_path, letters=SEQUENCE) -> str:
    path = tmp_path / "own.a3m"
    path.write_text(f">query\n{letters}\n>other\n{letters[:-4]}----\n")
    return str(path)


def reason(report) -> str:
    (why,) = report.failed.values()
    return why


@pytest.mark.parametrize("engine", ["boltz", "colabfold"])
def test_an_engine_predicts(store, program, tmp_path, engine):
    params = PredictStructureParams(
        engine=engine, program=program(engine), sequences=(SEQUENCE,), alignments=(alignment(tmp_path),), n_samples=2
    )
    report = predict_structure.fn(store.url, params)
    assert not report.failed, report.failed
    first, second = (read_prediction(store, "predicted", rank) for rank in (0, 1))
    assert first.structure.model.n_residues == len(SEQUENCE)
    assert float(first.structure.plddt.mean()) == pytest.approx(PLDDT, abs=0.01)
    assert first.structure.pae_angstrom is not None and first.structure.pae_angstrom[0, 10] == 5
    assert first.structure.ptm > second.structure.ptm
    assert first.source.engine.lower() == engine and first.source.licence
    again = predict_structure.fn(store.url, params)
    assert again.kept == ["predictions/predicted"]
    with pytest.raises(ValueError, match="has 2 predictions, not one of rank 2"):
        read_prediction(store, "predicted", 2)


def test_copies_and_ligands_reach_the_engine(store, program, tmp_path):
    params = PredictStructureParams(
        program=program("boltz"),
        sequences=(SEQUENCE, "rna:GGGGAAAACCCC"),
        copies=(2, 1),
        ligands=("ATP", "smiles:CCO"),
        alignments=(alignment(tmp_path),),
        n_samples=1,
    )
    report = predict_structure.fn(store.url, params)
    # the stand-in leaves nucleic acids out, so that what was asked for is not what came
    assert "sequence 2 (GGGGAAAACCCC…, 12 residues) is none of the prediction's" in reason(report)
    report = predict_structure.fn(
        store.url, params.model_copy(update={"sequences": (SEQUENCE,), "copies": (2,), "ligands": ("ATP",)})
    )
    assert not report.failed, report.failed
    model = read_prediction(store, "predicted").structure.model
    assert {r.chain for r in model.residues} == {"A", "B"}


def test_a_missing_engine_is_named_with_the_next_step(store, program, tmp_path):
    asked = {"sequences": (SEQUENCE,), "alignments": (alignment(tmp_path),)}
    why = reason(predict_structure.fn(store.url, PredictStructureParams(**asked, program="no-such-program")))
    assert "there is no program 'no-such-program'; install it" in why
    weights = PredictStructureParams(**asked, program=program("boltz"), weights=str(tmp_path / "none"))
    assert "there is no folder of weights" in reason(predict_structure.fn(store.url, weights))
    alone = PredictStructureParams(sequences=(SEQUENCE,), program=program("boltz"))
    assert "sequence 1 has no alignment; give one" in reason(predict_structure.fn(store.url, alone))
    assert (
        not store.product("predictions/predicted").has_data()
        if hasattr(store.product("predictions/predicted"), "has_data")
        else store.product("predictions/predicted").record().state == "failed"
    )


def test_an_engine_that_fails_says_what_it_said(store, program, tmp_path):
    asked = {"sequences": (SEQUENCE,), "alignments": (alignment(tmp_path),)}
    broken = program("boltz", "echo out of memory on device 0; exit 3")
    why = reason(predict_structure.fn(store.url, PredictStructureParams(**asked, program=broken)))
    assert "ended with code 3: out of memory on device 0" in why
    empty = program("boltz", "exit 0")
    assert "wrote nothing" in reason(predict_structure.fn(store.url, PredictStructureParams(**asked, program=empty)))


def test_an_engine_that_hangs_is_ended_with_all_that_it_started(store, program, tmp_path):
    mark = tmp_path / "alive"
    slow = program("boltz", f"(sleep 6; touch {mark}) & sleep 60")
    params = PredictStructureParams(sequences=(SEQUENCE,), alignments=(alignment(tmp_path),), program=slow, seconds=1.0)
    assert "did not finish within 1 s" in reason(predict_structure.fn(store.url, params))
    time.sleep(7)
    assert not mark.exists()


def test_colabfold_predicts_proteins_alone(store, program, tmp_path):
    params = PredictStructureParams(
        engine="colabfold", program=program("colabfold"), sequences=(SEQUENCE,), ligands=("ATP",),
        alignments=(alignment(tmp_path),),
    )  # fmt: skip
    assert "predicts proteins alone, found ligands; take Boltz" in reason(predict_structure.fn(store.url, params))


def test_a_prediction_of_another_protein_is_refused(store, tmp_path):
    from tests.tasks.formats.test_prediction import files_of

    (tmp_path / "run").mkdir()
    for name, content in files_of("ColabFold").items():
        (tmp_path / "run" / name).write_bytes(content)
    own = PredictStructureParams(file=str(tmp_path / "run"), sequences=("MACDEFGHIKLMNGS",))
    assert not predict_structure.fn(store.url, own).failed
    other = PredictStructureParams(file=str(tmp_path / "run"), sequences=("WWWWYYYYWWWWYYYY",), name="other")
    assert "is none of the prediction's" in reason(predict_structure.fn(store.url, other))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing is to be predicted"),
        ({"sequences": ("ACB1",)}, "letters that no engine takes in protein: 1, B"),
        ({"sequences": ("ACDE",), "ligands": ("C1CC=O(",)}, "write SMILES as smiles:"),
        ({"sequences": ("ACDE",), "copies": (1, 2)}, "give one positive number for each"),
        ({"sequences": ("ACDE",), "alignments": ("/none.a3m",)}, "there is no such file; give an alignment"),
        ({"file": "/none.zip"}, "is not there; give a model file"),
    ],
)
def test_what_cannot_be_asked_for_is_told_at_once(given, message):
    with pytest.raises(ValidationError, match=message):
        PredictStructureParams(**given)


def test_an_alignment_of_another_sequence_is_told(tmp_path):
    with pytest.raises(ValidationError, match="expected that of sequence 1, ACDE"):
        PredictStructureParams(sequences=(SEQUENCE,), alignments=(alignment(tmp_path, "MKV" + SEQUENCE),))


def test_the_record_tells_where_it_comes_from(store, program, tmp_path):
    params = PredictStructureParams(
        program=program("boltz"), sequences=(SEQUENCE,), alignments=(alignment(tmp_path),), n_samples=1
    )
    predict_structure.fn(store.url, params)
    record = store.product("predictions/predicted").record()
    told = json.loads(json.dumps(record.details["predictions"]))
    assert told[0]["source"]["engine"] == "Boltz"
    assert len(told[0]["source"]["sha256"]) == 3
