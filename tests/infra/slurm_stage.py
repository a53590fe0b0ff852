"""A stage whose items wait for a sign, so that their worker can be taken away while they compute."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from tasks.records.session import StageParams
from tasks.stores.commit import Attempt
from tasks.stores.session_store import SessionStore
from tasks.workers.connection import Label
from tasks.workers.stage import Stage


class PatientParams(StageParams):
    """Where the signs are."""

    folder: str


def _compute(store: SessionStore, item: str, params: PatientParams, attempt: Attempt) -> None:
    folder = Path(params.folder)
    (folder / f"begun-{item}-{os.environ['SLURM_JOB_ID']}").touch()
    deadline = time.monotonic() + 120
    while not (folder / "go").exists():
        if time.monotonic() > deadline:
            raise ValueError("no sign came")
        time.sleep(0.05)
    names = ("MALLOC_ARENA_MAX", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_NAME")
    attempt.details["environment"] = {name: os.environ.get(name, "") for name in names}
    attempt.write("micrograph", np.full((8, 8), 1, np.float32))
    with open(folder / f"made-{item}", "a") as made:
        made.write(f"{os.environ['SLURM_JOB_ID']}\n")


def _inputs(store: SessionStore, item: str) -> list[str]:
    return []


def patient_stage(label: Label) -> Stage[PatientParams]:
    """Writes the products of `import_session`, one an item."""
    return Stage("import_session", 1, label, _compute, _inputs)
