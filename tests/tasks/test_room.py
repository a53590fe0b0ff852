"""What a stage needs against what its workers and its disk have."""

import logging
import math

import pytest
from distributed import Client, LocalCluster

from tasks.records.forecast import Need
from tasks.records.session import StageParams, StageReport
from tasks.stores.upkeep.costs import add_costs
from tasks.workers.allotment import allotted, forget_other_stages, kept, n_pieces, spare_memory_bytes
from tasks.workers.items import run_items
from tasks.workers.room import PROCESS_BYTES, DoesNotFitError, Share, fitting, share_among
from tasks.workers.stage import Stage, run_stage

GB = 10**9


def need(memory_gb: float, least_gb: float | None = None, disk_bytes: int = 0, n_items: int = 8) -> Need:
    return Need(
        stage="correct_motion", n_items=n_items, memory_bytes=int(memory_gb * GB),
        least_memory_bytes=int((least_gb or memory_gb) * GB), disk_bytes=disk_bytes, cpu_seconds=120,
        told_from="24 frames of 4096 × 4096 px", remedy="bin the movies",
    )  # fmt: skip


def test_an_item_that_fits_beside_the_others_takes_one_slot():
    assert share_among({"a": 8 * GB}, {"a": 4}, "CPU", need(1.5)) == Share(0.5 * GB, 1, 4, None)


def test_where_pieces_are_needed_an_item_gets_what_there_is():
    share = share_among({"a": 8 * GB}, {"a": 4}, "CPU", need(5, least_gb=1))
    assert (share.n_slots, share.n_at_once) == (1, 4)
    assert share.spare_bytes == 1 * GB


def test_where_the_smallest_pieces_do_not_fit_fewer_items_run_at_once():
    share = share_among({"a": 8 * GB}, {"a": 4}, "CPU", need(3))
    assert (share.n_slots, share.n_at_once) == (2, 2)
    share = share_among({"a": 8 * GB}, {"a": 4}, "CPU", need(5))
    assert (share.n_slots, share.n_at_once) == (4, 1)


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 7, 16, 64])
@pytest.mark.parametrize("memory_gb", [0.1, 0.7, 1.9, 3.3, 8.0])
def test_what_runs_at_once_never_exceeds_the_worker(slots, memory_gb):
    share = share_among({"a": 8 * GB}, {"a": slots}, "CPU", need(memory_gb))
    at_once = slots // share.n_slots
    assert at_once >= 1
    assert at_once * (memory_gb * GB + share.spare_bytes) <= 8 * GB + 1


def test_workers_that_are_too_small_get_no_items():
    share = share_among({"small": 1 * GB, "large": 9 * GB}, {"small": 1, "large": 2}, "GPU", need(4))
    assert share.only_on == ("large",)
    assert share.n_at_once == 2


def test_what_fits_nowhere_is_refused_with_the_figures():
    with pytest.raises(DoesNotFitError) as refused:
        share_among({"a": 2.5 * GB, "b": 1 * GB}, {"a": 1, "b": 1}, "GPU", need(7.2))
    words = str(refused.value)
    assert "correct_motion: needs 7.2 GB for one of 8 items (24 frames of 4096 × 4096 px)" in words
    assert "the largest of 2 workers labelled GPU has 2.5 GB" in words
    assert "--memory-limit 8GiB" in words
    assert "or bin the movies" in words
    # the worker that is asked for would do
    assert 0.9 * 8 * 2**30 - PROCESS_BYTES >= 7.2 * GB


def _spare(_item: int) -> float:
    return spare_memory_bytes()


def test_an_item_knows_on_its_worker_what_it_may_take_and_the_stage_says_what_it_will_need(store, caplog):
    caplog.set_level(logging.INFO, logger="tasks.workers.room")
    cluster = LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, resources={"CPU": 2}, dashboard_address=":0",
        memory_limit="16GB", silence_logs=False,
    )  # fmt: skip
    report = StageReport(stage="correct_motion")
    with cluster, Client(cluster, set_as_default=True):
        with fitting(store, "CPU", need(9, least_gb=2), report):
            inside = dict(run_items(_spare, [1, 2], label="CPU", name="x"))
        outside = dict(run_items(_spare, [1], label="CPU", name="x"))
    assert inside[1] == pytest.approx((0.9 * 16 * GB - PROCESS_BYTES) / 2 - 2 * GB)
    assert outside == {1: math.inf}
    assert "an item cut into smaller pieces from 9 GB, 2 at a time" in caplog.text
    assert "about 60 s (120 CPU-s)" in caplog.text
    assert report.foreseen_cpu_seconds == 120


@pytest.mark.parametrize(("memory_gb", "n_made"), [(0.1, 1), (9, 2)])
def test_what_a_worker_keeps_of_other_stages_is_given_back_where_the_room_is_needed(store, memory_gb, n_made):
    made = []
    forget_other_stages("none")
    cluster = LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, resources={"GPU": 1}, dashboard_address=":0",
        memory_limit="10GB", silence_logs=False,
    )  # fmt: skip
    with cluster, Client(cluster, set_as_default=True):
        kept("refine_map", "block", lambda: made.append(1), n_kept=2)
        with fitting(store, "GPU", need(memory_gb, least_gb=0.1), StageReport(stage="correct_motion")):
            kept("refine_map", "block", lambda: made.append(1), n_kept=2)
    assert len(made) == n_made


def test_time_is_told_from_what_this_session_took(store, workers, caplog):
    caplog.set_level(logging.INFO, logger="tasks.workers.room")
    add_costs(store, [StageReport(stage="correct_motion", done=["a"], cpu_seconds=300, foreseen_cpu_seconds=100)])
    with fitting(store, "CPU", need(0.1), StageReport(stage="correct_motion")):
        pass
    assert "about 6 min (360 CPU-s)" in caplog.text


def _touch(store, item, params, attempt):
    attempt.figures["ran"] = True


def _too_much(store, items, params):
    return need(0.1, disk_bytes=10**18)


def _too_large(store, items, params):
    return need(10**6)


@pytest.mark.parametrize(("needs", "words"), [(_too_much, "GB on the disk"), (_too_large, "workers labelled CPU")])
def test_a_stage_that_does_not_fit_starts_no_item(store, workers, needs, words):
    stage = Stage("import_session", 1, "CPU", _touch, lambda store, item: [], needs=needs)
    with pytest.raises(DoesNotFitError, match=words):
        run_stage(store.url, stage, ["a", "b"], StageParams())
    assert store.exposure_product("a", "import_session").record() is None


def test_a_worker_keeps_the_last_values_of_one_stage_only():
    made = []

    def value(name):
        return kept("refine_map", name, lambda: made.append(name) or name, n_kept=2)

    assert [value(name) for name in "aababcb"] == list("aababcb")
    assert made == ["a", "b", "c"]
    value("a")
    assert made == ["a", "b", "c", "a"]
    forget_other_stages("classify_2d")
    value("a")
    assert made[-2:] == ["a", "a"]


def test_pieces_are_as_many_as_fit_and_at_least_one():
    assert n_pieces(1e9, 4) == 4
    for spare, expected in ((0, 1), (-1e9, 1), (0.99e9, 1), (1e9, 2), (2.5e9, 3), (9e9, 4)):
        with allotted(spare):
            assert n_pieces(1e9, 4) == expected
