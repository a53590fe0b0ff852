"""An S3 server that checks who asks, as fixtures: import both where a test uses `bucket`."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator

import boto3
import numpy as np
import pytest
from moto.server import ThreadedMotoServer


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
