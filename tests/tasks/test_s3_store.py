"""The same store on S3, against a server that checks who asks."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer

from tasks.records.session import StageParams
from tasks.stores.commit import fingerprint
from tasks.stores.ledger import read_ledger
from tasks.stores.location import Location, StoreError
from tasks.stores.session_store import SessionStore

ADDRESS = "exposures/a/import_session"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch) -> Iterator[str]:
    """A bucket of a user with a key; the server refuses every other one."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    root = {"aws_access_key_id": "root", "aws_secret_access_key": "root"}
    iam = boto3.client("iam", endpoint_url=endpoint, region_name="us-east-1", **root)
    s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **root)
    name = f"sessions-{np.random.default_rng().integers(1 << 40)}"
    s3.create_bucket(Bucket=name)
    iam.create_user(UserName=name)
    policy = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}'
    iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=policy)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    _check_keys_after(endpoint, "0")
    yield f"s3://{name}"
    _check_keys_after(endpoint, "inf")


def _check_keys_after(endpoint: str, n_actions: str) -> None:
    """From how many requests on moto checks keys; without it any key will do."""
    request = urllib.request.Request(f"{endpoint}/moto-api/reset-auth", data=n_actions.encode(), method="POST")
    request.add_header("Content-Type", "text/plain")
    urllib.request.urlopen(request, timeout=10).close()


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
