"""Workers that Slurm starts because items wait for them, and starts again when their job is cancelled."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from flows.services import worker_environment
from flows.slurm import SlurmSettings, _cluster, slurm_scheduler
from tasks.correct_motion import CorrectMotionParams, correct_motion
from tasks.formats.tiff import write_tiff_movie
from tasks.import_session import ImportSessionParams, import_session
from tasks.records.session import StageReport
from tasks.stores.session_store import SessionStore
from tasks.workers.connection import connect
from tasks.workers.stage import run_stage
from tests.infra.processes import free_ports
from tests.infra.slurm_server import SlurmServer, slurm_server
from tests.infra.slurm_stage import PatientParams, patient_stage
from tests.truth.moving_specimen import moving_movie, random_motion

pytestmark = [pytest.mark.server, pytest.mark.site]
pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is absent; `pip install dask-jobqueue` lets this run")

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[SlurmServer]:
    with slurm_server(tmp_path_factory.mktemp("slurm")) as server:
        yield server


@pytest.fixture(scope="module")
def address(slurm, tmp_path_factory) -> Iterator[str]:
    """Of a scheduler with no worker yet, and at most one job a label."""
    port, dashboard = free_ports(2)
    settings = SlurmSettings(
        host="127.0.0.1", port=port, dashboard_port=dashboard, cpu_partition="cpu", gpu_partition="gpu",
        cpu_cores=1, cpu_memory="1GiB", max_cpu_jobs=1, gpu_cores=1, gpu_memory="1GiB", max_gpu_jobs=1,
        idle_seconds=15, lost_seconds=1, log_folder=slurm.home / "logs",
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {**slurm.environment, "PYTHONPATH": str(ROOT)}.items():
            environment.setenv(name, value)
        with served(settings) as found:
            yield found


@contextmanager
def served(settings: SlurmSettings) -> Iterator[str]:
    """The scheduler in a thread with an event loop of its own, as in its service."""
    addresses: list[str] = []
    is_up = threading.Event()
    loop = asyncio.new_event_loop()
    stopped = asyncio.Event()

    async def serve() -> None:
        async with slurm_scheduler(settings) as address:
            addresses.append(address)
            is_up.set()
            await stopped.wait()

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            is_up.set()

    service = threading.Thread(target=run)
    service.start()
    assert is_up.wait(60) and addresses, "the scheduler did not start"
    try:
        yield addresses[0]
    finally:
        loop.call_soon_threadsafe(stopped.set)
        service.join(60)


def wait_until(is_so: Callable[[], bool], seconds: float = 240) -> float:
    """Seconds that it took."""
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < seconds, "it did not happen"
        time.sleep(0.1)
    return time.monotonic() - started


def test_a_stage_without_a_worker_gets_one_from_slurm(slurm, address, tmp_path):
    movies = tmp_path / "movies"
    movies.mkdir()
    frames, _ = moving_movie(random_motion(4, 1), (120, 132), 1, contrast=0.15)
    write_tiff_movie(movies / "movie.tif", frames.numpy().astype(np.uint8), "lzw")
    store = SessionStore.create(str(tmp_path / "session.zarr"), "session")
    with connect(address, patience_seconds=PATIENCE_SECONDS):
        params = ImportSessionParams(pixel_size_angstrom=1.1, dose_per_frame=2.0)
        imported = import_session.fn(store.url, str(movies), params)
        corrected = correct_motion.fn(store.url, imported.available, CorrectMotionParams(n_patches=(1, 1)))
    assert len(corrected.done) == 1 and not corrected.failed


@pytest.mark.parametrize("label", ["CPU", "GPU"])
def test_a_cancelled_job_is_replaced_and_its_item_is_done_once(label, slurm, address, tmp_path, record_property):
    store = SessionStore.create(str(tmp_path / "session.zarr"), "session")
    reports: list[StageReport] = []

    def work() -> None:
        with connect(address, patience_seconds=PATIENCE_SECONDS):
            reports.append(run_stage(store.url, patient_stage(label), ["a", "b"], PatientParams(folder=str(tmp_path))))

    def jobs_with_items() -> set[str]:
        return {path.name.rsplit("-", 1)[1] for path in tmp_path.glob("begun-*")}

    flow = threading.Thread(target=work)
    flow.start()
    try:
        started_in = wait_until(lambda: bool(jobs_with_items()))
        (cancelled,) = jobs_with_items()
        assert slurm.jobs()[cancelled][0] == f"vitriflow-{label.lower()}"
        slurm.command("scancel", cancelled)
        replaced_in = wait_until(lambda: bool(jobs_with_items() - {cancelled}))
    finally:
        (tmp_path / "go").touch()
        flow.join(180)
    (report,) = reports
    assert sorted(report.done) == ["a", "b"] and not report.failed
    for item in ("a", "b"):
        (maker,) = (tmp_path / f"made-{item}").read_text().split()
        assert maker != cancelled
        product = store.exposure_product(item, "import_session")
        product.verify()
        environment = product.record().details["environment"]
        assert environment["MALLOC_ARENA_MAX"] == "2"
        assert environment["OMP_NUM_THREADS"] == "1"
        assert environment["SLURM_JOB_NAME"] == f"vitriflow-{label.lower()}"
    record_property("seconds_to_first_item", round(started_in, 1))
    record_property("recovery_seconds", round(replaced_in, 1))
    record_property("seen", "a new job did both items, the cancelled one none")
    print(f"{label}: first item after {started_in:.1f} s, replaced after {replaced_in:.1f} s; lost 0, done twice 0")


def test_jobs_without_work_are_given_back(slurm, address):
    wait_until(lambda: not slurm.jobs(), 240)


def test_a_gpu_job_asks_for_its_gpu_and_a_cpu_job_for_none():
    async def scripts() -> dict[str, str]:
        return {label: _cluster(SlurmSettings(), label, None).job_script() for label in ("CPU", "GPU")}

    found = asyncio.run(scripts())
    assert "#SBATCH --gres=gpu:1" in found["GPU"] and "--resources GPU=1" in found["GPU"]
    assert "gres" not in found["CPU"] and f"--resources CPU={SlurmSettings().cpu_cores}" in found["CPU"]
    assert "CUDA_VISIBLE_DEVICES" not in found["GPU"], "Slurm itself says which GPU a job has"
    for name, value in worker_environment("GPU", SlurmSettings().gpu_cores).items():
        assert f"export {name}={value!r}" in found["GPU"]
