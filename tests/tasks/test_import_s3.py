"""The import into a store on S3: the same as into a folder, and without a request for every file that is known."""

# ruff: noqa: F811
from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from tasks.formats.tiff import write_tiff_movie
from tasks.import_session import ImportSessionParams, import_session
from tasks.stores.ledger import read_ledger
from tasks.stores.products.exposure_store import exposure
from tasks.stores.session_store import SessionStore
from tests.truth.s3_server import bucket, endpoint  # noqa: F401

PARAMS = ImportSessionParams(pixel_size_angstrom=1.1, dose_per_frame=2.0)


def movie(path: Path, seed: int) -> Path:
    write_tiff_movie(path, np.random.default_rng(seed).poisson(3.0, (2, 12, 16)).astype(np.uint8))
    return path


@pytest.fixture
def requests(caplog):
    """Requests that the server answered since the list was cleared, as ``GET /bucket/key``."""
    caplog.set_level(logging.INFO, logger="werkzeug")

    class Requests:
        def clear(self) -> None:
            caplog.clear()

        def records(self) -> list[str]:
            return [m for m in caplog.messages if "GET" in m and "/exposures/" in m and "commit.json" in m]

        def all(self) -> list[str]:
            return [m for m in caplog.messages if "HTTP/1.1" in m]

    return Requests()


def test_an_import_into_s3_is_that_into_a_folder_and_knows_its_files_again(bucket, workers, store, tmp_path, requests):
    folder = tmp_path / "movies"
    folder.mkdir()
    for i in range(4):
        movie(folder / f"{i}.tif", i)
    movie(folder / "copy.tif", 0)
    (folder / "bad.tif").write_text("no image")
    remote = SessionStore.create(f"{bucket}/session.zarr", "test")
    here = import_session.fn(store.url, str(folder), PARAMS)
    there = import_session.fn(remote.url, str(folder), PARAMS)
    assert (there.done, there.skipped, there.failed) == (here.done, here.skipped, here.failed)
    assert read_ledger(remote).lines == read_ledger(store).lines
    assert len(requests.records()) > 4  # the list tells

    requests.clear()
    again = import_session.fn(remote.url, str(folder), PARAMS)
    assert (again.kept, again.skipped, again.failed) == (there.done, there.skipped, there.failed)
    assert requests.records() == []
    n_requests = len(requests.all())
    assert n_requests < 60

    (folder / "1.tif").rename(folder / "renamed.tif")
    movie(folder / "new.tif", 9)
    files = [str(folder / "renamed.tif"), str(folder / "new.tif")]
    report = import_session.fn(remote.url, str(folder), PARAMS, files)
    assert (len(report.done), report.kept) == (1, [there.done[1]])
    assert exposure(remote, there.done[1]).name == "renamed.tif"

    (remote.location / "ledger").remove()
    requests.clear()
    rebuilt = import_session.fn(remote.url, str(folder), PARAMS)
    assert (len(rebuilt.kept), rebuilt.done, rebuilt.skipped) == (5, [], there.skipped)
    assert len(requests.records()) >= 6
    assert read_ledger(remote).counts() == {"done": 5, "failed": 0, "skipped": 1, "quarantined": 1}
