"""One workstation with all its services under supervision, and what a row of the table says."""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from flows import services
from flows.settings import Settings
from tests.torture.commit_log import LOG_VARIABLE
from tests.torture.feed import N_FRAMES
from tests.torture.supervision import Supervisor

RECIPE = {
    "import_session.pixel_size_angstrom": "2.0",
    "import_session.dose_per_frame": "5.0",
    "diagnose_gain.is_estimated": "false",  # the movies share eight specimens, which would pass for a fixed pattern
    **{
        f"curate_exposures.{limit}": "null"
        for limit in (
            "max_fit_resolution_angstrom",
            "max_drift_angstrom",
            "max_motion_angstrom",
            "max_early_motion_angstrom",
            "max_astigmatism_angstrom",
            "max_ice_ring_ratio",
            "min_defocus_angstrom",
            "max_defocus_angstrom",
        )
    },
    **{f"{stage}.diameter_angstrom": "120" for stage in ("pick_particles", "extract_particles", "classify_2d")},
    **{f"{stage}.diameter_angstrom": "120" for stage in ("build_initial_map", "refine_map")},
}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    fault: str
    seen: str
    lost: int
    twice: int
    recovery_seconds: float | None


class Site:
    """A workstation with all its services under supervision, in a folder of its own."""

    def __init__(self, folder: Path, n_cores: int = 2, worker_memory: str = "3GiB") -> None:
        self.folder = folder
        self.commits = folder / "commits.log"
        folder.mkdir(parents=True)
        self.commits.touch()
        self.settings = Settings(
            home=folder / "home", n_cores=n_cores, worker_memory=worker_memory, dask_address=None, prefect_api_url=None
        )
        self._environment = {
            "DASK_DISTRIBUTED__WORKER__PRELOAD": "tests.torture.commit_log",
            LOG_VARIABLE: str(self.commits),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }

    def __enter__(self) -> Site:
        os.environ.update(self._environment)
        self.supervisor = Supervisor(self.folder)
        self.services = services.up(self.settings)
        self.supervisor.adopt(self.services)
        return self

    def __exit__(self, *_: object) -> None:
        self.supervisor.stop_all()
        for name in self._environment:
            os.environ.pop(name, None)

    def watch(self, root: Path, stores: Path) -> None:
        """The watch folder, as `vitriflow watch` runs it, restarted when it dies."""
        command = [sys.executable, "-m", "flows.cli", "watch", str(root), "--stores", str(stores), "--hours", "24"]
        command += ["--expected-frames", str(N_FRAMES)]
        for name, value in RECIPE.items():
            command += ["--set", f"{name}={value}"]
        environment = {
            "VITRIFLOW_HOME": str(self.settings.home),
            "PREFECT_API_URL": self.services.prefect_api_url,
            "VITRIFLOW_DASK_ADDRESS": self.services.dask_address,
            "VITRIFLOW_WORKER_PATIENCE_SECONDS": "120",
        }
        self.supervisor.start("watch", command, environment)

    def commit_times(self) -> list[float]:
        return [float(line.split()[0]) for line in self.commits.read_text().splitlines()]

    def n_twice(self) -> int:
        """Products that were committed as done more than once with the same fingerprint."""
        done = [line.split()[1:3] for line in self.commits.read_text().splitlines() if line.endswith(" done")]
        return sum(n - 1 for n in Counter(map(tuple, done)).values())
