"""A session on a real S3 server: the numbers of a folder, words for who is refused, and outages that are waited for."""

from __future__ import annotations

import os
import time
import uuid

import numpy as np
import pytest

from tasks.correct_motion import CorrectMotionParams, correct_motion
from tasks.formats.tiff import write_tiff_movie
from tasks.import_session import ImportSessionParams, import_session
from tasks.records.session import StageParams
from tasks.stores.ledger import read_ledger
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreUnreachableError, StoreWriteError
from tests.infra.failing_proxy import FailingProxy
from tests.infra.swift_server import SwiftServer
from tests.truth.moving_specimen import moving_movie, random_motion

pytestmark = [pytest.mark.server, pytest.mark.site]

OUTAGE_SECONDS = float(os.environ.get("VITRIFLOW_TEST_OUTAGE_SECONDS", "3"))
"""60 in `make torture`."""
ADDRESS = "exposures/a/import_session"


@pytest.fixture(scope="module")
def movies(tmp_path_factory):
    """Two small movies of a specimen that moves."""
    folder = tmp_path_factory.mktemp("movies")
    for seed in range(2):
        frames, _ = moving_movie(random_motion(4, seed), (120, 132), seed, contrast=0.15)
        write_tiff_movie(folder / f"movie_{seed}.tif", frames.numpy().astype(np.uint8), "lzw")
    return folder


@pytest.fixture
def bucket(swift, monkeypatch) -> str:
    become(monkeypatch, swift, swift.operator)
    return swift.create_bucket(f"session-{uuid.uuid4().hex[:12]}")


def become(monkeypatch, swift: SwiftServer, user, endpoint: str | None = None) -> None:
    for name, value in user.environment(endpoint or swift.endpoint).items():
        monkeypatch.setenv(name, value)


def preprocess(url: str, folder) -> SessionStore:
    """Import and motion correction of every movie, once."""
    store = SessionStore.create(url)
    imported = import_session.fn(url, str(folder), ImportSessionParams(pixel_size_angstrom=1.1, dose_per_frame=2.0))
    assert len(imported.done) == 2 and not imported.failed
    corrected = correct_motion.fn(url, imported.available, CorrectMotionParams(n_patches=(1, 1)))
    assert sorted(corrected.done) == sorted(imported.done) and not corrected.failed
    return store


def assert_done_once(store: SessionStore) -> None:
    """Every product is there, whole, and from the only attempt at it."""
    exposures = store.exposure_ids()
    assert len(exposures) == 2
    assert read_ledger(store).counts() == {"done": 2, "failed": 0, "skipped": 0, "quarantined": 0}
    for product in (store.exposure_product(e, s) for e in exposures for s in ("import_session", "correct_motion")):
        product.verify()
        assert len(product.attempts()) == 1


def test_a_session_on_s3_has_the_numbers_of_one_in_a_folder(bucket, movies, workers, tmp_path, record_property):
    local = preprocess(str(tmp_path / "local.zarr"), movies)
    remote = preprocess(f"{bucket}/remote.zarr", movies)
    assert_done_once(remote)
    assert remote.exposure_ids() == local.exposure_ids()
    n_arrays = 0
    for exposure in local.exposure_ids():
        for stage in ("import_session", "correct_motion"):
            ours, theirs = (s.exposure_product(exposure, stage).read() for s in (local, remote))
            assert theirs.names == ours.names
            assert theirs.record.figures == ours.record.figures
            assert theirs.record.fingerprint == ours.record.fingerprint
            for name in ours.names:
                np.testing.assert_array_equal(theirs[name], ours[name])
                n_arrays += 1
    assert n_arrays > 4
    record_property("seen", f"{n_arrays} arrays and the figures of all stages are the same to the last bit")


@pytest.mark.parametrize("failure", ["answers 503", "drops connections"])
def test_an_outage_is_waited_for_and_nothing_is_lost_or_done_twice(
    failure, bucket, swift, movies, workers, monkeypatch, record_property
):
    with FailingProxy(swift.port) as proxy:
        become(monkeypatch, swift, swift.operator, proxy.endpoint)
        proxy.fail_at(b"/correct_motion/attempts/", 12, OUTAGE_SECONDS, failure)
        store = preprocess(f"{bucket}/session.zarr", movies)
        assert proxy.n_refused > 0, "the outage never came"
        assert_done_once(store)
        record_property("outage_seconds", OUTAGE_SECONDS)
        record_property("recovery_seconds", f"{proxy.recovery_seconds:.1f}")
        record_property("seen", f"{proxy.n_refused} requests refused and repeated; every product whole, of one attempt")


def test_patience_ends_with_words(bucket, swift, monkeypatch):
    store = SessionStore.create(f"{bucket}/session.zarr", "session")
    with FailingProxy(swift.port) as proxy:
        become(monkeypatch, swift, swift.operator, proxy.endpoint)
        monkeypatch.setenv("VITRIFLOW_STORE_PATIENCE_SECONDS", "0.5")
        proxy.fail(600, "answers 503")
        with pytest.raises(StoreUnreachableError, match="VITRIFLOW_STORE_PATIENCE_SECONDS"):
            SessionStore.open(store.url)
        with pytest.raises(StoreUnreachableError, match=proxy.endpoint):
            store.product(ADDRESS).put_outcome("failed", "why", "import_session", 1, StageParams(), {})


@pytest.mark.parametrize("wrong", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"])
def test_wrong_credentials_are_named_and_not_waited_for(wrong, bucket, swift, monkeypatch, record_property):
    store = SessionStore.create(f"{bucket}/session.zarr", "session")
    monkeypatch.setenv(wrong, "lab:nobody")
    monkeypatch.setenv("VITRIFLOW_STORE_PATIENCE_SECONDS", "3600")  # waiting would outlast the test
    started = time.monotonic()
    with pytest.raises(StoreUnreachableError, match=r"credentials.*AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        SessionStore.open(store.url)
    with (
        pytest.raises(StoreWriteError, match="credentials"),
        store.product(ADDRESS).write("import_session", 1, StageParams(), {}) as attempt,
    ):
        attempt.write("micrograph", np.ones((8, 8), np.float32))
    seconds = time.monotonic() - started
    assert seconds < 120
    record_property("seen", f"refused in {seconds:.0f} s, with the names of the variables to look at; nothing written")


def test_a_user_who_may_only_read_reads_and_is_refused_in_words(bucket, swift, monkeypatch):
    store = SessionStore.create(f"{bucket}/session.zarr", "session")
    with store.product(ADDRESS).write("import_session", 1, StageParams(), {}) as attempt:
        attempt.write("micrograph", np.full((8, 8), 3, np.float32))
    become(monkeypatch, swift, swift.reader)
    product = SessionStore.open(store.url).product(ADDRESS)
    assert product.read()["micrograph"].sum() == 192
    with (
        pytest.raises(StoreWriteError, match="do not allow this"),
        product.write("import_session", 1, StageParams(), {}) as attempt,
    ):
        attempt.write("micrograph", np.ones((8, 8), np.float32))
    assert product.read()["micrograph"].sum() == 192
