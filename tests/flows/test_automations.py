"""Automations on a real server: each is triggered, and what it does is seen at a receiver or in the state of a run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import UUID

import psutil
import pytest
from distributed import Client
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.states import Pending
from pydantic import SecretStr

from flows.declarations import Declarations, DeploymentDeclaration, read_declarations
from flows.deploy import deploy
from flows.events import emit_disk_low, emit_gain_alarm, emit_gpu_waiting, emit_quality_drift
from flows.settings import Settings
from tasks.check_quality import CheckQualityParams, quality_changes
from tasks.check_resources import CheckResourcesParams, disk_shortage, waiting_work
from tasks.records.gain import GainAlarm
from tasks.stores.ledger import Line

pytestmark = [pytest.mark.server, pytest.mark.site, pytest.mark.timeout(600)]

PATIENCE_SECONDS = 180
"""A limit for a machine that is busy; what is waited for takes seconds."""
HEARTBEAT_WINDOW_SECONDS = 12

FLOWS = '''
import os, sys, time
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow

@flow(name="rehearsal", flow_run_name="{what}")
def rehearsal(what: str) -> None:
    """A flow that fails, or that waits to be killed."""
    if what == "fails":
        raise ValueError('the "gain" is\\nof another shape')
    print("alive", flush=True)
    time.sleep(600)

if __name__ == "__main__":
    what, run_id = sys.argv[1:]
    if run_id == "by hand":
        rehearsal(what)
    else:
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(run_id)
        run_flow(rehearsal, flow_run=run, parameters=run.parameters)
'''


class Receiver(ThreadingHTTPServer):
    """A webhook receiver on a free port that keeps what is posted to it."""

    def __init__(self) -> None:
        received: list[dict[str, str]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.received = received
        self.url = f"http://127.0.0.1:{self.server_address[1]}/alarm"

    def wait_for(self, subject: str) -> dict[str, str]:
        wait_until(lambda: any(re.search(subject, message["subject"]) for message in self.received), subject)
        return next(message for message in self.received if re.search(subject, message["subject"]))


def wait_until(is_there: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_there():
        assert time.monotonic() < deadline, f"{what}: nothing within {PATIENCE_SECONDS} s"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("rehearsal") / "rehearsal.py"
    path.write_text(FLOWS)
    return path


@pytest.fixture(scope="module")
def client(connected, receiver, script) -> Iterator[SyncPrefectClient]:
    """The automations as they are declared, but for a shorter heartbeat window and one flow more that is ours."""
    declared = read_declarations()
    rehearsal = DeploymentDeclaration.model_validate(
        {"name": "rehearsal", "entrypoint": f"{script}:rehearsal", "work_pool": {"name": "vitriflow-cpu"}}
    )
    automations = [
        a.model_copy(update={"trigger": a.trigger | {"within": HEARTBEAT_WINDOW_SECONDS}})
        if a.name == "lost heartbeat"
        else a
        for a in declared.automations
    ]
    watched = script.parent / "watched"
    watched.mkdir()
    folders = {"roots": [str(watched)], "stores": str(watched / "stores")}
    deployments = [
        d.model_copy(update={"parameters": d.parameters | folders}) if d.name == "watch-sessions" else d
        for d in declared.deployments
    ]
    changed = declared.model_copy(update={"deployments": [*deployments, rehearsal], "automations": automations})
    deploy(changed, Settings(alarm_webhook=SecretStr(receiver.url)))
    with get_client(sync_client=True) as client:
        yield client
    deploy(Declarations(), Settings())


def start(script: Path, what: str, api: str, run: str = "by hand") -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PREFECT_API_URL": api,
        "PREFECT_HOME": str(script.parent / what),
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "DO_NOT_TRACK": "1",
    }
    return subprocess.Popen(
        [sys.executable, str(script), what, run], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def test_a_vanished_process_becomes_a_crashed_run_and_a_message(client, receiver, script, connected):
    deployment = client.read_deployment_by_name("rehearsal/rehearsal")
    run = client.create_flow_run_from_deployment(
        deployment.id, parameters={"what": "vanishes"}, name="vanishes", state=Pending()
    )
    process = start(script, "vanishes", connected.prefect_api_url, str(run.id))
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"alive\n"
        assert client.read_flow_run(run.id).state_name == "Running"
        wait_until(lambda: has_event(client, "prefect.flow-run.heartbeat", run.id), "a heartbeat")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until(lambda: client.read_flow_run(run.id).state_name == "Crashed", "Crashed")
    state = client.read_flow_run(run.id).state
    assert state is not None and "heartbeat is lost" in str(state.message)
    assert "heartbeat is lost" in receiver.wait_for("rehearsal Crashed: vanishes")["message"]


@contextmanager
def pool_worker(settings: Settings, api: str) -> Iterator[psutil.Process]:
    """Starts the runs of the pool for CPUs, as `vitriflow up` does; ended with all that it started."""
    environment = {
        **os.environ,
        "PREFECT_API_URL": api,
        "PREFECT_HOME": str(settings.home / "pool"),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "VITRIFLOW_HOME": str(settings.home),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "vitriflow-cpu", "--type", "process"]
    with open(settings.home / "pool.log", "ab") as log:
        worker = psutil.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield worker
    finally:
        kill_family(worker)


def kill_family(process: psutil.Process) -> None:
    """All at once, as when a machine goes: nobody is left to say what happened."""
    if not process.is_running():
        return
    family = [process, *process.children(recursive=True)]
    for member in family:
        member.suspend()
    for member in family:
        member.kill()
    psutil.wait_procs(family, timeout=30)


def test_a_watch_whose_machine_went_is_started_again(client, receiver, connected, settings):
    deployment = client.read_deployment_by_name("watch_sessions/watch-sessions")

    def runs() -> list[FlowRun]:
        wanted = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
        return sorted(client.read_flow_runs(deployment_filter=wanted), key=lambda run: run.created)

    run = client.create_flow_run_from_deployment(deployment.id, name="watches the night")
    with pool_worker(settings, connected.prefect_api_url) as worker:
        wait_until(lambda: client.read_flow_run(run.id).state_name == "Running", "the watch to run")
        wait_until(lambda: has_event(client, "prefect.flow-run.heartbeat", run.id), "a heartbeat")
        assert [found.id for found in runs()] == [run.id]
        kill_family(worker)
    wait_until(lambda: client.read_flow_run(run.id).state_name == "Crashed", "Crashed")
    receiver.wait_for("watch_sessions Crashed: watches the night")
    wait_until(lambda: len(runs()) == 2, "another run")
    successor = runs()[1]
    assert successor.parameters["roots"] == deployment.parameters["roots"]
    with pool_worker(settings, connected.prefect_api_url):
        wait_until(lambda: client.read_flow_run(successor.id).state_name == "Running", "the next watch to run")
    client.delete_flow_run(successor.id)


def test_a_watch_that_has_ended_is_followed_while_its_schedule_is_on(client, connected, settings, record_property):
    deployment = client.read_deployment_by_name("watch_sessions/watch-sessions")
    schedule = deployment.schedules[0]

    def runs() -> list[FlowRun]:
        """Those that began, the first first."""
        of_deployment = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
        found = [run for run in client.read_flow_runs(deployment_filter=of_deployment) if run.start_time]
        return sorted(found, key=lambda run: run.start_time)

    before = {run.id for run in runs()}
    client.update_deployment_schedule(deployment.id, schedule.id, active=True)
    try:
        first = client.create_flow_run_from_deployment(deployment.id, parameters={"seconds": 6})
        with pool_worker(settings, connected.prefect_api_url):
            wait_until(lambda: len({run.id for run in runs()} - before) >= 2, "the next watch to run")
        ended, successor = [run for run in runs() if run.id not in before][:2]
    finally:
        client.update_deployment_schedule(deployment.id, schedule.id, active=False)
        for run in runs():
            if run.id not in before:
                client.delete_flow_run(run.id)
    assert ended.id == first.id and ended.state_name == "Completed"
    assert successor.parameters["seconds"] == deployment.parameters["seconds"]
    gap = (successor.start_time - ended.end_time).total_seconds()
    record_property("seconds_without_a_watch", gap)
    assert 0 < gap < PATIENCE_SECONDS


def has_event(client: SyncPrefectClient, name: str, run: UUID) -> bool:
    body = {"filter": {"event": {"name": [name]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}}
    return bool(client.request("POST", "/events/filter", json=body).json()["events"])


def test_a_failed_run_is_told_with_its_reason(client, receiver, script, connected):
    process = start(script, "fails", connected.prefect_api_url)
    assert process.wait(PATIENCE_SECONDS) != 0
    assert 'the "gain" is\nof another shape' in receiver.wait_for("rehearsal Failed: fails")["message"]


def test_a_quality_drift_is_told_with_its_figures(client, receiver):
    lines = [
        Line(
            exposure=f"m{i:04d}-0",
            state="done",
            stage="estimate_ctf",
            figures={"fit_resolution_angstrom": (4.0 if i < 200 else 7.0) + 0.1 * (i % 7)},
        )
        for i in range(225)
    ]
    changes = quality_changes(lines, CheckQualityParams())
    emit_quality_drift("night", changes)
    emit_quality_drift("night", changes)
    emit_quality_drift("day", changes)
    told = receiver.wait_for("^night: CTF resolution changed$")
    assert "CTF resolution went from 4.3 to 7.3 Å" in told["message"]
    receiver.wait_for("^day: CTF resolution changed$")
    assert [m["subject"] for m in receiver.received].count("night: CTF resolution changed") == 1, "once an hour"


def test_a_disk_that_fills_up_is_told(client, receiver, tmp_path):
    shortage = disk_shortage(str(tmp_path / "not" / "there" / "yet"), CheckResourcesParams(), 10**18)
    assert shortage is not None
    emit_disk_low("night", shortage)
    told = receiver.wait_for("^night: .* fills up$")
    assert str(tmp_path) in told["message"]
    assert "GB are needed" in told["message"]


def test_gpu_work_without_a_worker_is_told(client, receiver, connected):
    with Client(connected.dask_address, set_as_default=False) as dask:
        params = CheckResourcesParams(max_waiting_seconds=0.5)
        assert waiting_work(dask, "GPU", params) is None
        futures = [dask.submit(abs, i, resources={"GPU": 64}, key=f"refine_map-{i:012x}") for i in range(3)]
        wait_until(lambda: waiting_work(dask, "GPU", params) is not None, "waiting work")
        found = waiting_work(dask, "GPU", params)
        assert found is not None
        assert (found.n_items, found.stages, found.n_workers) == (3, ("refine_map",), 1)
        assert waiting_work(dask, "GPU", CheckResourcesParams(max_waiting_seconds=3600)) is None
        assert waiting_work(dask, "CPU", params) is None
        dask.cancel(futures)
    emit_gpu_waiting("night", found)
    assert "dask worker tcp://" in receiver.wait_for("^night: 3 items wait for a worker labelled GPU$")["message"]


def test_a_gain_alarm_is_told(client, receiver):
    alarm = GainAlarm(kind="column", exposure="m0412", size=3.0, words="from m0412 on, column 17 is dead")
    emit_gain_alarm("night", [alarm])
    assert receiver.wait_for("^night: column$")["message"] == alarm.words


def test_the_server_logged_no_error(client, settings):
    """None but of SQLite, where two writers met: the server takes such a message again, three times at most."""
    records = re.split(r"(?m)^(?=\d\d:\d\d:\d\d\.\d+ \|)", (settings.home / "prefect.log").read_text())
    errors = [record for record in records if re.match(r"\S+ \| (ERROR|CRITICAL)\b", record)]
    taken_again = [record for record in errors if "consume_loop" in record and "database is locked" in record]
    assert [record for record in errors if record not in taken_again] == []
    assert list((settings.home / "prefect").glob("dlq/*")) == []
