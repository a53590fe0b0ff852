"""The ledger balances, is rebuilt from the records, and is quick for a large session."""

import subprocess
import sys
import time
from pathlib import Path

from tasks.records.session import StageParams
from tasks.stores.commit import Record
from tasks.stores.ledger import STAGES, read_entries, read_ledger, rebuild, write_index
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
    record = Record(state="done", stage="", stage_version=1, fingerprint="", figures={"value": 0.25, "other": 1})
    for stage in STAGES:
        write_index(store, stage, dict.fromkeys(names, record))
    seconds = []
    for _ in range(3):  # the quickest: others share the processor
        start = time.process_time()
        assert read_ledger(store).counts()["done"] == 10_000
        seconds.append(time.process_time() - start)
    assert min(seconds) < 2


def test_an_index_grows_by_what_is_new_and_the_last_entry_counts(store):
    index = store.index("correct_motion")
    for start in range(0, 1000, 10):
        index.append({f"e{i:04d}": ["done", None, {"value": i}] for i in range(start, start + 10)})
    files = list((Path(store.url) / "ledger" / "correct_motion").iterdir())
    assert len(files) < 10  # 100 additions: merged like the digits of a binary number
    index.append({"e0005": ["failed", "constant", {}]})
    index.append({f"e{i:04d}": ["done", None, {"value": i}] for i in range(6, 1000)})  # known: not written again
    entries = read_entries(store, "correct_motion")
    assert len(entries) == 1000
    assert entries["e0005"] == ("failed", "constant", {})
    assert entries["e0999"].figures == {"value": 999}
    assert sum(int(f.name.split("-")[1]) for f in (Path(store.url) / "ledger" / "correct_motion").iterdir()) < 1010


def test_two_writers_of_an_index_lose_nothing_of_each_other(store):
    program = (
        "import sys; from tasks.stores.session_store import SessionStore\n"
        "index = SessionStore.open(sys.argv[1]).index('estimate_ctf')\n"
        "for i in range(60): index.append({f'{sys.argv[2]}{i}': ['done', None, {}]})"
    )
    running = [subprocess.Popen([sys.executable, "-c", program, store.url, name]) for name in "ab"]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert set(read_entries(store, "estimate_ctf")) == {f"{name}{i}" for name in "ab" for i in range(60)}
