"""What differs between machines, read from the environment (``VITRIFLOW_…``)."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Addresses of the services and the sizes of the embedded ones."""

    model_config = SettingsConfigDict(env_prefix="VITRIFLOW_")

    home: Path = Field(default_factory=lambda: Path.home() / ".vitriflow")
    """Folder of the embedded services: the server's database, logs, process numbers."""
    dask_address: str | None = None
    """Scheduler to use instead of the embedded one."""
    prefect_api_url: str | None = Field(default_factory=lambda: os.environ.get("PREFECT_API_URL"))
    """Prefect server to use instead of the embedded one."""
    host: str = "127.0.0.1"
    prefect_port: int = 0
    """Port of the embedded Prefect server; 0 takes 4200 or, where that is taken, a free one."""
    database_url: SecretStr | None = None
    """Database of the embedded Prefect server, ``postgresql://user:password@host/name``; SQLite below `home` when not
    given."""
    n_cores: int = Field(default_factory=lambda: len(os.sched_getaffinity(0)), ge=1)
    """Threads of the CPU-labelled worker, and of the arithmetic of the GPU-labelled one where it has no GPU."""
    worker_memory: str = "3GiB"
    """Most memory that each embedded worker may use."""
    lease_patience_seconds: float = 60.0
    """How long a flow waits for another one that works on the same part of a session."""
    worker_patience_seconds: float = 300.0
    """How long a stage waits for a worker with the label it needs, saying so, before it fails."""
    serves_pools: bool = False
    """Whether `up` also starts a Prefect worker for each work pool, so that deployments run on this machine."""
    facility: Path | None = None
    """YAML file with what `deploy` is to install differently from the files in ``deployments/``."""
    alarm_webhook: SecretStr | None = None
    """Address that automations post ``{"subject": …, "message": …}`` to."""
    alarm_block: str | None = None
    """Prefect notification block that automations use instead, for instance ``slack-webhook/facility``."""
