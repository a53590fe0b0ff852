"""Items on labelled workers: kept, failed and skipped ones, and the guard."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

from tasks.formats import FormatError
from tasks.records.session import StageParams
from tasks.stores.ledger import read_ledger
from tasks.workers import groups
from tasks.workers import stage as stage_runs
from tasks.workers.connection import NoWorkerError, connect, require_workers
from tasks.workers.device import device
from tasks.workers.items import SchedulerLostError, run_items
from tasks.workers.stage import SkipItem, Stage, run_stage


class ScaleParams(StageParams):
    factor: float = 2.0


def _no_inputs(store, item):
    return []


def _import_inputs(store, item):
    return [f"exposures/{item}/import_session"]


def _import(store, item, params, attempt):
    attempt.write("micrograph", np.full((4, 4), len(item), np.float32))


def _correct(store, item, params, attempt):
    if item == "bad":
        raise ValueError("exposure bad: constant")
    if item == "broken":
        raise FormatError("exposure broken: no image")
    if item == "idle":
        raise SkipItem("nothing to do")
    image = store.exposure_product(item, "import_session").read()["micrograph"]
    attempt.write("micrograph", image * np.float32(params.factor))


def _spend_cpu_time(store, item, params, attempt):
    end = time.thread_time() + 0.2
    while time.thread_time() < end:
        pass
    _import(store, item, params, attempt)


def _call_program(store, item, params, attempt):
    work = "import time; held = b'1' * 200_000_000\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-S", "-c", work], check=True)
    _import(store, item, params, attempt)


def _call_small_program(store, item, params, attempt):
    subprocess.run([sys.executable, "-S", "-c", "import time; time.sleep(0.5)"], check=True)
    _import(store, item, params, attempt)


def _import_slowly(store, item, params, attempt):
    time.sleep(2)
    _import(store, item, params, attempt)


IMPORT = Stage("import_session", 1, "CPU", _import, _no_inputs)
CORRECT = Stage("correct_motion", 1, "GPU", _correct, _import_inputs)
SLOW = Stage("import_session", 1, "CPU", _import_slowly, _no_inputs)
CALLS = Stage("import_session", 1, "CPU", _call_program, _no_inputs)
CALLS_SMALL = Stage("import_session", 1, "CPU", _call_small_program, _no_inputs)
BUSY = Stage("import_session", 1, "CPU", _spend_cpu_time, _no_inputs)


def test_every_item_is_accounted_for_and_a_second_run_keeps_what_is_done(store, workers):
    items = ["good", "bad", "broken", "idle"]
    run_stage(store.url, IMPORT, items, ScaleParams())
    report = run_stage(store.url, CORRECT, [*items, "unseen"], ScaleParams())
    assert report.done == ["good"]
    assert set(report.failed) == {"bad", "broken"}
    assert set(report.skipped) == {"idle", "unseen"}
    assert report.n_seen == 5
    assert store.exposure_product("good", "correct_motion").read()["micrograph"].mean() == 8
    assert run_stage(store.url, CORRECT, ["good"], ScaleParams()).kept == ["good"]
    assert run_stage(store.url, CORRECT, ["good"], ScaleParams(factor=3)).done == ["good"]
    ledger = read_ledger(store)
    assert ledger.counts() == {"done": 1, "failed": 1, "skipped": 1, "quarantined": 1}


def test_a_changed_import_is_corrected_again(store, workers):
    run_stage(store.url, IMPORT, ["good"], ScaleParams())
    run_stage(store.url, CORRECT, ["good"], ScaleParams())
    run_stage(store.url, IMPORT, ["good"], ScaleParams(factor=5))
    assert run_stage(store.url, CORRECT, ["good"], ScaleParams()).done == ["good"]


def test_a_missing_gpu_worker_is_named_with_the_command_that_starts_one():
    cluster = LocalCluster(n_workers=1, processes=False, resources={"CPU": 1}, dashboard_address=":0")
    with cluster, Client(cluster, set_as_default=True), pytest.raises(NoWorkerError, match="--resources GPU=1"):
        require_workers("GPU")


def test_usage_of_a_stage_is_measured(store, workers):
    report = run_stage(store.url, BUSY, ["x"], ScaleParams())
    assert 0.2 <= report.cpu_seconds < 20  # the inproc worker shares its process with the scheduler and the client
    assert report.peak_memory_bytes > 10_000_000
    assert device().type in {"cpu", "cuda"}


def test_a_program_that_a_stage_starts_counts_as_its_own(store, workers):
    """It computes for 0.3 CPU-s with 200 MB, its worker for nothing."""
    report = run_stage(store.url, CALLS, ["x"], ScaleParams())
    assert 0.3 <= report.cpu_seconds < 20
    assert report.peak_memory_bytes > 200_000_000 + run_stage(store.url, IMPORT, ["y"], ScaleParams()).peak_memory_bytes
    assert 0.3 <= store.exposure_product("x", "import_session").record().cpu_seconds < 20
    before = store.exposure_product("y", "import_session").record().cpu_seconds
    assert before < 0.3


def test_a_small_program_does_not_count_what_its_worker_holds(store):
    """It takes some 10 MB; the account of an ended program begins with what the process that started it held.

    In a process of its own: this one may have started other programs.
    """
    cluster = LocalCluster(n_workers=1, threads_per_worker=1, resources={"CPU": 1}, dashboard_address=":0")
    with cluster, Client(cluster, set_as_default=False) as client, client.as_current():
        alone = run_stage(store.url, IMPORT, ["y"], ScaleParams()).peak_memory_bytes
        assert alone > 150_000_000
        called = run_stage(store.url, CALLS_SMALL, ["x"], ScaleParams()).peak_memory_bytes
    assert 2_000_000 < called - alone < 60_000_000


def test_a_worker_that_comes_late_is_waited_for_and_its_absence_is_said(caplog):
    caplog.set_level("WARNING", logger="tasks.workers")
    cluster = LocalCluster(n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=":0")
    command = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--no-nanny"]
    command += ["--host", "127.0.0.1", "--no-dashboard", "--resources", "GPU=1"]
    with cluster, connect(cluster.scheduler_address, patience_seconds=120) as client:
        started = []
        late = threading.Timer(1.0, lambda: started.append(subprocess.Popen(command, stderr=subprocess.DEVNULL)))
        late.start()
        try:
            assert require_workers("GPU") is client
        finally:
            late.join()
            started[0].terminate()
            started[0].wait()
    assert "no worker labelled GPU" in caplog.text


def test_what_a_flow_left_behind_is_waited_for_and_not_computed_twice(store):
    with LocalCluster(n_workers=1, processes=False, resources={"CPU": 1}, dashboard_address=":0") as cluster:
        with Client(cluster.scheduler_address, set_as_default=False) as ended:
            group = stage_runs._StoreOfGroup(store.url)
            arguments = (stage_runs._make_product, "import_session", ("s",), ["a"], group, SLOW, ScaleParams())
            orphan = ended.submit(groups.run_group, *arguments)
            while not any(ended.run(groups.executing, ("s",)).values()):
                time.sleep(0.01)
            del orphan
        with connect(cluster.scheduler_address, owners=("s",)):
            report = run_stage(store.url, SLOW, ["a"], ScaleParams())
    assert report.kept == ["a"]
    assert len(store.exposure_product("a", "import_session").attempts()) == 1


def _record_call(item, folder):
    (Path(folder) / f"{item}-{time.time_ns()}").touch()
    if item == 13:
        raise ValueError("unlucky")
    return item * item


def _leave(item):
    if item == 2:
        sys.exit("a library that ends its process")
    if item == 3:
        raise BaseException("panic")  # as a library in Rust does
    return item


def _kill_worker_once(item, folder):
    seen = len(list(Path(folder).glob(f"{item}-*")))
    result = _record_call(item, folder)
    if item == 40 and not seen:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 41:
        os.kill(os.getpid(), signal.SIGKILL)
    return result


def test_quick_items_go_in_groups_and_each_has_its_own_outcome(workers, tmp_path):
    found = dict(run_items(_record_call, list(range(200)), str(tmp_path), label="CPU", name="quick"))
    assert {item: result for item, result in found.items() if item != 13} == {i: i * i for i in range(200) if i != 13}
    assert "quick 13: ValueError: unlucky" in str(found[13])
    assert len(list(tmp_path.iterdir())) == 200


def test_an_item_whose_library_exits_or_panics_fails_and_nobody_waits_for_it(workers):
    found = dict(run_items(_leave, list(range(5)), label="CPU", name="rude"))
    assert [result for item, result in found.items() if item not in (2, 3)] == [0, 1, 4]
    assert str(found[2]) == "rude 2: SystemExit: a library that ends its process"
    assert str(found[3]) == "rude 3: BaseException: panic"


def _kill(item, pid):
    os.kill(pid, signal.SIGKILL)
    time.sleep(30)


def test_where_the_scheduler_is_killed_the_stage_says_so_and_no_item_is_blamed(tmp_path):
    known_at = tmp_path / "scheduler.json"
    scheduler, worker = (
        subprocess.Popen([sys.executable, "-m", f"distributed.cli.dask_{role}", "--scheduler-file", known_at, *options])
        for role, options in {
            "scheduler": ["--port", "0", "--no-dashboard"],
            "worker": ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--resources", "CPU=1"],
        }.items()
    )
    try:
        while not known_at.exists() or not known_at.stat().st_size:
            time.sleep(0.1)
        address = json.loads(known_at.read_text())["address"]
        with (
            connect(address, patience_seconds=60),
            pytest.raises(SchedulerLostError, match="lost: the Dask scheduler withdrew its items"),
        ):
            list(run_items(_kill, [1, 2], scheduler.pid, label="CPU", name="lost"))
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()


def test_of_a_group_whose_worker_is_killed_only_the_item_that_kills_it_fails(tmp_path):
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        LocalCluster(n_workers=1, threads_per_worker=1, resources={"CPU": 1}, dashboard_address=":0") as cluster,
        connect(cluster.scheduler_address, patience_seconds=60),
    ):
        found = dict(run_items(_kill_worker_once, list(range(80)), str(tmp_path), label="CPU", name="deadly"))
    assert {item for item, result in found.items() if result != item * item} == {13, 41}
    assert "ran out of memory" in str(found[41])
    assert len(list(tmp_path.glob("40-*"))) >= 2


def _wait_from_the_twentieth_on(item):
    time.sleep(0.0 if item < 20 else 0.3)
    return item


def test_items_that_turn_out_slow_are_left_to_other_groups_and_all_are_done_once(workers):
    """Twenty quick items let the stage hand out large groups; those that follow take 0.3 s each."""
    part = groups.run_group(_wait_from_the_twentieth_on, "slowing", (), list(range(18, 30)))
    assert part.results == [18, 19, 20, 21]
    found = list(run_items(_wait_from_the_twentieth_on, list(range(26)), label="CPU", name="slowing"))
    assert sorted(found) == [(i, i) for i in range(26)]
