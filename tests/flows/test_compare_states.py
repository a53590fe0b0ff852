"""States beside each other at the command line, and what it says of those that cannot be compared."""

from typer.testing import CliRunner

from flows.cli import app
from tasks.stores.session_store import SessionStore
from tests.tasks.test_compare_states import MODEL, bent, put


def run(*arguments):
    return CliRunner().invoke(app, ["compare-states", *map(str, arguments)], env={"COLUMNS": "200"})


def test_two_sessions_are_compared_and_the_files_written(connected, tmp_path):
    closed, opened = (SessionStore.create(str(tmp_path / f"{name}.zarr")) for name in ("closed", "open"))
    put(closed, "chosen", MODEL)
    put(opened, "chosen", bent()[0])
    done = run(closed.url, opened.url, "--distance", "A/1:A/100", "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    for words in ("closed/chosen (156 residues) and open/chosen (156)", "2 against 1", "A/", "open.csv"):
        assert words in done.output, done.output
    assert "States" in (tmp_path / "closed.zarr" / "report.html").read_text()
    refused = run(closed.url, opened.url, "--model", "chosen", "--model", "refined")
    assert refused.exit_code == 1 and "model 'refined' of" in refused.output
    alone = run(closed.url)
    assert alone.exit_code == 2 and "two stores or more" in " ".join(alone.output.replace("│", " ").split())
