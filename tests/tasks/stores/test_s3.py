"""The same store on S3, against a server that checks who asks."""

# ruff: noqa: F811
from __future__ import annotations

import numpy as np
import pytest

from tasks.records.session import StageParams
from tasks.stores.commit import fingerprint
from tasks.stores.ledger import read_ledger
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import Location, StoreError
from tests.truth.s3_server import bucket, endpoint  # noqa: F401

ADDRESS = "exposures/a/import_session"


def write(store: SessionStore, value: float) -> None:
    with store.product(ADDRESS).write("import_session", 1, StageParams(), {}) as attempt:
        attempt.write("micrograph", np.full((600, 700), value, np.float32))
        attempt.figures["value"] = value


def test_a_product_on_s3_reads_back_and_is_replaced_whole(bucket):
    store = SessionStore.create(f"{bucket}/session.zarr", "test")
    write(store, 1.0)
    write(store, 2.0)
    product = SessionStore.open(f"{bucket}/session.zarr").product(ADDRESS)
    assert product.read()["micrograph"].mean() == 2
    assert product.is_current(fingerprint("import_session", 1, StageParams(), {}))
    product.verify()
    assert len(product.attempts()) == 2
    assert product.sweep() == 1
    assert product.read()["micrograph"].mean() == 2
    assert store.exposure_ids() == ["a"]
    assert read_ledger(store).counts()["done"] == 1


def test_a_writer_that_fails_on_s3_leaves_nothing_to_read(bucket):
    store = SessionStore.create(f"{bucket}/session.zarr", "test")
    with (
        pytest.raises(ValueError, match="lightning"),
        store.product(ADDRESS).write("s", 1, StageParams(), {}) as attempt,
    ):
        attempt.write("micrograph", np.ones((8, 8), np.float32))
        raise ValueError("lightning")
    assert store.product(ADDRESS).record() is None
    assert store.product(ADDRESS).attempts() == []


def test_a_wrong_secret_is_refused_and_named(bucket, monkeypatch):
    SessionStore.create(f"{bucket}/session.zarr", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreError, match="credentials"):
        SessionStore.open(f"{bucket}/session.zarr")


def test_an_unknown_scheme_is_refused():
    with pytest.raises(StoreError, match="expected a folder or s3"):
        Location.of("gopher://store")
