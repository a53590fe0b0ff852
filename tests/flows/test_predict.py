"""Predictions from files at the command line, and what it says where there is none."""

import torch
from typer.testing import CliRunner

from flows.cli import app
from tasks.formats.structure import write_structure
from tasks.stores.products.prediction_store import read_prediction
from tasks.stores.session_store import SessionStore
from tests.tasks.formats.test_prediction import files_of
from tests.tasks.test_predict_structure import judge
from tests.truth.cage_model import cage_subunit
from tests.truth.stand_in_engine import command_of, stand_in


def run(*arguments):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)], env={"COLUMNS": "200"})


def test_a_prediction_is_taken_over_from_a_folder(connected, tmp_path):
    (tmp_path / "run").mkdir()
    for name, content in files_of("AlphaFold Server").items():
        (tmp_path / "run" / name).write_bytes(content)
    (tmp_path / "own.fasta").write_text(">own\nACDEFGHIKLMN\n")
    done = run("--session", tmp_path / "s.zarr", "--from", tmp_path / "run", "--sequence", tmp_path / "own.fasta")
    assert done.exit_code == 0, done.output
    assert "AlphaFold Server: 12 residues in 1 chains, pLDDT 65" in done.output
    assert "no commercial use" in done.output
    assert read_prediction(SessionStore.open(str(tmp_path / "s.zarr")), "predicted", 1).structure.ptm == 0.7


def test_what_is_missing_is_said_at_the_command_line(connected, tmp_path):
    (tmp_path / "own.fasta").write_text(">own\nACDEFGHIKLMN\n")
    asked = ["--session", tmp_path / "s.zarr", "--sequence", tmp_path / "own.fasta"]
    refused = run(*asked, "--engine", "colabfold", "--program", "none-such", "--ask-server")
    assert refused.exit_code == 1
    assert "there is no program 'none-such'; install it" in " ".join(refused.output.split())
    unknown = run(*asked, "--engine", "crystal")
    assert unknown.exit_code == 1 and "'boltz' or 'colabfold'" in unknown.output


def test_an_engine_is_shown_a_model_at_the_command_line(connected, tmp_path):
    model = cage_subunit(40)
    write_structure(tmp_path / "known.cif", model)
    program = command_of(tmp_path / "bin" / "boltz", f"STAND_IN_STATES={tmp_path}/known.cif {stand_in('boltz')}")
    store = SessionStore.create(str(tmp_path / "s.zarr"))
    judge(store, "chosen", model, torch.arange(40) < 30)
    (tmp_path / "own.fasta").write_text(f">own\n{model.sequences['A']}\n")
    asked = ["--session", store.url, "--sequence", tmp_path / "own.fasta", "--program", program, "--ask-server"]
    done = run(*asked, "--template", "chosen", "--name", "second", "--samples", 1)
    assert done.exit_code == 0, done.output
    assert "shown 30 of 40 residues of chain A as in models/chosen" in done.output
    absent = run(*asked, "--template", "none")
    assert absent.exit_code == 1 and "models/none" in " ".join(absent.output.split())
