"""The embedded services: they start, a schedule fires, nothing goes wrong in the log, and they stop."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from distributed import Client

from flows.ports import listens
from flows.services import (
    Launch,
    Process,
    ServiceError,
    down,
    preloaded,
    running,
    start_on_port,
    up,
    worker_environment,
)
from flows.settings import Settings
from tasks.workers.connection import workers_of

pytestmark = pytest.mark.server


SERVED = """
from prefect import flow

@flow
def tick():
    return 7

if __name__ == "__main__":
    tick.serve(name="tick", interval=3)
"""


@contextmanager
def served(api: str, folder: Path) -> Iterator[None]:
    """A process that serves a flow every three seconds."""
    script = folder / "tick.py"
    script.write_text(SERVED)
    environment = {**os.environ, "PREFECT_API_URL": api, "PREFECT_HOME": str(folder), "DO_NOT_TRACK": "1"}
    # bash hands down an ignored SIGINT to what it starts in the background, and Prefect ends by it
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def completed_runs(api: str) -> int:
    wanted = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}, "flows": {"name": {"any_": ["tick"]}}}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{api}/flow_runs/count", json.dumps(wanted).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        return int(json.load(response))


def test_one_worker_carries_each_label(services):
    with Client(services.dask_address, set_as_default=False) as client:
        labels = [worker["resources"] for worker in workers_of(client).values()]
    assert sorted(key for label in labels for key in label) == ["CPU", "GPU"]


def test_nothing_of_the_stages_is_left_to_import_when_the_first_movie_comes(services):
    with Client(services.dask_address, set_as_default=False) as client:
        assert "tasks.correct_motion" in client.run_on_scheduler(_modules)
        assert all("tasks.correct_motion" in modules for modules in client.run(_modules).values())


def _modules() -> list[str]:
    return list(sys.modules)


def test_a_second_up_finds_the_first(services, settings):
    assert up(settings) == services == running(settings)


def test_a_schedule_fires_and_the_log_has_no_error(services, settings, tmp_path):
    deadline = time.monotonic() + 150
    with served(services.prefect_api_url, tmp_path):
        while completed_runs(services.prefect_api_url) < 2 and time.monotonic() < deadline:
            time.sleep(1)
    assert completed_runs(services.prefect_api_url) >= 2, "no scheduled run was completed within 150 s"
    log = (settings.home / "prefect.log").read_text()
    assert not re.findall(r".*\bERROR\b.*", log)


def test_two_at_once_share_the_services_of_a_home_and_no_ports_with_another_home(tmp_path):
    homes = [tmp_path / name for name in ("one", "one", "other")]
    of_homes = [Settings(home=home, dask_address=None, prefect_api_url=None) for home in homes]
    try:
        with ThreadPoolExecutor() as pool:
            first, second, other = pool.map(up, of_homes)
        assert first == second
        addresses = {(s.prefect_api_url, s.dask_address) for s in (first, other)}
        assert len({address for pair in addresses for address in pair}) == 4
        pids = [process.pid for s in (first, other) for process in s.processes]
        assert len(pids) == len(set(pids)) == 8
        for services in (first, other):
            with Client(services.dask_address, set_as_default=False) as client:
                assert len(workers_of(client)) == 2, "workers of the other home are here"
    finally:
        for settings in of_homes:
            down(settings)


def test_a_port_that_somebody_takes_before_the_service_does_is_given_up(tmp_path):
    settings = Settings(home=tmp_path, dask_address=None, prefect_api_url=None)
    rivals: list[socket.socket] = []
    processes: list[Process] = []

    def launch(port: int) -> Launch:
        if not rivals:
            rivals.append(socket.create_server((settings.host, port)))
        return [sys.executable, "-m", "http.server", str(port), "--bind", settings.host], {}

    try:
        port = start_on_port("pages", launch, None, 0, settings, processes)
        assert port != rivals[0].getsockname()[1]
        (process,) = processes
        assert listens(psutil.Process(process.pid), port)
        taken = rivals[0].getsockname()[1]
        with pytest.raises(ServiceError, match="Address already in use"):
            start_on_port("pages", launch, taken, 0, settings, processes)
    finally:
        for started in processes:
            psutil.Process(started.pid).kill()
        for rival in rivals:
            rival.close()


def test_down_stops_every_process(tmp_path):
    settings = Settings(home=tmp_path, dask_address=None, prefect_api_url="http://127.0.0.1:1/api")
    services = up(settings)
    assert len(services.processes) == 3
    assert down(settings) == 3
    assert running(settings) is None
    assert not any(process.running() for process in services.processes)


def test_dask_imports_what_the_site_preloads_besides_the_stages(monkeypatch):
    name = "DASK_DISTRIBUTED__WORKER__PRELOAD"
    monkeypatch.delenv(name, raising=False)
    assert worker_environment("CPU", 1)[name] == "flows.exposure_stages"
    monkeypatch.setenv(name, "of_the_site")
    assert worker_environment("CPU", 1)[name] == "['flows.exposure_stages', 'of_the_site']"
    assert preloaded("scheduler") == ["flows.exposure_stages"]
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__PRELOAD", "['of_the_site', 'flows.exposure_stages']")
    assert preloaded("scheduler") == ["flows.exposure_stages", "of_the_site"]
