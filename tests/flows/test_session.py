"""A small simulated session from movies to a map, through real services; then what a re-run does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from flows.demonstrate import Demonstration, demonstrate
from flows.process_session import process_session
from flows.recipe import Recipe, read_recipe
from tasks.correct_motion import correct_motion
from tasks.import_session import import_session
from tasks.records.session import StageReport
from tasks.simulate_session import SimulateSessionParams
from tasks.stores.ledger import read_ledger
from tasks.stores.session_store import SessionStore
from tasks.workers.connection import connect

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

SIMULATION = SimulateSessionParams(
    seed=31, n_movies=4, n_truncated=1, n_duplicates=1, shape=(640, 704), pixel_size_angstrom=2.2, n_frames=10,
    n_particles=60, map_size=80, defocus_angstrom=(9000.0, 16000.0),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("session")


@pytest.fixture(scope="module")
def recipe(folder) -> Recipe:
    return read_recipe(
        "demo",
        {
            "import_session.pixel_size_angstrom": "2.2",
            "import_session.dose_per_frame": "4.0",
            "import_session.gain": str(folder / "session" / "gain.mrc"),
            "import_session.defects": str(folder / "session" / "defects.txt"),
            "extract_particles.box_size_px": "80",
            "classify_2d.n_classes": "4",
            "classify_2d.n_iterations": "10",
            "build_initial_map.n_restarts": "12",
        },
    )


@pytest.fixture(scope="module")
def solved(folder, recipe, connected) -> Demonstration:
    """The session, processed once."""
    return demonstrate(str(folder / "session"), str(folder / "session.zarr"), SIMULATION, recipe)


def by_stage(reports: list[StageReport]) -> dict[str, StageReport]:
    return {report.stage: report for report in reports}


def test_the_map_is_that_of_the_cage(solved):
    figures = {(c.stage, c.figure): c.value for c in solved.comparisons}
    assert figures["picking", "precision"] > 0.9
    assert figures["picking", "recall"] > 0.9
    assert figures["CTF", "median defocus error"] < 150
    assert figures["initial map", "correlation with the truth at 15 Å"] > 0.9
    assert figures["initial map", "the same less the radial average"] > 0.7
    assert figures["refinement", "map-to-truth FSC 0.5"] < 8


def test_the_ledger_balances_and_names_the_bad_files(solved, folder):
    ledger = read_ledger(SessionStore.open(str(folder / "session.zarr")))
    assert ledger.counts() == {"done": 4, "failed": 0, "skipped": 1, "quarantined": 1}
    reasons = {line.state: line.reason for line in ledger.lines}
    assert "same content" in reasons["skipped"]
    assert "movie_0005" in reasons["quarantined"]


def test_the_report_shows_the_session(solved, folder):
    page = (folder / "session.zarr" / "report.html").read_text()
    assert "movie_0005" in page
    assert page.count("data:image/png;base64,") > 10


def test_a_second_run_computes_nothing(solved, folder, recipe, connected):
    reports = process_session(str(folder / "session.zarr"), str(folder / "session"), recipe)
    assert [report.stage for report in reports if report.done] == []


def test_a_changed_parameter_recomputes_only_what_depends_on_it(solved, folder, recipe, connected):
    changed = recipe.model_copy(
        update={"sharpen_map": recipe.sharpen_map.model_copy(update={"b_factor_angstrom2": -80.0})}
    )
    reports = by_stage(process_session(str(folder / "session.zarr"), str(folder / "session"), changed))
    assert [stage for stage, report in reports.items() if report.done] == ["sharpen_map", "judge_session"]
    assert reports["correct_motion"].kept


def test_an_interrupted_session_is_continued(solved, folder, recipe, connected, settings):
    url = str(folder / "interrupted.zarr")
    command = [sys.executable, "-m", "flows.cli", "process", "--session", url, "--movies", str(folder / "session")]
    command += ["--recipe", "demo", "--pixel-size", "2.2", "--dose-per-frame", "4.0"]
    for name in ("gain", "defects"):
        command += ["--set", f"import_session.{name}={getattr(recipe.import_session, name)}"]
    process = subprocess.Popen(
        command,
        env={**os.environ, "VITRIFLOW_HOME": str(settings.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 180
    while not list((folder / "interrupted.zarr").glob("exposures/*/correct_motion/commit.json")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "the same command continues from here" in output

    store = SessionStore.open(url)
    for exposure in store.exposure_ids():
        store.exposure_product(exposure, "correct_motion").verify()
    with connect(connected.dask_address):
        imported = import_session(url, str(folder / "session"), recipe.import_session)
        assert len(imported.kept) == 4
        corrected = correct_motion(url, imported.available, recipe.correct_motion)
    assert len(corrected.kept) >= 1
    assert len(corrected.kept) + len(corrected.done) == 4
