"""The sessions of a facility side by side: counts that add up, states that are true, and none read twice in vain."""

import time

import pytest

from tasks.judge_session import JudgeSessionParams, judge_session
from tasks.records.session import StageParams
from tasks.report import facility
from tasks.report.facility import FacilityView, facility_markdown, facility_rows, glance
from tasks.stores.files.arrivals import Arrival, add_arrivals
from tasks.stores.products.verdict_store import read_verdict
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.lease import hold
from tests.truth.filled_session import fill_session


@pytest.fixture
def filled(tmp_path):
    store = SessionStore.create(str(tmp_path / "stores" / "beta.zarr"), "beta")
    return store, fill_session(store, n_exposures=5)


def test_every_exposure_is_counted_once_and_the_map_is_told(filled):
    store, truth = filled
    found = glance(store, time.time())
    assert found.n_seen == len(store.exposure_ids()) == sum(found.counts.values())
    assert found.n_seen - found.counts["in use"] == len(truth.reasons)
    assert found.n_particles > 0
    assert (
        found.resolution_angstrom
        == store.product("maps/refined").record().details["density_map"]["resolution_angstrom"]
    )
    assert found.state == "quiet"


def test_files_of_the_last_hour_are_the_rate_and_what_waits_is_said(filled):
    store, _ = filled
    now = 1_000_000.0
    ages = (10.0, 1800.0, 3599.0, 3601.0, 90_000.0)
    add_arrivals(store, [Arrival(f"/movies/{i}.tif", 1, 1, "", now - age) for i, age in enumerate(ages)])
    found = glance(store, now)
    assert (found.n_last_hour, found.n_waiting, found.state) == (3, 5, "collecting, files wait")
    assert facility_rows([found], now)[0]["last file"] == "10 s ago"
    later = glance(store, now + 7200)
    assert (later.n_last_hour, later.state) == (0, "files wait")
    assert facility_rows([later], now + 7200)[0]["last file"] == "2 h ago"


def test_what_flows_work_on_is_shown_while_they_do(filled):
    store, _ = filled
    with hold(store.location, "maps", "a test"):
        assert glance(store, time.time()).state == "refining"
    assert glance(store, time.time()).state == "quiet"


def test_many_lost_exposures_are_a_concern_and_come_first(filled, tmp_path):
    store, truth = filled
    assert len(truth.reasons) > 0.2 * len(store.exposure_ids())
    quiet = SessionStore.create(str(tmp_path / "stores" / "alpha.zarr"), "alpha")
    now = time.time()
    rows = facility_rows([glance(quiet, now), glance(store, now)], now)
    assert [row["session"] for row in rows] == ["beta", "alpha"]
    assert "of the last" in rows[0]["look at"]
    assert rows[1]["look at"] == ""
    assert rows[1]["map Å"] == "–"


def test_a_session_that_has_not_changed_is_not_read_again(filled, tmp_path, monkeypatch):
    store, _ = filled
    read = []
    monkeypatch.setattr(facility, "glance", lambda store, now: read.append(store.url) or glance(store, now))
    view = FacilityView(str(tmp_path / "stores"))
    now = time.time()
    assert [g.name for g in view.glances(now)] == ["beta"]
    view.glances(now)
    assert len(read) == 1
    add_arrivals(store, [Arrival("/movies/late.tif", 1, 1, "", now - 10_000)])
    assert view.glances(now)[0].n_waiting == 1
    assert len(read) == 2


def test_what_is_to_be_done_next_is_shown_while_the_verdict_holds(filled, workers, tmp_path):
    store, _ = filled
    view = FacilityView(str(tmp_path / "stores"))

    def shown() -> str:
        (row,) = facility_rows(view.glances(time.time()), time.time())
        return row["next"]

    assert shown() == "–"
    judge_session.fn(store.url, JudgeSessionParams(model=None))
    assert shown() == read_verdict(store, None).decision == "collect more data"
    with store.product("maps/sharpened").write("sharpen_map", 9, StageParams(), {}):
        pass
    assert shown() == "–"


def test_a_store_that_cannot_be_read_hides_no_other(filled, tmp_path, caplog):
    (tmp_path / "stores" / "broken.zarr").mkdir()
    (tmp_path / "stores" / "broken.zarr" / "zarr.json").write_text('{"vitriflow": ')
    found = FacilityView(str(tmp_path / "stores")).glances(time.time())
    assert [g.name for g in found] == ["beta"]
    assert "broken.zarr" in caplog.text


def test_the_table_links_to_the_sessions_pages(filled):
    store, _ = filled
    text = facility_markdown(facility_rows([glance(store, 0.0)], 0.0))
    assert "[beta](/artifacts/key/beta-session)" in text
    header, _, row = text.splitlines()
    assert row.count(" | ") == header.count(" | ")
    assert facility_markdown([]) == "No session has been found yet."
