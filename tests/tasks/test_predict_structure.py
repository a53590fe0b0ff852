"""Engines are run as programs of their own, files are read as they are, and what is missing is named."""

import json
import os
import time
from dataclasses import replace

import pytest
import torch
import yaml
from pydantic import ValidationError

from kernels.models.atomic_model import joined
from kernels.models.superposition import least_rmsd
from kernels.rotations import from_rotation_vector
from tasks.formats.structure import write_structure
from tasks.predict_structure import PredictStructureParams, predict_structure
from tasks.records.session import StageParams
from tasks.stores.products.model_store import write_model
from tasks.stores.products.prediction_store import read_prediction
from tasks.stores.products.validation_store import write_validation
from tasks.stores.session_store import SessionStore
from tests.truth.cage_model import cage_subunit
from tests.truth.modelled_session import Modelled, validation_of
from tests.truth.stand_in_engine import PLDDT, command_of, stand_in

SEQUENCE = "ACDEFGHIKLMNQRSTVWYAACDE"


@pytest.fixture
def store(tmp_path, workers):
    return SessionStore.create(str(tmp_path / "s.zarr"))


@pytest.fixture
def program(tmp_path):
    """The stand-in under a name of its own, as an engine is in another environment."""

    def made(engine: str, body: str | None = None) -> str:
        return command_of(tmp_path / "bin" / engine, body or stand_in(engine))

    return made


def bend(model, after: int, degrees: float):
    """The model with its chain turned about a residue, from there on."""
    turn = from_rotation_vector(torch.deg2rad(torch.tensor([degrees, 0.0, 0.0], dtype=torch.float64)))
    place, about = model.coordinates_angstrom.clone(), model.positions("CA")[after, 0]
    moved = model.residue >= after
    place[moved] = (place[moved] - about) @ turn.T + about
    return model.at(place)


def judge(store, name, model, is_trusted):
    """A model of the store, and a validation that trusts some of its residues."""
    with store.product(f"models/{name}").write("refine_model", 1, StageParams(), {}) as attempt:
        write_model(attempt, model, name)
    told = validation_of(Modelled(model, torch.where(is_trusted, 0.9, 0.2)))
    last = told.residues[-1].model_copy(update=vars(model.residues[-1]))
    rows = (*told.residues, last.model_copy(update={"verdict": "trust" if is_trusted[-1] else "rebuild"}))
    inputs = store.fingerprints([f"models/{name}"])
    with store.product(f"validations/{name}").write("validate_model", 1, StageParams(), inputs) as attempt:
        write_validation(attempt, told.model_copy(update={"residues": rows}))


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


N, HIDDEN = 60, slice(24, 45)
"""Residues of a protein, and those of its model that are not trusted: more than a search bridges."""


@pytest.fixture
def two_states(store, program, tmp_path, monkeypatch):
    """A protein that the engine believes to be bent; ``models/refined`` is straight, and numbered from 101."""
    straight = cage_subunit(N)
    bent = bend(straight, 20, 40.0)
    for name, model in {"bent": bent, "straight": straight}.items():
        write_structure(tmp_path / f"{name}.cif", model)
    monkeypatch.setenv("STAND_IN_STATES", os.pathsep.join(str(tmp_path / f"{n}.cif") for n in ("bent", "straight")))
    is_trusted = torch.ones(N, dtype=torch.bool)
    is_trusted[HIDDEN], is_trusted[2] = False, False  # two residues before the second are too few to be shown
    renumbered = tuple(replace(r, chain="X", number=r.number + 100) for r in straight.residues)
    judge(store, "refined", replace(straight, residues=renumbered), is_trusted)
    letters = straight.sequences["A"]

    def asked(engine="boltz", **changes):
        if "program" not in changes:
            changes["program"] = program(engine)
        given = {"sequences": (letters,), "alignments": (alignment(tmp_path, letters),), "n_samples": 4}
        return PredictStructureParams(engine=engine, **(given | changes))

    return straight, bent, asked


def away(store, name, truth) -> float:
    """Å between the Cα of a prediction and those of a state."""
    found = read_prediction(store, name).structure.model
    return least_rmsd(found.positions("CA")[:, 0], truth.positions("CA")[:, 0])


@pytest.mark.parametrize("engine", ["boltz", "colabfold"])
def test_an_engine_that_is_shown_a_model_predicts_nearer_to_it(store, two_states, engine):
    straight, bent, asked = two_states
    assert predict_structure.fn(store.url, asked(engine)).done == ["predictions/predicted"]
    assert away(store, "predicted", bent) < 0.01 < 3 < away(store, "predicted", straight)
    params = asked(engine, name="again", template="refined")
    report = predict_structure.fn(store.url, params)
    assert report.done == ["predictions/again with refined"], report.failed
    assert away(store, "again", straight) < 0.01
    record = store.product("predictions/again").record()
    assert set(record.inputs) == {"models/refined", "validations/refined"}
    n_shown = N - 3 - (HIDDEN.stop - HIDDEN.start)
    (told,) = record.details["template"]["chains"]
    assert told == {"chain": "A", "of": "X", "shown": n_shown, "residues": N}
    assert read_prediction(store, "again").source.template == "refined"
    # of ColabFold's networks for one chain two read templates, so no more are asked
    assert record.figures["n_predictions"] == (4 if engine == "boltz" else 2)
    assert predict_structure.fn(store.url, params).kept == report.done


@pytest.mark.parametrize("engine", ["boltz", "colabfold"])
def test_an_engine_that_passes_over_its_template_is_told(store, two_states, monkeypatch, engine):
    _, _, asked = two_states
    monkeypatch.setenv("STAND_IN_IS_BLIND", "1")
    why = reason(predict_structure.fn(store.url, asked(engine, template="refined")))
    assert {"boltz": "version 2.1; update it", "colabfold": "hhsearch and kalign are in its"}[engine] in why


def test_an_engine_that_does_not_know_templates_says_so_itself(store, two_states, program):
    _, _, asked = two_states
    old = program("colabfold", "echo colabfold_batch: error: unrecognized arguments: --custom-template-path; exit 2")
    why = reason(predict_structure.fn(store.url, asked("colabfold", template="refined", program=old)))
    assert "ended with code 2" in why and "unrecognized arguments: --custom-template-path" in why
    first = program(
        "boltz", "mkdir -p out/p; touch out/p/manifest.json; echo Templates are not supported in Boltz 1.0!"
    )
    why = reason(predict_structure.fn(store.url, asked(template="refined", program=first)))
    assert "holds no predictions (manifest.json)" in why and "it said: Templates are not supported in Boltz 1.0!" in why


def test_how_near_to_its_template_boltz_stays_is_told_it(store, two_states, program, tmp_path):
    _, _, asked = two_states
    seen = program("boltz", f"cp predicted.yaml {tmp_path}/seen.yaml; {stand_in('boltz')}")
    params = asked(template="refined", most_from_template_angstrom=2.5, program=seen)
    report = predict_structure.fn(store.url, params)
    assert not report.failed, report.failed
    (entry,) = yaml.safe_load((tmp_path / "seen.yaml").read_text())["templates"]
    assert entry.pop("cif").endswith("template.cif")
    assert entry == {"chain_id": ["A"], "template_id": ["A"], "force": True, "threshold": 2.5}
    why = reason(predict_structure.fn(store.url, asked("colabfold", template="refined", most_from_template_angstrom=2)))
    assert "cannot be held to its template" in why


def test_each_copy_sees_the_chain_that_stands_for_it(store, two_states, program, tmp_path):
    straight, _, asked = two_states
    second = tuple(replace(r, chain="C") for r in straight.residues)
    both = joined([straight, replace(straight, residues=second).at(straight.coordinates_angstrom + 40.0)])
    judge(store, "both", both, torch.ones(2 * N, dtype=torch.bool))
    report = predict_structure.fn(store.url, asked(template="both", copies=(3,)))
    assert not report.failed, report.failed
    told = store.product("predictions/predicted").record().details["template"]["chains"]
    assert [(one["chain"], one["of"]) for one in told] == [("A", "A"), ("B", "C")]


def test_what_cannot_be_a_template_is_told(store, two_states, tmp_path):
    straight, _, asked = two_states
    other = "ACDEFGHIKLMNQRSTVWYAACDEACDEFGHIKLMNQRSTVW"
    params = asked(template="refined", sequences=(other,), alignments=(), is_server_asked=True)
    why = reason(predict_structure.fn(store.url, params))
    assert "models/refined cannot be a template: the chain most like" in why and "give a model of this protein" in why
    judge(store, "doubtful", straight, torch.arange(N) < 12)
    why = reason(predict_structure.fn(store.url, asked(template="doubtful")))
    assert "trusts 12 residues of the chain that is known best" in why
    (why,) = predict_structure.fn(store.url, asked(template="none")).skipped.values()
    assert "models/none" in why
    with store.product("models/refined").write("refine_model", 2, StageParams(), {}) as attempt:
        write_model(attempt, straight, "refined")
    why = reason(predict_structure.fn(store.url, asked(template="refined")))
    assert "validations/refined is of an earlier models/refined; run validate_model again" in why
    with pytest.raises(ValidationError, match="is a prediction that was made already"):
        PredictStructureParams(file=str(tmp_path / "bent.cif"), template="refined")
    with pytest.raises(ValidationError, match="name the model to be near to"):
        asked(most_from_template_angstrom=2.0)
