"""From a folder that a microscope writes into to exposures that are processed, without a word in between."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from flows.process_live import process_live
from flows.recipe import read_recipe
from flows.session_recipe import recall_recipe, remember_recipe
from flows.sole_use import EXPOSURES
from flows.watch_sessions import watch_sessions
from tasks.import_session import import_session
from tasks.report.facility import KEY
from tasks.scan_folders import FolderWatch, ScanFoldersParams
from tasks.stores.files.arrivals import waiting_arrivals
from tasks.stores.ledger import read_ledger, unfinished_exposures
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.lease import hold
from tasks.stores.upkeep.costs import read_costs
from tasks.workers.connection import connect
from tests.torture.feed import N_FRAMES, Feed
from tests.torture.site import RECIPE

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]

SCAN = ScanFoldersParams(still_seconds=1, patience_seconds=4, expected_frames=N_FRAMES)
CHANGES = {**RECIPE, "import_session.expected_frames": N_FRAMES}


@pytest.fixture(scope="module")
def microscope(tmp_path_factory) -> Feed:
    """Ten files: one cut off, one copy, one that comes in two bursts, one of another length."""
    feed = Feed(tmp_path_factory.mktemp("microscope") / "session", 12, 0.05, 1, 1, 1, 1, 2.0)
    feed.start()
    feed.join()
    return feed


@pytest.fixture(scope="module")
def watched(microscope, connected, tmp_path_factory) -> SessionStore:
    stores = tmp_path_factory.mktemp("stores")
    assert watch_until_all_arrived(microscope.folder.parent, stores) == {str(stores / "session.zarr"): 12}
    return SessionStore.open(str(stores / "session.zarr"))


def watch_until_all_arrived(root: Path, stores: Path, n_files: int = 12) -> dict[str, int]:
    """A busy machine may need several runs of the watch until the patience with bad files has ended."""
    arrived: dict[str, int] = {}
    for _ in range(10):
        arrived = watch_sessions(
            [str(root)], str(stores), "default", CHANGES, SCAN, seconds=6, poll_seconds=1.2, processing="here"
        )
        if list(arrived.values()) == [n_files]:
            break
    return arrived


def states(store: SessionStore) -> dict[str, str]:
    imported = {line.exposure.split("-")[0]: line for line in read_ledger(store).lines}
    return {f"{stem}.tif": line.state if line.stage == "import_session" else "done" for stem, line in imported.items()}


def test_every_file_meets_its_fate_and_the_ledger_names_it(watched, microscope):
    expected = dict(microscope.fates)
    found = states(watched)
    for copy, original in microscope.twins.items():  # whichever of the two was imported first is the exposure
        assert sorted((found.pop(copy), found.pop(original))) == ["done", "skipped"]
        del expected[copy], expected[original]
    assert found == expected
    assert all(line.reason for line in read_ledger(watched).lines if line.state != "done")
    ends = {"import_session", "pick_particles", "extract_particles"}
    assert [(line.stage, line.reason) for line in read_ledger(watched).lines if line.stage not in ends] == []


def test_what_waves_spent_is_added_up(watched):
    costs = read_costs(watched)
    n_done = sum(line.stage != "import_session" or line.state == "done" for line in read_ledger(watched).lines)
    assert costs["import_session"].n_done == costs["correct_motion"].n_done == n_done
    assert costs["correct_motion"].cpu_seconds > 0


def test_the_session_keeps_the_recipe_it_began_with(watched):
    assert recall_recipe(watched.url).import_session.expected_frames == N_FRAMES


def test_a_watch_that_starts_again_processes_nothing_again(watched, microscope, connected, record_property):
    before = {e: watched.exposure_product(e, "correct_motion").attempts() for e in watched.exposure_ids()}
    watch_sessions(
        [str(microscope.folder.parent)], str(Path(watched.url).parent), "default", CHANGES, SCAN,
        seconds=3, poll_seconds=1, processing="here",
    )  # fmt: skip
    assert waiting_arrivals(watched) == []
    assert {e: watched.exposure_product(e, "correct_motion").attempts() for e in watched.exposure_ids()} == before
    record_property("seen", f"the attempts at {len(before)} exposures are those of before")


def test_the_sessions_of_the_facility_are_shown_in_one_artifact(watched, connected):
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[KEY])))
    row = found[0].data.splitlines()[2]
    assert len(found) == 1
    assert row.startswith("| [session](/artifacts/key/session-session) | collecting")


def test_a_renamed_file_and_a_moved_folder_are_nothing_new(watched, microscope, connected, tmp_path):
    moved = tmp_path / "other mount" / "session"
    shutil.copytree(microscope.folder, moved)
    (moved / "movie_00000.tif").rename(moved / "renamed.tif")
    shutil.rmtree(microscope.folder)
    done = {e: watched.exposure_product(e, "correct_motion").attempts() for e in watched.exposure_ids()}
    assert watch_until_all_arrived(moved.parent, Path(watched.url).parent) == {watched.url: 12}
    again = {e: watched.exposure_product(e, "correct_motion").attempts() for e in watched.exposure_ids()}
    assert {e: attempts for e, attempts in again.items() if attempts} == {e: a for e, a in done.items() if a}
    shutil.copytree(moved, microscope.folder)


def test_a_wave_leaves_a_session_that_another_flow_works_on_alone(watched, connected, monkeypatch):
    monkeypatch.setenv("VITRIFLOW_LEASE_PATIENCE_SECONDS", "0")
    with hold(watched.location, EXPOSURES, "somebody else"):
        assert process_live(watched.url, idle_seconds=0) == []


def test_two_waves_at_once_do_everything_once(microscope, connected, settings, tmp_path, record_property):
    root = tmp_path / "root"
    shutil.copytree(microscope.folder, root / "twins")
    stores = tmp_path / "stores"
    (session,) = FolderWatch(str(stores), SCAN).scan([str(root)])
    assert session.n_new >= 9
    remember_recipe(session.store_url, read_recipe("default", {name: str(value) for name, value in CHANGES.items()}))
    program = (
        "import sys; from flows.process_live import process_live; "
        "process_live(sys.argv[1], idle_seconds=0, renewal='never')"
    )  # fmt: skip
    environment = {"VITRIFLOW_HOME": str(settings.home), "PREFECT_API_URL": connected.prefect_api_url}
    running = [
        subprocess.Popen([sys.executable, "-c", program, session.store_url], env={**os.environ, **environment})
        for _ in range(2)
    ]
    assert [process.wait(timeout=300) for process in running] == [0, 0]
    store = SessionStore.open(session.store_url)
    assert sum(state == "done" for state in states(store).values()) >= 9
    n_attempts = [len(store.exposure_product(e, "correct_motion").attempts()) for e in store.exposure_ids()]
    assert max(n_attempts) == 1
    record_property("seen", f"both flows end well; {sum(n_attempts)} exposures corrected, each by one attempt")


def test_what_a_wave_that_died_had_only_imported_is_finished_by_the_next(microscope, connected, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(microscope.folder, root / "cut_short")
    (session,) = FolderWatch(str(tmp_path / "stores"), SCAN).scan([str(root)])
    recipe = read_recipe("default", {name: str(value) for name, value in CHANGES.items()})
    remember_recipe(session.store_url, recipe)
    store = SessionStore.open(session.store_url)
    files = [arrival.path for arrival in waiting_arrivals(store)]
    with connect(connected.dask_address):
        import_session.fn(session.store_url, str(root / "cut_short"), recipe.import_session, files)
    assert {line.stage for line in read_ledger(store).lines if line.state == "done"} == {"import_session"}
    process_live(session.store_url, idle_seconds=0, renewal="never")
    assert unfinished_exposures(store) == []
    assert all(line.stage != "import_session" for line in read_ledger(store).lines if line.state == "done")
