"""Items on labelled workers: kept, failed and skipped ones, and the guard."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from distributed import Client, LocalCluster

from tasks import workers as tasks_workers
from tasks.formats import FormatError
from tasks.records.session import StageParams
from tasks.stores.ledger import read_ledger
from tasks.workers import NoWorkerError, SkipItem, Stage, connect, require_workers, run_stage


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


def _import_slowly(store, item, params, attempt):
    time.sleep(2)
    _import(store, item, params, attempt)


IMPORT = Stage("import_session", 1, "CPU", _import, _no_inputs)
CORRECT = Stage("correct_motion", 1, "GPU", _correct, _import_inputs)
SLOW = Stage("import_session", 1, "CPU", _import_slowly, _no_inputs)
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
    assert tasks_workers.device().type in {"cpu", "cuda"}


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
            arguments = (tasks_workers._make_product, "import_session", ("s",), "a", store.url, SLOW, ScaleParams())
            orphan = ended.submit(tasks_workers._run_registered, *arguments)
            while not any(ended.run(tasks_workers._executing, ("s",)).values()):
                time.sleep(0.01)
            del orphan
        with connect(cluster.scheduler_address, owners=("s",)):
            report = run_stage(store.url, SLOW, ["a"], ScaleParams())
    assert report.kept == ["a"]
    assert len(store.exposure_product("a", "import_session").attempts()) == 1
