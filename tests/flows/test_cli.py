"""The command line: what it prints, and errors that an operator can act on."""

import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

from flows.cli import app
from tasks.formats.map_file import write_map
from tasks.formats.structure import write_structure
from tasks.judge_session import JudgeSessionParams, judge_session
from tasks.records.session import StageParams
from tasks.stores.session_store import SessionStore
from tasks.validation.simulated_map import simulate_map
from tests.truth import deposited_session
from tests.truth.filled_session import fill_session
from tests.truth.ideal_proteins import ideal_protein

runner = CliRunner()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status", "/nowhere/session.zarr"], "found no session"),
        (["process", "--session", "s.zarr"], "give one of --movies and --micrographs"),
        (["process", "--session", "s.zarr", "--movies", ".", "--set", "symmetry"], "expected name=value"),
        (["process", "--session", "s.zarr", "--movies", "."], "pick_particles.diameter_angstrom: Field required"),
        (["process", "--session", "s.zarr", "--movies", ".", "--recipe", "none"], "give a YAML file or one of"),
        (["forecast", "/nowhere", "--diameter", "130"], "/nowhere: is not a folder"),
        (["forecast", "/nowhere"], "pick_particles.diameter_angstrom: Field required"),
        (["deposit", "/nowhere/session.zarr", "bundle", "--about", "about.yaml"], "found no session"),
        (["deposit", "/nowhere/session.zarr"], "give a new folder and --about FILE, or --template FILE"),
        (["verify", "/nowhere"], "is no bundle of `vitriflow deposit`"),
    ],
)
def test_a_wrong_call_says_what_to_do(arguments, words):
    result = runner.invoke(app, arguments, env={"COLUMNS": "400"})
    assert result.exit_code != 0
    assert words in result.output
    assert "Traceback" not in result.output


def test_the_ledger_is_shown_and_balances(store):
    fill_session(store)
    result = runner.invoke(app, ["status", store.url, "--rebuild"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    numbers = [int(word) for word in result.output.split("seen =")[1].split() if word.isdigit()]
    assert sum(numbers[:4]) == int(result.output.split("seen =")[0].split()[-1])


def test_the_status_says_what_is_to_be_done_next_while_it_holds(store, workers):
    fill_session(store)
    judge_session.fn(store.url, JudgeSessionParams(model=None))
    told = runner.invoke(app, ["status", store.url], env={"COLUMNS": "200"}).output
    assert "Next        collect more data: the map reaches 5.60 Å, chains can be traced from 4 Å on" in told
    with store.product("maps/sharpened").write("sharpen_map", 9, StageParams(), {}):
        pass
    assert "Next" not in runner.invoke(app, ["status", store.url], env={"COLUMNS": "200"}).output


def test_what_a_session_will_need_is_told_from_its_store(store):
    fill_session(store)
    arguments = ["forecast", store.url, "--diameter", "130", "--symmetry", "O"]
    result = runner.invoke(app, arguments, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    rows = {line.split("│")[1].strip(): line for line in result.output.splitlines() if line.startswith("│")}
    assert set(rows) >= {"correct_motion", "classify_2d", "refine_map", "all"}
    assert "300 × 340 px" in rows["correct_motion"]


def test_a_second_export_is_refused_until_it_may_overwrite(store, tmp_path):
    fill_session(store)
    folder = str(tmp_path / "exported")
    assert runner.invoke(app, ["export", store.url, folder]).exit_code == 0
    refused = runner.invoke(app, ["export", store.url, folder])
    assert refused.exit_code == 1
    assert "--overwrite" in refused.output
    assert runner.invoke(app, ["export", store.url, folder, "--overwrite"]).exit_code == 0


def test_the_status_says_whose_a_session_is(tmp_path, monkeypatch):
    monkeypatch.setenv("VITRIFLOW_OWNER", "m.curie")
    store = SessionStore.create(str(tmp_path / "session.zarr"))
    result = runner.invoke(app, ["status", store.url], env={"COLUMNS": "200"})
    assert f"Owner m.curie, group {store.session.group}" in result.output


def test_the_status_is_shown_without_what_only_flows_need():
    """Importing it all takes seconds, and the status is asked for often."""
    program = "import sys, flows.cli, flows.commands.status; print(sorted({'torch', 'prefect'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == "[]"


def test_every_command_says_what_it_does():
    listed = runner.invoke(app, ["--help"]).output
    for name in ("up", "down", "deploy", "process", "forecast", "watch", "demo", "status", "sessions", "compare",
                 "export", "compare-states", "sweep", "restore"):  # fmt: skip
        assert f" {name} " in listed
        found = runner.invoke(app, [name, "--help"])
        assert found.exit_code == 0 and f" {name} " in found.output, found.output


def test_a_model_is_judged_and_its_table_written(tmp_path):
    model = ideal_protein("SAFSLKWTEYAVMRDGFLSTIQNEWAK")
    write_map(tmp_path / "map.mrc", simulate_map(model, 3.0, torch.Generator().manual_seed(3)))
    write_structure(tmp_path / "model.cif", model)
    arguments = ["validate", "--map", str(tmp_path / "map.mrc"), "--model", str(tmp_path / "model.cif")]
    result = runner.invoke(app, [*arguments, "--output", str(tmp_path / "out")], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    for words in ("Q-score", "clashscore", "Ramachandran favoured", "residues trusted"):
        assert words in result.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "probability.cif",
        "residues.csv",
        "validation.json",
    ]
    refused = runner.invoke(app, [*arguments, "--half1", "one.mrc"], env={"COLUMNS": "200"})
    assert refused.exit_code == 1
    assert "expected both halves or none" in refused.output


def test_what_cannot_become_a_model_is_refused_before_services_start(tmp_path):
    write_map(tmp_path / "map.mrc", simulate_map(ideal_protein("SAFSLK"), 3.0, torch.Generator().manual_seed(3)))
    (tmp_path / "bad.fasta").write_text(">mol A\nSAFS1KWT\n")
    session = ["model", "--session", str(tmp_path / "session.zarr")]
    given = [*session, "--map", str(tmp_path / "map.mrc")]
    for arguments, code, words in (
        (session, 2, "give --map, or the store of a session that has a map"),
        ([*session, "--map", str(tmp_path / "absent.mrc")], 2, "does not exist"),
        ([*given, "--sequence", str(tmp_path / "bad.fasta")], 1, "bad.fasta, 'mol A': sequence 1 has letters"),
        ([*given, "--symmetry", "Q7"], 1, "Q7"),
        ([*given, "--voxel-size", "0"], 1, "greater than 0"),
    ):
        found = runner.invoke(app, arguments, env={"COLUMNS": "200", "TERM": "dumb"})
        assert found.exit_code == code, found.output
        assert words in found.output, found.output
        assert not (tmp_path / "session.zarr").exists()


def test_a_bundle_is_not_written_over_and_no_service_starts_to_say_so(store, workers, tmp_path, monkeypatch):
    deposited_session.fill_for_deposition(store, tmp_path / "movies")
    (tmp_path / "about.yaml").write_text(deposited_session.TOLD)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "notes.txt").write_text("mine")
    monkeypatch.setenv("VITRIFLOW_HOME", str(tmp_path / "home"))
    arguments = ["deposit", store.url, str(tmp_path / "bundle"), "--about", str(tmp_path / "about.yaml")]
    refused = runner.invoke(app, arguments, env={"COLUMNS": "400"})
    assert refused.exit_code == 1
    assert refused.output == (
        f"BundleError: {tmp_path / 'bundle'}: is there already, and a bundle is never changed; give another folder\n"
    )
    assert not (tmp_path / "home").exists()


def test_a_depositor_file_is_made_and_what_it_lacks_is_listed(store, tmp_path):
    fill_session(store)
    about = tmp_path / "about.yaml"
    made = runner.invoke(app, ["deposit", store.url, "--template", str(about)], env={"COLUMNS": "400"})
    assert made.exit_code == 0, made.output
    again = runner.invoke(app, ["deposit", store.url, "--template", str(about)], env={"COLUMNS": "400"})
    assert "is there already" in again.output
    arguments = ["deposit", store.url, str(tmp_path / "bundle"), "--about", str(about)]
    result = runner.invoke(app, arguments, env={"COLUMNS": "400"})
    assert result.exit_code == 1
    for words in (
        "title: is missing; write `title: …`",
        "model: the session has no finished model; run `vitriflow model --session",
        "instrument.microscope: the session's files do not tell it; write `microscope: …` below `instrument:`",
    ):
        assert words in result.output
    assert not (tmp_path / "bundle").exists()
