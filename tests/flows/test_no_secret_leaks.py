"""A session on S3 through a real Prefect server: its secrets are nowhere that anyone can read."""

# ruff: noqa: F811
from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path

import numpy as np
import pytest
from prefect import flow, task
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_LOGGING_EXTRA_LOGGERS, temporary_settings
from typer.testing import CliRunner

from flows.cli import app
from tasks.records.session import StageParams
from tasks.report_session import ReportSessionParams, report_session
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import Location, StoreError
from tasks.workers.stage import Stage, run_stage
from tests.truth.s3_server import bucket, endpoint  # noqa: F401

pytestmark = [pytest.mark.server, pytest.mark.site, pytest.mark.timeout(400)]


def _import(store, item, params, attempt):
    attempt.write("micrograph", np.ones((4, 4), np.float32))
    if item == "bad":  # as a library does that repeats what it was called with
        raise RuntimeError(f"lightning struck while signing with {os.environ['AWS_SECRET_ACCESS_KEY']}")


IMPORT = Stage("import_session", 1, "CPU", _import, lambda store, item: [])


@task
def import_two(url: str) -> None:
    run_stage(url, IMPORT, ["good", "bad"], StageParams())


@flow
def observe(url: str) -> None:
    SessionStore.create(url)
    import_two(url)
    report_session(url, ReportSessionParams())


def places_with(words: bytes, home: Path, store: Location | None) -> list[str]:
    """Files of the server and the services, and keys of the store, in which the words stand."""
    found = [str(path) for path in home.rglob("*") if path.is_file() and words in path.read_bytes()]
    if store is not None:
        found += [name for name in store.files() if words in ((store / name).read_bytes() or b"")]
    return found


def wait_for(words: bytes, home: Path) -> None:
    """The server writes logs to its database in batches."""
    deadline = time.monotonic() + 120
    while not any("prefect.db" in name for name in places_with(words, home, None)):
        assert time.monotonic() < deadline, f"{words!r} never came to the database"
        time.sleep(0.5)


def test_nothing_secret_is_in_logs_records_reports_or_the_database(
    bucket, connected, settings, workers, monkeypatch, caplog
):
    key_id, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    store = Location.of(f"{bucket}/session.zarr")
    with temporary_settings({PREFECT_LOGGING_EXTRA_LOGGERS: ["tasks", "flows"]}), caplog.at_level(logging.INFO):
        observe(store.url)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", wrong := f"wrong-{secret[::-1]}")
        with pytest.raises(StoreError):
            observe(store.url)
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        Secret(value=json.dumps({"access_key_id": key_id, "secret_access_key": secret})).save("facility-s3")
        monkeypatch.setenv("VITRIFLOW_S3_BLOCK", "facility-s3")
        reason = SessionStore.open(store.url).exposure_product("bad", "import_session").record().reason
        assert "lightning struck while signing with ***" in reason
    wait_for(b"cannot be read", settings.home)
    assert places_with(b"lightning struck", settings.home, store), "the search finds what is there"
    for one in (secret, wrong):
        assert places_with(one.encode(), settings.home, store) == []
        assert one not in caplog.text


def test_a_block_that_is_not_there_is_named(bucket, connected, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("VITRIFLOW_S3_BLOCK", "no-such-block")
    with pytest.raises(StoreError, match="no Secret block 'no-such-block'"):
        SessionStore.open(f"{bucket}/session.zarr")


def test_a_command_with_a_secret_is_refused_before_any_server_hears_of_it(connected, settings, tmp_path):
    secret = "correct-horse-battery"
    for session, change in (
        (f"s3://me:{secret}@bucket/session.zarr", "refine_map.symmetry=O"),
        (str(tmp_path / "s.zarr"), f"import_session.gain=https://me:{secret}@host/gain.mrc"),
    ):
        command = ["process", "--session", session, "--movies", str(tmp_path), "--pixel-size", "1.0"]
        result = CliRunner().invoke(app, [*command, "--diameter", "100", "--set", change], env={"COLUMNS": "400"})
        assert result.exit_code == 1
        assert "SecretError" in result.output
        assert secret not in result.output
    assert places_with(secret.encode(), settings.home, None) == []
