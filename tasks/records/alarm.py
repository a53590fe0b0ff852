"""What the checks of a running session find: each says what it is about, from what to what, and what to do."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class QualityChange(BaseModel):
    """One figure of the exposures whose level has changed within the session."""

    model_config = ConfigDict(frozen=True)

    figure: str
    """Words of the field: *defocus*, *picks per exposure*."""
    unit: str
    before: float
    recent: float
    n_sigma: float
    n_before: int
    n_recent: int
    first_exposure: str
    """First of the recent ones."""
    last_exposure: str

    @property
    def words(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return (
            f"{self.figure} went from {self.before:.4g} to {self.recent:.4g}{unit} (medians of the {self.n_before} "
            f"exposures before and of the last {self.n_recent}, {self.first_exposure} to {self.last_exposure})"
        )


class DiskShortage(BaseModel):
    """A disk with less free than is needed."""

    model_config = ConfigDict(frozen=True)

    path: str
    free_bytes: int
    total_bytes: int
    needed_bytes: int
    """What is still to be written, and what has to stay free."""

    @property
    def words(self) -> str:
        return (
            f"{self.path}: {self.free_bytes / 1e9:.1f} of {self.total_bytes / 1e9:.1f} GB are free, "
            f"{self.needed_bytes / 1e9:.1f} GB are needed; make room, sweep what expired, or stop the collection"
        )


class WaitingWork(BaseModel):
    """Items that wait for a worker with a label that none, or none that is alive, has."""

    model_config = ConfigDict(frozen=True)

    label: str
    n_items: int
    longest_seconds: float
    stages: tuple[str, ...]
    scheduler: str
    n_workers: int
    """Workers with the label that the scheduler knows."""

    @property
    def words(self) -> str:
        return (
            f"{self.n_items} items of {', '.join(self.stages)} have waited up to {self.longest_seconds:.0f} s for a "
            f"worker labelled {self.label}, of which {self.scheduler} has {self.n_workers}; start one with "
            f"`dask worker {self.scheduler} --nthreads 1 --resources {self.label}=1`"
        )
