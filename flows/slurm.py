"""The Dask scheduler of a Slurm cluster: a service that asks Slurm for CPU and GPU workers while items wait for them.

``python -m flows.slurm`` runs on a login or service node that Slurm's commands work on. Flows find it by its address
(VITRIFLOW_DASK_ADDRESS), as they find any scheduler. There is one kind of job a label, and of each as many jobs as the
waiting items need, between a minimum and a maximum; a job that is cancelled, or ends with its node, is replaced.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal, cast

import dask
from distributed import Scheduler
from distributed.deploy.adaptive import Adaptive
from distributed.deploy.spec import SpecCluster
from distributed.scheduler import WorkerState
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from flows.services import SCHEDULER_ENVIRONMENT, preloaded, worker_environment
from tasks.workers.connection import WANTED

try:
    from dask_jobqueue import SLURMCluster
except ImportError:  # only machines that submit to Slurm need it
    SLURMCluster = None  # type: ignore[assignment,misc]

logger = logging.getLogger(__name__)

_ENDED_STATES = {"BF", "CA", "CD", "CG", "DL", "F", "NF", "OOM", "PR", "TO"}
"""Slurm's short names of states from which a job does not come back."""

_SECONDS_WANTED = 30.0
"""A stage that waits for its first worker says so every few seconds; this long it counts."""


class SlurmSettings(BaseSettings):
    """What differs between Slurm clusters, read from the environment (``VITRIFLOW_SLURM_…``)."""

    model_config = SettingsConfigDict(env_prefix="VITRIFLOW_SLURM_")

    host: str | None = None
    """Address of this machine that the nodes reach; None takes that of `interface`, or guesses."""
    interface: str | None = None
    """Network interface that scheduler and workers use, for instance ``ib0``."""
    port: int = 8786
    dashboard_port: int = 8787
    account: str | None = None
    walltime_hours: float = Field(default=24.0, gt=0.5)
    """Of a job; its worker hands its place to a new one a quarter of an hour before."""
    cpu_partition: str | None = None
    cpu_cores: int = Field(default=8, ge=1)
    """Of a CPU job: so many items at the same time, each on one core."""
    cpu_memory: str = "32GiB"
    """Of a CPU job: about 3 GiB for each core where movies are large."""
    min_cpu_jobs: int = Field(default=0, ge=0)
    max_cpu_jobs: int = Field(default=4, ge=0)
    gpu_partition: str | None = None
    gpu_gres: str = "gpu:1"
    gpu_cores: int = Field(default=8, ge=1)
    """Of a GPU job, which computes one item at a time."""
    gpu_memory: str = "32GiB"
    min_gpu_jobs: int = Field(default=0, ge=0)
    max_gpu_jobs: int = Field(default=1, ge=0)
    idle_seconds: float = Field(default=120.0, ge=1)
    """How long a job without work is kept."""
    lost_seconds: float = Field(default=15.0, ge=1)
    """How long a worker may be missing before Slurm is asked whether its job is still there."""
    python: str = sys.executable
    """Interpreter on the nodes; its environment has the same packages as this one."""
    log_folder: Path | None = None
    """On a file system that the nodes see; None writes logs where the service was started."""
    scratch: str | None = None
    """Folder on each node for what workers spill."""
    directives: list[str] = []
    """More ``#SBATCH`` options for all jobs, as JSON: ``["--qos=live"]``."""


class LabelAdaptive(Adaptive):
    """As many jobs as the items need that wait for this label; what other labels wait for does not count.

    Slurm's queue says which jobs there are. Dask alone never replaces a job that was cancelled while it waited, nor one
    whose submission failed, since neither had a worker that could be lost.
    """

    def __init__(self, *arguments: Any, label: str, n_slots: int, lost_seconds: float, **options: Any) -> None:
        self.cluster: SpecCluster
        self._label = label
        self._n_slots = n_slots
        self._lost_seconds = lost_seconds
        self._missing_since: dict[str, float] = {}
        self._looked_at = -math.inf
        super().__init__(*arguments, **options)

    @property
    def _workers(self) -> list[WorkerState]:
        """Those of this cluster; its scheduler serves the other label's too."""
        return [worker for worker in self._scheduler.workers.values() if worker.name in self.cluster.worker_spec]

    @property
    def _scheduler(self) -> Scheduler:
        return cast(Scheduler, self.cluster.scheduler)

    @property
    def observed(self) -> set[Any]:
        """Names of the workers that arrived. A scheduler tells only one of its clusters of them, so it is asked here:
        a busy worker that was thought to be on its way would be closed first."""
        return {str(worker.name) for worker in self._workers}

    async def target(self) -> int:
        n_items = sum(
            1
            for task in self._scheduler.tasks.values()
            if task.state in ("no-worker", "queued", "processing") and self._label in (task.resource_restrictions or {})
        )
        wanted = [when for when, label in self._scheduler.get_events(WANTED) if label == self._label]
        is_wanted = bool(wanted) and time.time() - max(wanted) < _SECONDS_WANTED
        return max(math.ceil(n_items / self._n_slots), int(is_wanted))

    async def recommendations(self, target: int) -> dict:
        await self._forget_lost_jobs()
        return await super().recommendations(target)  # submits again what was forgotten

    async def _forget_lost_jobs(self) -> None:
        now = time.monotonic()
        observed = self.observed
        missing = [name for name in self.cluster.workers if name not in observed]
        self._missing_since = {name: self._missing_since.get(name, now) for name in missing}
        overdue = [name for name in missing if now - self._missing_since[name] >= self._lost_seconds]
        if not overdue or now - self._looked_at < self._lost_seconds:
            return
        self._looked_at = now
        queued = await _queued_jobs()
        if queued is None:
            return
        for name in overdue:
            job_id = self.cluster.workers[name].job_id  # type: ignore[attr-defined]
            if job_id not in queued:
                logger.warning("Slurm has no job %s for %s any more; another one takes its place", job_id, name)
                del self.cluster.workers[name]
                del self._missing_since[name]

    async def workers_to_close(self, target: int) -> list[str]:
        """Idle workers of this cluster; a busy one is never closed, whatever the target."""
        idle = [str(worker.name) for worker in self._workers if not worker.processing]
        return idle[: max(0, len(self._workers) - target)]


async def _queued_jobs() -> set[str] | None:
    """Numbers of this user's jobs that wait or run; None where Slurm does not answer."""
    command = ["squeue", "--me", "--noheader", "--format=%i %t"]
    asked = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, complaint = await asked.communicate()
    if asked.returncode != 0:
        logger.warning("squeue failed (%s); jobs that are gone are not replaced before it answers", complaint.decode())
        return None
    lines = (line.split() for line in out.decode().splitlines())
    return {number for number, state in lines if state not in _ENDED_STATES}


@asynccontextmanager
async def slurm_scheduler(settings: SlurmSettings) -> AsyncIterator[str]:
    """A running scheduler whose workers are Slurm jobs; yields its address."""
    if SLURMCluster is None:
        raise RuntimeError("dask-jobqueue is absent; install it with `pip install dask-jobqueue`")
    configured = {
        "distributed.deploy.lost-worker-timeout": f"{settings.lost_seconds}s",
        "distributed.scheduler.allowed-failures": int(
            SCHEDULER_ENVIRONMENT["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"]
        ),
        "distributed.scheduler.preload": preloaded("scheduler"),
        # an item may wait in Slurm's queue for hours; a label that nobody serves is told by the stage's own guard
        "distributed.scheduler.no-workers-timeout": None,
    }
    with dask.config.set(configured):
        async with AsyncExitStack() as clusters:
            first = await clusters.enter_async_context(_cluster(settings, "CPU", Scheduler))
            second = await clusters.enter_async_context(_cluster(settings, "GPU", lambda **_: first.scheduler))
            for cluster, label, n_slots, minimum, maximum in (
                (first, "CPU", settings.cpu_cores, settings.min_cpu_jobs, settings.max_cpu_jobs),
                (second, "GPU", 1, settings.min_gpu_jobs, settings.max_gpu_jobs),
            ):
                cluster.adapt(
                    Adaptive=LabelAdaptive,
                    label=label,
                    n_slots=n_slots,
                    lost_seconds=settings.lost_seconds,
                    minimum=minimum,
                    maximum=maximum,
                    interval="1s",
                    wait_count=math.ceil(settings.idle_seconds),
                )
            yield first.scheduler_address


def _cluster(settings: SlurmSettings, label: Literal["CPU", "GPU"], scheduler: Any) -> Any:
    is_gpu = label == "GPU"
    cores = settings.gpu_cores if is_gpu else settings.cpu_cores
    n_slots = 1 if is_gpu else cores
    environment = worker_environment(label, cores if is_gpu else 1)
    minutes = round(60 * settings.walltime_hours)
    address = {"host": settings.host} if settings.host else {}
    return SLURMCluster(
        name=f"vitriflow-{label.lower()}",
        job_name=f"vitriflow-{label.lower()}",
        asynchronous=True,
        silence_logs=False,
        scheduler_cls=scheduler,
        scheduler_options={"port": settings.port, "dashboard_address": f":{settings.dashboard_port}", **address},
        interface=settings.interface,
        queue=settings.gpu_partition if is_gpu else settings.cpu_partition,
        account=settings.account,
        walltime=f"{minutes // 60}:{minutes % 60:02d}:00",
        job_extra_directives=[*settings.directives, *([f"--gres={settings.gpu_gres}"] if is_gpu else [])],
        cores=n_slots,
        job_cpu=cores,
        processes=1,
        memory=settings.gpu_memory if is_gpu else settings.cpu_memory,
        python=settings.python,
        log_directory=None if settings.log_folder is None else str(settings.log_folder),
        local_directory=settings.scratch,
        job_script_prologue=[f"export {name}={value!r}" for name, value in environment.items()],
        worker_extra_args=[
            *("--resources", f"{label}={n_slots}"),
            *("--lifetime", f"{minutes - 15}m"),
            *("--lifetime-stagger", "5m"),
            "--no-dashboard",
        ],
    )


async def serve(settings: SlurmSettings) -> None:
    """Run until SIGTERM or SIGINT; Slurm's jobs end with it."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with slurm_scheduler(settings) as address:
        print(f"Dask scheduler at {address}; set VITRIFLOW_DASK_ADDRESS={address} where flows run", flush=True)
        await stopped.wait()


def main() -> None:
    """Entry point of ``python -m flows.slurm``."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(serve(SlurmSettings()))


if __name__ == "__main__":
    main()
