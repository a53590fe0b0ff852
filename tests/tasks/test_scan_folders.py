"""A file arrives when nobody writes to it any more, once, wherever it lies."""

import math
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tasks.scan_folders import FolderWatch, ScanFoldersParams, source_folder
from tasks.stores.files.arrivals import read_arrivals, waiting_arrivals
from tasks.stores.session_store import SessionStore

IMPATIENT = ScanFoldersParams(still_seconds=0.05, patience_seconds=0.05)
PATIENT = ScanFoldersParams(still_seconds=0.05, patience_seconds=3600)


def write_movie(path: Path, n_frames: int = 5, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.random.default_rng(seed).poisson(3, (n_frames, 32, 40)).astype(np.uint8)
    tifffile.imwrite(path, frames, photometric="minisblack")


@pytest.fixture
def microscope(tmp_path):
    folder = tmp_path / "microscope" / "session"
    for i in range(3):
        write_movie(folder / f"movie_{i}.tif", seed=i)
    return folder


def watch_of(tmp_path: Path, params: ScanFoldersParams) -> FolderWatch:
    return FolderWatch(str(tmp_path / "stores"), params)


def scan(watch: FolderWatch, root: Path):
    time.sleep(0.06)
    watch._not_before.clear()
    return watch.scan([str(root)])


def arrivals(tmp_path: Path, name: str = "session") -> set[str]:
    return {Path(path).name for path in read_arrivals(SessionStore.open(str(tmp_path / "stores" / f"{name}.zarr")))}


def test_a_file_with_the_expected_frames_arrives_at_first_sight(tmp_path, microscope):
    (session,) = scan(watch_of(tmp_path, PATIENT.model_copy(update={"expected_frames": 5})), microscope.parent)
    assert (session.n_files, session.n_new, session.waiting) == (3, 3, {})
    assert arrivals(tmp_path) == {"movie_0.tif", "movie_1.tif", "movie_2.tif"}


def test_where_no_number_is_known_two_scans_have_to_find_it_unchanged(tmp_path, microscope):
    watch = watch_of(tmp_path, PATIENT)
    assert scan(watch, microscope.parent)[0].n_new == 0
    write_movie(microscope / "movie_1.tif", 4, seed=9)
    assert scan(watch, microscope.parent)[0].n_new == 2
    (session,) = scan(watch, microscope.parent)
    assert session.n_new == 1
    assert scan(watch, microscope.parent)[0].n_new == 0


def test_the_next_look_is_due_when_a_whole_file_has_stood_still(tmp_path, microscope):
    watch = watch_of(tmp_path, PATIENT.model_copy(update={"still_seconds": 30.0}))
    assert watch.seconds_until_due() == math.inf
    scan(watch, microscope.parent)
    assert 20 < watch.seconds_until_due() < 30
    watch = watch_of(tmp_path, PATIENT.model_copy(update={"expected_frames": 5}))
    scan(watch, microscope.parent)
    assert watch.seconds_until_due() == math.inf


def test_a_look_that_comes_late_stays_due_until_it_has_handed_the_file_over(tmp_path, microscope):
    watch = watch_of(tmp_path, PATIENT.model_copy(update={"still_seconds": 0.2}))
    assert scan(watch, microscope.parent)[0].n_new == 0
    due = watch.seconds_until_due()  # 0.2 s, or more where the scan took long and the folder rests
    assert 0 < due < 10
    time.sleep(due + 0.01)
    assert watch.seconds_until_due() == 0
    assert scan(watch, microscope.parent)[0].n_new == 3
    assert watch.seconds_until_due() == math.inf


def test_no_look_is_due_while_a_folder_rests_from_being_scanned(tmp_path, microscope):
    watch = watch_of(tmp_path, PATIENT.model_copy(update={"still_seconds": 0.0}))
    assert watch.scan([str(microscope.parent)])[0].n_new == 0
    rest = watch.seconds_until_due()
    assert rest > 0
    time.sleep(rest)
    assert watch.scan([str(microscope.parent)])[0].n_new == 3


def test_a_file_without_all_of_its_frames_is_due_when_patience_with_it_ends(tmp_path, microscope):
    watch = watch_of(tmp_path, PATIENT.model_copy(update={"expected_frames": 6, "patience_seconds": 100.0}))
    scan(watch, microscope.parent)
    assert 90 < watch.seconds_until_due() <= 100


def test_nothing_is_due_in_a_root_that_went_away(tmp_path, microscope):
    watch = watch_of(tmp_path, PATIENT)
    scan(watch, microscope.parent)
    microscope.parent.rename(tmp_path / "elsewhere")
    assert scan(watch, microscope.parent) == []
    assert watch.seconds_until_due() == math.inf


def test_a_movie_that_grows_in_bursts_waits_for_the_frames_that_the_others_have(tmp_path, microscope):
    watch = watch_of(tmp_path, PATIENT)
    for _ in range(3):
        scan(watch, microscope.parent)
    growing = microscope / "slow.tif"
    frames = np.random.default_rng(5).poisson(3, (5, 32, 40)).astype(np.uint8)
    for n_frames in range(1, 6):
        tifffile.imwrite(growing, frames[:n_frames], photometric="minisblack")
        sessions = [scan(watch, microscope.parent)[0] for _ in range(3)]  # standing still does not make it complete
        if n_frames < 5:
            assert f"{n_frames} of 5 frames" in sessions[-1].waiting[str(growing)]
    assert sessions[0].n_new == 1
    assert "slow.tif" in arrivals(tmp_path)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
def test_what_never_becomes_whole_is_handed_over_with_a_complaint_after_a_while(tmp_path, microscope, part):
    content = (microscope / "movie_0.tif").read_bytes()
    (microscope / "cut.tif").write_bytes(content[: int(len(content) * part)])
    watch = watch_of(tmp_path, PATIENT)
    for _ in range(4):
        (session,) = scan(watch, microscope.parent)
    assert session.n_arrived == 3
    assert "not whole" in session.waiting[str(microscope / "cut.tif")]
    watch = watch_of(tmp_path, IMPATIENT)
    for _ in range(3):
        (session,) = scan(watch, microscope.parent)
    store = SessionStore.open(session.store_url)
    assert read_arrivals(store)[str(microscope / "cut.tif")].complaint


def test_a_watch_that_starts_again_hands_nothing_over_twice(tmp_path, microscope):
    params = PATIENT.model_copy(update={"expected_frames": 5})
    scan(watch_of(tmp_path, params), microscope.parent)
    (session,) = scan(watch_of(tmp_path, params), microscope.parent)
    assert (session.n_arrived, session.n_new) == (3, 0)
    write_movie(microscope / "movie_1.tif", 5, seed=77)  # another content under the same name
    (session,) = scan(watch_of(tmp_path, params), microscope.parent)
    assert session.n_new == 1
    assert len(waiting_arrivals(SessionStore.open(session.store_url))) == 3


def test_a_watch_that_starts_again_knows_how_many_frames_a_movie_of_the_session_has(tmp_path, microscope):
    watch = watch_of(tmp_path, PATIENT)
    scan(watch, microscope.parent)
    assert scan(watch, microscope.parent)[0].n_new == 3
    write_movie(microscope / "movie_3.tif", 5, seed=3)
    write_movie(microscope / "movie_4.tif", 4, seed=4)
    (session,) = scan(watch_of(tmp_path, PATIENT), microscope.parent)
    assert session.n_new == 1
    assert session.waiting == {str(microscope / "movie_4.tif"): "4 of 5 frames"}


def test_a_session_whose_mount_moved_keeps_its_store_and_another_of_its_name_gets_one_of_its_own(tmp_path, microscope):
    params = PATIENT.model_copy(update={"expected_frames": 5})
    (session,) = scan(watch_of(tmp_path, params), microscope.parent)
    moved = tmp_path / "elsewhere"
    microscope.parent.rename(moved)
    (again,) = scan(watch_of(tmp_path, params), moved)
    assert again.store_url == session.store_url
    assert source_folder(SessionStore.open(again.store_url)).folder == str(moved / "session")
    write_movie(tmp_path / "second" / "session" / "a.tif", seed=50)
    (other,) = scan(watch_of(tmp_path, params), tmp_path / "second")
    assert other.store_url.endswith("session-2.zarr")
    (other,) = scan(watch_of(tmp_path, params), tmp_path / "second")
    assert other.store_url.endswith("session-2.zarr")


def test_a_session_that_cannot_be_stored_stops_no_other(tmp_path, microscope, caplog):
    write_movie(microscope.parent / "unlucky" / "a.tif")
    (tmp_path / "stores").mkdir()
    (tmp_path / "stores" / "unlucky.zarr").write_text("a file is in the way")
    sessions = scan(watch_of(tmp_path, PATIENT.model_copy(update={"expected_frames": 5})), microscope.parent)
    assert [session.n_new for session in sessions] == [3]
    assert "unlucky" in caplog.text


def test_a_root_that_is_not_there_is_said_and_the_others_are_scanned(tmp_path, microscope, caplog):
    watch = watch_of(tmp_path, PATIENT.model_copy(update={"expected_frames": 5}))
    sessions = watch.scan([str(tmp_path / "unmounted"), str(microscope.parent)])
    assert len(sessions) == 1
    assert "unmounted" in caplog.text
