"""Fixtures that many tests share: an in-process labelled cluster, a fresh session store, the real data folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from distributed import Client, LocalCluster

from tasks.stores.session_store import SessionStore
from tests.truth.pretended_device import pretend_on_workers
from tests.truth.real_maps import REAL_DATA

torch.set_num_threads(2)


@pytest.fixture(scope="session")
def workers() -> Iterator[Client]:
    """One worker in this process that carries both labels; stages find it as the default client."""
    cluster = LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        resources={"CPU": 1, "GPU": 1},
        dashboard_address=":0",
    )
    with cluster, Client(cluster, set_as_default=True) as client:
        yield client


@pytest.fixture(params=["CPU", "accelerator"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the items of a test compute: on the CPU and, once more, on an accelerator that is pretended."""
    if request.param == "accelerator":
        pretend_on_workers(monkeypatch)
    return str(request.param)


@pytest.fixture
def store(tmp_path: Path) -> SessionStore:
    """An empty session in a folder of the test."""
    return SessionStore.create(str(tmp_path / "session.zarr"), "test")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real micrographs, particles and maps; tests that need it skip where it is absent."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"real data folder {REAL_DATA} is absent; set VITRIFLOW_REAL_DATA to run this test")
    return REAL_DATA
