"""Retention from the command line and as a flow over all sessions of a facility."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.sweep_sessions import POLICY, SweepError, read_policy, sweep_sessions
from tasks.records.retention import RetentionPolicy
from tasks.stores.session_store import SessionStore
from tests.truth.retained_session import put_session

runner = CliRunner()
WIDE = {"COLUMNS": "200"}


@pytest.fixture
def policy(tmp_path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text("imported_movies: 0 days\n")
    return path


def test_the_policy_of_the_project_keeps_maps_and_can_be_read():
    policy = read_policy(POLICY)
    assert policy.maps == policy.particle_sets == "forever"
    assert policy.days("imported_movies") == 60


def test_a_policy_that_says_something_else_is_named(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("maps: some time\n")
    with pytest.raises(ValueError, match=r"policy.yaml: maps: found 'some time'.*expected `forever`"):
        read_policy(path)


def test_a_sweep_prints_bytes_and_removes_nothing_until_it_is_told(store, policy):
    put_session(store, ["a", "b"])
    told = runner.invoke(app, ["sweep", str(Path(store.url).parent), "--policy", str(policy)], env=WIDE)
    assert told.exit_code == 0, told.output
    assert "bytes would be removed in 1 sessions" in told.output
    assert "nothing was removed; give --delete" in told.output
    assert store.exposure_product("a", "import_session").record().expired is None
    done = runner.invoke(app, ["sweep", store.url, "--policy", str(policy), "--delete"], env=WIDE)
    assert done.output.splitlines()[-1].split()[0] == told.output.splitlines()[-2].split()[0] != "0"
    assert store.exposure_product("a", "import_session").record().expired is not None


def test_expired_products_are_marked_to_be_made_again(store, policy):
    put_session(store, ["a", "b"])
    runner.invoke(app, ["sweep", store.url, "--policy", str(policy), "--delete"])
    wrong = runner.invoke(app, ["restore", store.url, "--product", "movies"], env=WIDE)
    assert wrong.exit_code == 1
    assert "expected one of imported_movies" in wrong.output
    one = runner.invoke(app, ["restore", store.url, "--product", "exposures/a/import_session"], env=WIDE)
    assert "1 products will be made again" in one.output
    assert "1 products" in runner.invoke(app, ["restore", store.url, "--product", "imported_movies"], env=WIDE).output
    assert "0 products" in runner.invoke(app, ["restore", store.url], env=WIDE).output


def test_a_folder_without_sessions_is_named(tmp_path):
    assert "found no session" in runner.invoke(app, ["sweep", str(tmp_path)], env=WIDE).output


@pytest.mark.server
def test_the_flow_sweeps_every_session_and_names_the_one_that_it_cannot(tmp_path, connected):
    stores = [SessionStore.create(str(tmp_path / f"{name}.zarr")) for name in ("first", "second", "third")]
    for store in stores:
        put_session(store, ["a"])
    (tmp_path / "second.zarr" / "maps" / "refined" / "commit.json").write_text("{")
    policy = RetentionPolicy(imported_movies="0 days")
    with pytest.raises(SweepError, match=r"1 of 3 sessions.*second\.zarr.*maps/refined"):
        sweep_sessions(str(tmp_path), policy, is_dry_run=False)
    expired = [store.exposure_product("a", "import_session").record().expired is not None for store in stores]
    assert expired == [True, False, True]
