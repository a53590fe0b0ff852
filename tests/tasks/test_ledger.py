"""The ledger balances, is rebuilt from the records, and is quick for a large session."""

import json
import time
from pathlib import Path

import numpy as np

from tasks.records.session import StageParams
from tasks.stores.ledger import STAGES, read_ledger, rebuild
from tasks.stores.session_store import SessionStore


def done(store: SessionStore, exposure: str, stage: str, **figures: float) -> None:
    with store.exposure_product(exposure, stage).write(stage, 1, StageParams(), {}) as attempt:
        attempt.figures |= figures


def test_a_lost_index_is_rebuilt_from_the_records(store):
    for exposure in ("a", "b", "c"):
        done(store, exposure, "import_session", n_frames=7)
    done(store, "a", "correct_motion", total_motion_angstrom=3.0)
    store.exposure_product("b", "correct_motion").put_outcome(
        "failed", "constant", "correct_motion", 1, StageParams(), {}
    )
    rebuild(store)
    lines = {line.exposure: line for line in read_ledger(store).lines}
    assert lines["a"].figures == {"n_frames": 7, "total_motion_angstrom": 3.0}
    assert (lines["b"].state, lines["b"].stage, lines["b"].reason) == ("failed", "correct_motion", "constant")
    assert (lines["c"].state, lines["c"].stage) == ("done", "import_session")


def test_an_import_that_never_finished_is_seen(store):
    done(store, "a", "import_session")
    (Path(store.url) / "exposures" / "b" / "import_session" / "attempts" / "x").mkdir(parents=True)
    counts = read_ledger(store).counts()
    assert counts == {"done": 1, "failed": 1, "skipped": 0, "quarantined": 0}


def test_ten_thousand_exposures_are_read_in_two_cpu_seconds(store):
    names = [f"exposure_{i:05d}" for i in range(10_000)]
    for name in names:
        (Path(store.url) / "exposures" / name).mkdir()
    rng = np.random.default_rng(0)
    (Path(store.url) / "ledger").mkdir()
    for stage in STAGES:
        entries = {n: {"state": "done", "reason": None, "figures": {"value": rng.random(), "other": 1}} for n in names}
        (Path(store.url) / "ledger" / f"{stage}.json").write_text(json.dumps(entries))
    start = time.process_time()
    assert read_ledger(store).counts()["done"] == 10_000
    assert time.process_time() - start < 2
