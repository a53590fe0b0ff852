"""A file is its content: whatever happens to names, copies, mounts and processes, nothing is imported twice."""

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from tasks.formats.tiff import write_tiff_movie
from tasks.import_session import ImportSessionParams, import_session
from tasks.records.session import StageReport
from tasks.stores.files.content_claims import claim
from tasks.stores.files.identity import content_hash, id_by_content
from tasks.stores.files.index import FileIndex
from tasks.stores.ledger import read_ledger
from tasks.stores.products.exposure_store import exposure
from tasks.stores.session_store import SessionStore

SHAPE = (30, 44)


def movie(path: Path, seed: int, n_frames: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tiff_movie(path, np.random.default_rng(seed).poisson(3.0, (n_frames, *SHAPE)).astype(np.uint8))
    return path


def run(store: SessionStore, folder: Path, files: list[Path] | None = None, **changes) -> StageReport:
    params = ImportSessionParams(**{"pixel_size_angstrom": 1.1, "dose_per_frame": 2.0, **changes})
    return import_session.fn(store.url, str(folder), params, files and [str(path) for path in files])


def attempts(store: SessionStore) -> set[str]:
    """Attempts that records name: one for every product that was ever finished and is still the one to read."""
    found = (store.exposure_product(e, "import_session").record() for e in store.exposure_ids())
    return {record.attempt for record in found if record is not None and record.attempt is not None}


def states(store: SessionStore) -> dict[str, int]:
    return {state: n for state, n in read_ledger(store).counts().items() if n}


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "movies").mkdir()
    return tmp_path / "movies"


@pytest.fixture(params=["hand-over", "scan"])
def look(request, store, folder, workers) -> Callable[..., StageReport]:
    """The import, once told which files are new and once left to find them."""

    def look(**changes) -> StageReport:
        files = sorted(path for path in folder.rglob("*.tif")) if request.param == "hand-over" else None
        return run(store, folder, files, **changes)

    return look


_watched: list[Callable[[str, tuple], None]] = []
"""Called with every audit event of this process: opened files, renamed files."""


def _audit(event: str, arguments: tuple) -> None:
    for watcher in _watched:
        watcher(event, arguments)


sys.addaudithook(_audit)


@contextmanager
def watched(watcher: Callable[[str, tuple], None]) -> Iterator[None]:
    _watched.append(watcher)
    try:
        yield
    finally:
        _watched.remove(watcher)


# hand-over


def test_exactly_the_files_that_are_handed_over_are_imported_and_reported(store, workers, folder):
    paths = [movie(folder / f"{i}.tif", i) for i in range(3)]
    report = run(store, folder, [paths[1], Path("2.tif")])
    assert [about.rsplit("-", 1)[0] for about in report.done] == ["1", "2"]
    assert report.n_seen == 2
    again = run(store, folder, [paths[1]])
    assert (again.kept, again.n_seen) == ([report.done[0]], 1)
    assert run(store, folder, []).n_seen == 0
    assert len(run(store, folder).done) == 1


def test_a_file_that_is_handed_over_twice_is_imported_once(store, workers, folder):
    path = movie(folder / "a.tif", 1)
    report = run(store, folder, [path, folder / "." / "a.tif", folder / "none" / ".." / "a.tif"])
    assert (len(report.done), report.n_seen) == (1, 1)
    first = attempts(store)
    assert run(store, folder, [path]).kept == report.done
    assert (attempts(store), states(store)) == (first, {"done": 1})


def test_a_hand_over_opens_no_file_for_those_that_are_known(store, workers, folder):
    def opened_by_a_batch(number: int) -> int:
        names: list[str] = []
        new = [movie(folder / f"new_{number}_{i}.tif", 100 * number + i) for i in range(2)]

        def note(event: str, arguments: tuple) -> None:
            if event == "open" and str(arguments[0]).startswith(store.url) and "/exposures/" in str(arguments[0]):
                names.append(str(arguments[0]))

        with watched(note):
            assert len(run(store, folder, new).done) == 2
        return len(names)

    opened_by_a_batch(1)
    few = opened_by_a_batch(2)
    run(store, folder, [movie(folder / f"{i}.tif", 1000 + i) for i in range(25)])
    assert opened_by_a_batch(3) == few


def test_a_few_files_of_another_kind_do_not_change_the_gain_of_the_session(store, workers, folder, tmp_path):
    first = movie(folder / "a.tif", 1)
    (tmp_path / "defects.txt").write_text("3 5 2 1\n")
    how = {"defects": str(tmp_path / "defects.txt")}
    run(store, folder, [first], **how)
    made = store.product("session/gain").record()
    write_tiff_movie(folder / "b.tif", np.ones((3, *SHAPE[::-1]), np.uint8) * np.arange(SHAPE[0], dtype=np.uint8))
    report = run(store, folder, [folder / "b.tif"], **how)
    assert "its frames are (44, 30)" in next(iter(report.failed.values()))
    assert store.product("session/gain").record() == made


# identity


def test_a_renamed_file_keeps_its_exposure(store, look, folder):
    movie(folder / "a.tif", 1)
    (first,) = look().done
    product = attempts(store)
    (folder / "a.tif").rename(folder / "grid_square.tif")
    for _ in range(2):
        assert look().kept == [first]
    assert (attempts(store), states(store)) == (product, {"done": 1})
    about = exposure(store, first)
    assert (about.name, about.source) == ("grid_square.tif", str(folder / "grid_square.tif"))


def test_a_copy_with_another_time_is_the_same_exposure(store, look, folder):
    path = movie(folder / "a.tif", 1)
    (first,) = look().done
    os.utime(path, ns=(5, 5))
    for _ in range(2):
        assert look().kept == [first]
    assert states(store) == {"done": 1}


def test_a_mount_that_moved_changes_paths_and_nothing_else(store, workers, tmp_path):
    for i in range(4):
        movie(tmp_path / "mnt" / "data" / "sub" / f"{i}.tif", i)
    first = run(store, tmp_path / "mnt" / "data").done
    products = attempts(store)
    (tmp_path / "mnt").rename(tmp_path / "media")
    assert run(store, tmp_path / "media" / "data").kept == first
    assert (attempts(store), states(store)) == (products, {"done": 4})
    assert all(exposure(store, e).source.startswith(str(tmp_path / "media")) for e in first)


@pytest.mark.parametrize("lost", ["ledger/files", "ledger/contents", "ledger"])
def test_a_lost_index_is_made_from_the_records_without_reading_a_movie(store, look, folder, lost):
    for i in range(3):
        movie(folder / f"{i}.tif", i)
    movie(folder / "copies" / "x.tif", 0)
    (folder / "bad.tif").write_text("no image")
    report = look()
    assert (len(report.done), len(report.skipped), len(report.failed)) == (3, 1, 1)
    shutil.rmtree(f"{store.url}/{lost}")
    opened: list[str] = []

    def note(event: str, arguments: tuple) -> None:
        if event == "open" and str(arguments[0]).startswith(str(folder)) and "copies" not in str(arguments[0]):
            opened.append(str(arguments[0]))

    with watched(note):
        again = look()
    assert (again.kept, again.skipped, again.failed, opened) == (report.done, report.skipped, report.failed, [])
    assert states(store) == {"done": 3, "skipped": 1, "quarantined": 1}
    (folder / "0.tif").rename(folder / "other.tif")  # what has the content is known as well
    (folder / "copies" / "x.tif").unlink()
    assert sorted(look().kept) == report.done


def test_duplicates_are_named_while_the_first_file_is_there_and_take_its_place_when_it_is_gone(store, look, folder):
    movie(folder / "a.tif", 1)
    (first,) = look().done
    for name in ("b.tif", "sub/a.tif", "sub/b.tif"):
        movie(folder / name, 1)
    report = look()
    assert report.kept == [first]
    assert len(report.skipped) == 3
    assert all(f"same content as {folder / 'a.tif'} ({first})" in reason for reason in report.skipped.values())
    assert look().skipped == report.skipped
    (folder / "a.tif").unlink()
    moved = look()
    assert (moved.kept, len(moved.skipped)) == ([first], 2)
    assert exposure(store, first).source == str(folder / "b.tif")
    assert look().n_seen == 3
    ledger = read_ledger(store)
    assert states(store) == {"done": 1, "skipped": 3}
    assert any("is the file of exposure" in (line.reason or "") for line in ledger.lines)


def test_files_that_swap_their_names_keep_their_exposures(store, look, folder):
    paths = {movie(folder / name, i): i for i, name in enumerate(("a.tif", "b.tif"))}
    os.utime(folder / "b.tif", ns=(7, 7))
    first, second = look().done
    products = attempts(store)
    (folder / "a.tif").rename(folder / "c.tif")
    (folder / "b.tif").rename(folder / "a.tif")
    (folder / "c.tif").rename(folder / "b.tif")
    assert len(paths) == 2 and sorted(look().kept) == [first, second]
    assert attempts(store) == products
    assert exposure(store, first).name == "b.tif"
    assert states(store) == {"done": 2}


def test_a_file_that_grew_after_its_import_is_imported_again_and_said_so(store, look, folder):
    movie(folder / "a.tif", 1, n_frames=3)
    (first,) = look().done
    movie(folder / "a.tif", 1, n_frames=5)
    (second,) = look().done
    assert exposure(store, second).n_frames == 5
    lines = {line.exposure: line for line in read_ledger(store).lines}
    assert lines[first].reason == f"{folder / 'a.tif'} has other content now, which is exposure {second}"
    movie(folder / "a.tif", 1, n_frames=3)  # and back: the exposure has its first id
    assert look().done == [first]
    assert states(store) == {"done": 1, "skipped": 1}


def test_a_file_that_was_replaced_and_kept_under_another_name_stays_an_exposure(store, look, folder):
    movie(folder / "a.tif", 1)
    (first,) = look().done
    (folder / "a.tif").rename(folder / "z.tif")
    movie(folder / "a.tif", 2)
    report = look()
    assert (report.kept, len(report.done)) == ([first], 1)
    assert states(store) == {"done": 2}


def test_a_bad_file_that_is_renamed_keeps_its_entry(store, look, folder):
    (folder / "a.tif").write_text("no image")
    (first,) = look().failed
    (folder / "a.tif").rename(folder / "b.tif")
    assert list(look().failed) == [first]
    assert states(store) == {"quarantined": 1}


def test_a_version_with_other_parameters_has_the_exposures_of_its_parent(store, workers, folder):
    for i in range(2):
        movie(folder / f"{i}.tif", i)
    first = run(store, folder).done
    version = store.branch("dose")
    assert run(version, folder).kept == first
    assert run(version, folder, dose_per_frame=1.0).done == first
    (folder / "0.tif").rename(folder / "renamed.tif")
    assert sorted(run(version, folder, dose_per_frame=1.0).kept) == first
    assert (exposure(version, first[0]).dose_per_frame, exposure(version, first[0]).name) == (1.0, "renamed.tif")
    assert (exposure(store, first[0]).dose_per_frame, exposure(store, first[0]).name) == (2.0, "0.tif")
    assert sorted(run(store, folder).kept) == first


# at once, and cut off


def test_two_imports_that_meet_one_content_at_once_leave_one_product(store, workers, folder):
    for number in range(3):
        paths = [movie(folder / f"{name}_{number}.tif", number) for name in "ab"]
        barrier = threading.Barrier(2)
        reports: list[StageReport] = []

        def hand_over(path: Path, barrier=barrier, reports=reports) -> None:
            barrier.wait()
            reports.append(run(store, folder, [path]))

        threads = [threading.Thread(target=hand_over, args=(path,)) for path in paths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(reports) == 2 and not any(report.failed for report in reports)
    assert states(store)["done"] == len(attempts(store)) == 3
    assert len(run(store, folder).kept) == 3


def test_of_two_products_of_one_content_one_is_set_aside_at_the_next_hand_over(store, workers, folder):
    path = movie(folder / "a.tif", 1)
    (first,) = run(store, folder, [path]).done
    # an import that died after its product was there, and before it saw that of the other
    other = id_by_content(str(folder / "b.tif"), content_hash(path))
    shutil.copytree(f"{store.url}/exposures/{first}", f"{store.url}/exposures/{other}")
    claim(store, content_hash(path), str(folder / "b.tif"), other)
    shutil.copy(path, folder / "b.tif")
    report = run(store, folder, [folder / "b.tif"])
    assert list(report.skipped.values()) == [f"same content as {path} ({first})"]
    assert states(store) == {"done": 1, "skipped": 2}
    assert run(store, folder).kept == [first]


def test_a_content_that_was_claimed_by_an_import_that_died_is_imported_under_its_first_id(store, workers, folder):
    path = movie(folder / "a.tif", 1)
    claim(store, content_hash(path), str(folder / "before.tif"), "before-0badcafe")
    assert run(store, folder, [path]).done == ["before-0badcafe"]
    assert run(store, folder, [path]).kept == ["before-0badcafe"]


class Killed(BaseException):
    """Stands for SIGKILL: nothing that the process does afterwards reaches the disk."""


class Killer:
    """Raises from the write of this number on, counting commit records and entries of indices."""

    def __init__(self, step: int, store: SessionStore) -> None:
        self._step, self._store_url = step, store.url
        self._n_written = 0
        self.has_killed = False

    def __call__(self, event: str, arguments: tuple) -> None:
        if event not in ("os.rename", "os.remove") or not str(arguments[0]).startswith(self._store_url):
            return
        place = str(arguments[1] if event == "os.rename" else arguments[0])
        if self._n_written >= self._step:
            self.has_killed = True
            raise Killed(place)
        if event == "os.rename" and ("commit.json" in place or "/ledger/" in place):
            self._n_written += 1


def test_an_import_that_is_killed_between_any_two_writes_is_finished_by_the_next(workers, tmp_path):
    folder = tmp_path / "movies"
    last_states: dict[str, int] = {}
    for step in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        store = SessionStore.create(str(tmp_path / f"{step}.zarr"), "test")
        movie(folder / "moved.tif", 1)
        movie(folder / "grows.tif", 2)
        before = run(store, folder).done
        (folder / "moved.tif").rename(folder / "now_here.tif")
        movie(folder / "grows.tif", 3)
        movie(folder / "new.tif", 4)
        movie(folder / "sub" / "copy.tif", 4)
        killer = Killer(step, store)
        with watched(killer), suppress(Killed):
            run(store, folder)
        if step % 3 == 1:
            shutil.rmtree(f"{store.url}/ledger")
        report = run(store, folder)
        assert report.failed == {}, step
        assert (len(report.available), len(report.skipped)) == (3, 1), step
        assert before[1] in report.available and exposure(store, before[1]).name == "now_here.tif", step
        assert len(attempts(store)) == 3, step
        for exposure_id in report.available:
            store.exposure_product(exposure_id, "import_session").verify()
        again = run(store, folder)
        assert (again.available, again.done, again.skipped) == (report.available, [], report.skipped), step
        if not killer.has_killed:
            last_states = states(store)
            break
    assert step > 8
    assert last_states == {"done": 3, "skipped": 2}


# while it is read


def grow_at_open(path: Path, number: int, change: Callable[[], None]) -> Callable[[str, tuple], None]:
    """Changes the file when it is opened for reading for the time of this number."""
    opened = 0

    def watcher(event: str, arguments: tuple) -> None:
        nonlocal opened
        if event == "open" and str(arguments[0]) == str(path) and "r" in str(arguments[1]):
            opened += 1
            if opened == number:
                change()

    return watcher


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_file_that_grows_while_it_is_read_fails_and_is_imported_when_it_stands_still(store, look, folder, number):
    path = movie(folder / "a.tif", 1)
    whole = path.read_bytes()
    movie(folder / "b.tif", 2)
    path.write_bytes(whole[:-200])

    with watched(grow_at_open(path, number, lambda: path.write_bytes(whole))):
        report = look()
    (reason,) = report.failed.values()
    assert reason.startswith(f"{path}: it changed while it was read, from {len(whole) - 200} to {len(whole)} bytes")
    assert len(report.done) == 1
    assert states(store) == {"done": 1, "failed": 1}
    (new,) = look().done
    assert exposure(store, new).content_hash == content_hash(path)
    assert states(store) == {"done": 2, "skipped": 1}


def test_a_file_that_vanishes_while_it_is_read_fails_and_an_earlier_exposure_of_it_stays(store, workers, folder):
    path = movie(folder / "a.tif", 1)
    (first,) = run(store, folder, [path]).done
    movie(path, 2)
    with watched(grow_at_open(path, 2, path.unlink)):
        report = run(store, folder, [path])
    assert next(iter(report.failed.values())).startswith(f"{path}: it vanished while it was read")
    assert states(store) == {"done": 1, "failed": 1}
    assert "cannot be read" in next(iter(run(store, folder, [path]).failed.values()))
    movie(path, 1)
    assert run(store, folder, [path]).kept == [first]
    assert states(store) == {"done": 1, "skipped": 1}


def test_the_index_forgets_nothing_that_another_import_added(store, workers, folder):
    paths = [movie(folder / f"{i}.tif", i) for i in range(2)]
    run(store, folder, paths[:1])
    stale = FileIndex(store)
    stale.look_up([str(path) for path in paths])
    run(store, folder, paths[1:])
    known = stale.recall(str(paths[0]))
    assert known is not None
    stale.remember(str(paths[0]), known._replace(mtime_ns=1))
    stale.save()
    index = FileIndex(store)
    assert all(index.recall(str(path)) for path in paths)
