"""The embedded services: a Prefect server on SQLite, a Dask scheduler, a CPU-labelled and a GPU-labelled worker.

They are processes of their own, so a session can be watched in the Prefect UI after its flow has ended, and they
are the same programs a facility runs elsewhere; only the addresses differ.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import dask
import psutil
from distributed import Client
from pydantic import BaseModel

from flows.ports import free_port, is_taken, listens, one_at_a_time
from flows.settings import Settings
from tasks.records.secrets import redacted, refuse_secrets
from tasks.workers.connection import workers_of

logger = logging.getLogger(__name__)

START_TIMEOUT_SECONDS = 180

Launch = tuple[list[str], dict[str, str]]
"""Command of a service and what it adds to the environment."""

_PORTS_TRIED = 4

POOLS = ("vitriflow-cpu", "vitriflow-gpu")
"""Work pools of `deployments/pools.yaml` that a workstation serves itself."""

_PRELOADED = "flows.exposure_stages"
"""A worker imports the stages when it starts: their 4 s would come between the first movie and its processing. So does
the scheduler, which imports what a worker is to run before it hands it on: 2 s of CPU until the first movie is read."""

SCHEDULER_ENVIRONMENT = {
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
    "DASK_DISTRIBUTED__SCHEDULER__NO_WORKERS_TIMEOUT": "120s",
    "DASK_DISTRIBUTED__SCHEDULER__PRELOAD": _PRELOADED,
}
"""An item that kills its worker is tried twice, not four times; one whose label no worker has fails with words."""

QUIET_ENVIRONMENT = {
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "500ms",
}
"""Dask looks every 10 ms at what each thread of a worker does and wakes every 20 ms to see whether it is awake."""

MALLOC_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(2**27),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_ARENA_MAX": "2",
}
"""Dask has its workers give every freed array back to the system at once, and the next one is paged in anew: motion
correction took 8.4 CPU-s a movie of 1200 × 1280 × 20, with freed memory kept 2.5. Two arenas bound what is kept."""

CLIENT_ENVIRONMENT = {
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
    "PREFECT_CLIENT_MAX_RETRIES": "6",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}
"""Of every process that runs flows. While PostgreSQL restarts, the server answers 500, which a client takes for final:
the flow died and stayed `Running`. Six retries, each twice as late as the one before, last two minutes."""


def worker_environment(label: Literal["CPU", "GPU"], n_threads: int) -> dict[str, str]:
    """Environment of a Dask worker whose items each compute with ``n_threads`` threads."""
    # threads that wait for work sleep; spinning ones would take the cores from the other worker
    threading = {"OMP_NUM_THREADS": str(n_threads), "MKL_NUM_THREADS": str(n_threads), "OMP_WAIT_POLICY": "PASSIVE"}
    return {
        **QUIET_ENVIRONMENT,
        "DASK_DISTRIBUTED__WORKER__PRELOAD": _as_variable(preloaded("worker")),
        **MALLOC_ENVIRONMENT,
        **threading,
        **({"CUDA_VISIBLE_DEVICES": ""} if label == "CPU" else {}),
    }


def preloaded(part: Literal["scheduler", "worker"]) -> list[str]:
    """What a part of Dask imports at its start: the stages, and what Dask's files and the environment here name."""
    chosen = dask.config.get(f"distributed.{part}.preload", [], config=dask.config.collect())
    return [_PRELOADED, *(name for name in ([chosen] if isinstance(chosen, str) else chosen) if name != _PRELOADED)]


def _as_variable(modules: list[str]) -> str:
    return modules[0] if len(modules) == 1 else repr(modules)


class ServiceError(RuntimeError):
    """A service that did not start, with the end of its log."""


class Process(BaseModel):
    """One process that `up` started; the start time tells it from a later one with the same number."""

    name: str
    pid: int
    created: float

    def running(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            is_same = abs(process.create_time() - self.created) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if is_same else None


class Services(BaseModel):
    """Addresses of the running services and the processes behind those that are embedded."""

    prefect_api_url: str
    prefect_ui_url: str
    dask_address: str
    processes: list[Process] = []

    def is_running(self) -> bool:
        return all(process.running() for process in self.processes)


def running(settings: Settings) -> Services | None:
    """The services that `up` started earlier, if all of them still run."""
    path = _state_path(settings)
    if not path.exists():
        return None
    services = Services.model_validate_json(path.read_text())
    return services if services.is_running() else None


def up(settings: Settings) -> Services:
    """Start what is not given in the settings; returns the running services where they run already."""
    refuse_secrets(settings.prefect_api_url, "PREFECT_API_URL")
    with one_at_a_time(settings.home):
        return running(settings) or _start_all(settings)


def _start_all(settings: Settings) -> Services:
    down(settings)
    processes: list[Process] = []
    try:
        api = settings.prefect_api_url or _start_prefect(settings, processes)
        dask = settings.dask_address or _start_dask(settings, processes)
        if settings.serves_pools:
            _start_pool_workers(api, dask, settings, processes)
    except BaseException:
        _stop(processes)
        raise
    services = Services(
        prefect_api_url=api, prefect_ui_url=api.removesuffix("/api"), dask_address=dask, processes=processes
    )
    partial = _state_path(settings).with_suffix(".partial")
    partial.write_text(services.model_dump_json(indent=1))
    partial.replace(_state_path(settings))
    return services


def dask_address(settings: Settings) -> str:
    """Address of the scheduler: the one in the settings, or that of the running services."""
    if settings.dask_address:
        return settings.dask_address
    path = _state_path(settings)
    if path.exists():
        started = Services.model_validate_json(path.read_text())
        scheduler = [process for process in started.processes if process.name == "dask-scheduler"]
        if not scheduler or scheduler[0].running():  # a stage waits for workers, so those may come later
            return started.dask_address
    raise ServiceError("no Dask scheduler is known; run `vitriflow up`, or set VITRIFLOW_DASK_ADDRESS")


def login() -> dict[str, str]:
    """Login of this process's clients at the server: PREFECT_API_AUTH_STRING, or the one that the server is given."""
    words = os.environ.get("PREFECT_API_AUTH_STRING") or os.environ.get("PREFECT_SERVER_API_AUTH_STRING")
    return {"PREFECT_API_AUTH_STRING": words} if words else {}


def require_login(services: Services) -> None:
    """Raise ServiceError where the Prefect server asks for a login that this process does not have."""
    request = urllib.request.Request(f"{services.prefect_api_url}/admin/version")
    for words in login().values():
        request.add_header("Authorization", f"Basic {base64.b64encode(words.encode()).decode()}")
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            has = "another one than PREFECT_API_AUTH_STRING" if login() else "a login"
            raise ServiceError(
                f"the Prefect server at {services.prefect_api_url} wants {has}; set PREFECT_API_AUTH_STRING to the "
                "user:password that the server was started with"
            ) from error
    except (urllib.error.URLError, OSError) as error:
        logger.warning("the Prefect server at %s does not answer: %s", services.prefect_api_url, error)


def down(settings: Settings) -> int:
    """Stop what `up` started; returns how many processes were stopped."""
    path = _state_path(settings)
    if not path.exists():
        return 0
    n_stopped = _stop(Services.model_validate_json(path.read_text()).processes)
    path.unlink()
    return n_stopped


def _state_path(settings: Settings) -> Path:
    return settings.home / "services.json"


def _start_prefect(settings: Settings, processes: list[Process]) -> str:
    def server(port: int) -> Launch:
        api = f"http://{settings.host}:{port}/api"
        environment = {
            "PREFECT_HOME": str(settings.home / "prefect"),
            "PREFECT_API_URL": api,
            "PREFECT_UI_URL": api.removesuffix("/api"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        if settings.database_url:
            database = _asynchronous(settings.database_url.get_secret_value())
            environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", settings.host, "--port", str(port)]
        return command, environment

    port = start_on_port("prefect", server, settings.prefect_port, 4200, settings, processes)
    api = f"http://{settings.host}:{port}/api"
    _wait(f"{api}/health", lambda: _answers(f"{api}/health"), processes[-1], settings)
    return api


def _asynchronous(database_url: str) -> str:
    """The address with the driver that Prefect needs; it holds a password, so no message shows it."""
    scheme, _, rest = database_url.partition("://")
    if scheme not in ("postgresql", "postgres", "postgresql+asyncpg"):
        raise ServiceError(
            f"VITRIFLOW_DATABASE_URL: found scheme {scheme if rest else 'none'!r}, expected "
            "postgresql://user:password@host/name; leave it out for SQLite"
        )
    return f"postgresql+asyncpg://{rest}"


def _start_dask(settings: Settings, processes: list[Process]) -> str:
    def scheduler(port: int) -> Launch:
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", settings.host, "--port", str(port)]
        command += ["--dashboard-address", f"{settings.host}:{free_port(settings.host, 8787)}"]
        preload = {"DASK_DISTRIBUTED__SCHEDULER__PRELOAD": _as_variable(preloaded("scheduler"))}
        return command, {**SCHEDULER_ENVIRONMENT, **preload, **QUIET_ENVIRONMENT, **MALLOC_ENVIRONMENT}

    port = start_on_port("dask-scheduler", scheduler, None, 8786, settings, processes)
    address = f"tcp://{settings.host}:{port}"
    workers: tuple[tuple[Literal["CPU", "GPU"], int, int], ...]
    workers = (("CPU", settings.n_cores, 1), ("GPU", 1, settings.n_cores))
    for label, n_slots, n_threads in workers:
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--host", settings.host]
        worker += ["--nworkers", "1", "--nthreads", str(n_slots), "--resources", f"{label}={n_slots}"]
        worker += ["--name", f"{label.lower()}-worker", "--memory-limit", settings.worker_memory]
        worker += ["--local-directory", str(settings.home / "dask"), "--no-dashboard"]
        environment = {**SCHEDULER_ENVIRONMENT, **worker_environment(label, n_threads)}
        _start(f"dask-{label.lower()}-worker", worker, environment, settings, processes)
    _wait(address, lambda: _n_labels(address) == 2, processes[-1], settings)
    return address


def _start_pool_workers(api: str, dask: str, settings: Settings, processes: list[Process]) -> None:
    """One Prefect worker a work pool; each starts the flow runs of its pool as processes on this machine."""
    environment = {
        "PREFECT_HOME": str(settings.home / "prefect-worker"),
        "PREFECT_API_URL": api,
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        **CLIENT_ENVIRONMENT,
        "VITRIFLOW_DASK_ADDRESS": dask,
        "VITRIFLOW_PREFECT_API_URL": api,
    }
    for pool in POOLS:
        name = f"{pool}-worker"
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
        _start(name, [*command, "--name", f"{socket.gethostname()}-{pool}"], environment, settings, processes)
    for process in processes[-len(POOLS) :]:
        log = settings.home / f"{process.name}.log"
        _wait(api, lambda log=log: b"started!" in log.read_bytes(), process, settings)  # type: ignore[misc]


def _start(
    name: str, command: list[str], environment: dict[str, str], settings: Settings, processes: list[Process]
) -> None:
    with open(settings.home / f"{name}.log", "wb") as log:
        started = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **login(), **environment},
            start_new_session=True,
            # a shell in the background hands down an ignored SIGINT, and Prefect ends by it
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    processes.append(Process(name=name, pid=started.pid, created=psutil.Process(started.pid).create_time()))


def start_on_port(
    name: str,
    launch: Callable[[int], Launch],
    fixed: int | None,
    wanted: int,
    settings: Settings,
    processes: list[Process],
) -> int:
    """Start a service that listens, and wait until it does; returns its port.

    That is ``fixed`` where one is given, else ``wanted`` or another free one. Where somebody else took it after it was
    found free, the next one is tried; who merely answers there is not taken for the service.
    """
    for n_left in reversed(range(_PORTS_TRIED)):
        port = fixed or free_port(settings.host, wanted)
        _start(name, *launch(port), settings, processes)
        started = processes[-1]

        def is_listening(port: int = port, started: Process = started) -> bool:
            process = started.running()
            return process is not None and listens(process, port)

        try:
            _wait(f"{settings.host}:{port}", is_listening, started, settings)
            return port
        except ServiceError:
            if fixed or n_left == 0 or not is_taken(settings.host, port):
                raise
            logger.warning("%s: somebody else took port %d; trying another one", name, port)
            _stop([processes.pop()])
    raise AssertionError("a port is returned or an error raised before")


def _wait(what: str, is_ready: Callable[[], bool], process: Process, settings: Settings) -> None:
    log = settings.home / f"{process.name}.log"
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not is_ready():
        is_late = time.monotonic() > deadline
        if is_late or process.running() is None:
            happened = f"did not answer within {START_TIMEOUT_SECONDS} s" if is_late else "ended"
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
            raise ServiceError(redacted(f"{process.name} at {what} {happened}; the end of {log}:\n{tail}"))
        time.sleep(0.3)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(json.load(response))
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _n_labels(address: str) -> int:
    with Client(address, set_as_default=False, timeout=30) as client:
        workers = workers_of(client).values()
        return len({label for worker in workers for label in worker["resources"]})


def _stop(processes: list[Process]) -> int:
    alive = [p for process in reversed(processes) if (p := process.running()) is not None]
    family = [child for p in alive for child in p.children(recursive=True)] + alive
    for p in alive:
        p.terminate()
    _, stubborn = psutil.wait_procs(family, timeout=15)
    for p in stubborn:
        p.kill()
    psutil.wait_procs(stubborn, timeout=5)
    return len(alive)
