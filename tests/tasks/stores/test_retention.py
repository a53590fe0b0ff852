"""Retention on random stores, interrupted anywhere, and on S3."""

# ruff: noqa: F811
from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings

from tasks.records.retention import PRODUCT_CLASSES, RetentionPolicy
from tasks.stores.commit import ExpiredProductError, Record
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import Location, StoreError
from tasks.stores.upkeep.dependencies import View
from tasks.stores.upkeep.retention import plan_sweep, remove
from tasks.stores.upkeep.survey import find_sessions, survey, versions_of
from tasks.sweep_session import sweep_session
from tests.truth.retained_session import (
    SETS,
    STAGES,
    VariedParams,
    put_exposure_stage,
    put_scratch,
    put_set,
)
from tests.truth.s3_server import bucket, endpoint  # noqa: F401

RULES = {name: ["forever", "0 days"] for name in PRODUCT_CLASSES}
for used in ("imported_movies", "micrographs", "scratch"):
    RULES[used].append("until used")

exposures = st.sampled_from(["a", "b"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("stage"), exposures, st.sampled_from(sorted(STAGES)), st.integers(0, 1)),
        st.tuples(st.just("set"), st.sampled_from(sorted(SETS)), st.integers(0, 1)),
        st.tuples(st.just("failed"), exposures, st.sampled_from(sorted(STAGES)[1:])),
        st.tuples(st.just("skipped"), exposures, st.sampled_from(sorted(STAGES)[1:])),
        st.tuples(st.just("abandon"), exposures, st.sampled_from(sorted(STAGES))),
        st.tuples(st.just("scratch")),
        st.tuples(st.just("branch")),
        st.tuples(st.just("lose"), exposures, st.sampled_from(sorted(STAGES))),
    ),
    max_size=10,
)
policies = st.fixed_dictionaries({name: st.sampled_from(rules) for name, rules in RULES.items()})


def build(folder: Path, history: list[tuple], n_done: int) -> SessionStore:
    """A session that was processed up to a stage, and had a history after that, part of it in a version."""
    store = current = SessionStore.create(str(folder), "random")
    order = [("stage", e, s, 0) for s in STAGES for e in ("a", "b")] + [("set", name, 0) for name in SETS]
    for kind, *arguments in [*order[:n_done], *history]:
        try:
            if kind == "stage":
                put_exposure_stage(current, *arguments)
            elif kind == "set":
                put_set(current, *arguments)
            elif kind in ("failed", "skipped"):
                exposure, stage = arguments
                inputs = current.fingerprints([f"exposures/{exposure}/{source}" for source in STAGES[stage][0]])
                current.exposure_product(exposure, stage).put_outcome(kind, "why", stage, 1, VariedParams(), inputs)
            elif kind == "abandon":
                attempt = Path(current.url) / "exposures" / arguments[0] / arguments[1] / "attempts" / "f00d"
                attempt.mkdir(parents=True, exist_ok=True)
                (attempt / "half").write_bytes(b"0" * 321)
            elif kind == "scratch":
                put_scratch(current, "refine_map", "iteration_000", "particles/selected")
            elif kind == "branch":
                current = store.branch("other")
            elif kind == "lose":
                record = current.exposure_product(*arguments).record()
                place = Path(current.url) / "exposures" / "/".join(arguments) / "attempts"
                if record is not None and record.attempt is not None and (place / record.attempt).exists():
                    (place / record.attempt).rename(place / "lost")
        except StoreError:  # what it reads is not there: the stage would not run
            continue
    return store


def records(store: SessionStore) -> dict[str, Record]:
    addresses = View.of(survey(store).chains[0]).products
    found = {address: store.product(address).record() for address in addresses}
    return {address: record for address, record in found.items() if record is not None}


def is_readable(store: SessionStore, address: str) -> bool:
    try:
        store.product(address).read()
        store.product(address).verify()
    except StoreError:
        return False
    return True


def state_of(store: SessionStore) -> dict[str, tuple[Record, bool]]:
    return {address: (record, is_readable(store, address)) for address, record in records(store).items()}


def would_be_made_from(state: dict[str, tuple[Record, bool]]) -> set[str]:
    """Addresses that a run would read: inputs of what is out of date, failed or lost, where all of them are had."""
    needed = set()
    for address, (record, is_there) in state.items():
        inputs = {name: fp for name, fp in record.inputs.items() if "/" in name}
        if any(name not in state or state[name][0].state not in ("done", "failed") for name in inputs):
            continue
        is_same = all(
            state[name][0].state == "done" and state[name][0].fingerprint == fp for name, fp in inputs.items()
        )
        is_lost = record.state == "done" and record.expired is None and not is_there
        if not address.startswith("scratch") and (record.state == "failed" or not is_same or is_lost):
            needed |= set(inputs)
    images = {stack for name in needed & {"particles/extracted"} for stack in state[name][0].inputs if "/" in stack}
    return needed | images


def file_bytes(folder: str) -> int:
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files if path.name != "commit.json" or "/scratch/" in str(path))


@settings(
    max_examples=30,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@example(
    history=[("scratch",), ("scratch",)], n_done=15, rules={**dict.fromkeys(RULES, "forever"), "scratch": "0 days"}
)
@given(history=steps, n_done=st.integers(0, 18), rules=policies)
def test_after_any_sweep_what_is_kept_verifies_and_what_it_needs_is_there(tmp_path_factory, history, n_done, rules):
    folder = tmp_path_factory.mktemp("random") / "s.zarr"
    store = build(folder, history, n_done)
    readers = [store, *versions_of(store)]
    before = [state_of(reader) for reader in readers]
    n_before = file_bytes(store.url)
    policy = RetentionPolicy(**rules)
    told = sweep_session.fn(store.url, policy, True)
    done = sweep_session.fn(store.url, policy, False)
    assert done.removed == told.removed
    assert n_before - file_bytes(store.url) == done.n_bytes
    for reader, was in zip(readers, before):
        now = state_of(reader)
        for address, (record, was_readable) in was.items():
            if address.startswith("scratch"):
                continue
            left, is_now_readable = now[address]
            assert (left.state, left.fingerprint, left.inputs) == (record.state, record.fingerprint, record.inputs)
            assert is_now_readable == (was_readable and left.expired is None)
            if was_readable and not is_now_readable:
                assert rules[left.expired.rule.split(":")[0]] != "forever"
        for address in would_be_made_from(was):
            assert now[address][1] == was[address][1], f"{address} is needed and was removed"
    assert sweep_session.fn(store.url, policy, False).removed == []


def test_a_sweep_that_is_killed_at_any_step_loses_nothing_and_is_finished_by_the_next(tmp_path):
    policy = RetentionPolicy(imported_movies="0 days", micrographs="0 days", leftover_attempts="0 days")
    history = [("abandon", "a", "estimate_ctf"), ("scratch",)]
    expected = None
    for n_steps in range(0, 60, 3):
        store = build(tmp_path / f"{n_steps}.zarr", history, 18)
        state = state_of(store)
        is_killed = _sweep_killed_after(store, policy, n_steps)
        for address, (record, is_there) in state_of(store).items():
            assert is_there or record.expired is not None, f"killed after {n_steps} steps, {address} is half there"
            assert record.fingerprint == state[address][0].fingerprint
        sweep_session.fn(store.url, policy, False)
        left = sorted(str(p.relative_to(store.url)) for p in Path(store.url).rglob("*") if "/attempts/" in str(p))
        expected = len(left) if expected is None else expected
        assert len(left) == expected
        if not is_killed:
            return
    raise AssertionError("the sweep never came to its end")


def _sweep_killed_after(store: SessionStore, policy: RetentionPolicy, n_steps: int) -> bool:
    """Sweep in a process of its own that ends, as by SIGKILL, before its n-th change to the disk."""
    child = os.fork()
    if child == 0:
        left = n_steps
        real = {name: getattr(os, name) for name in ("unlink", "rmdir", "replace")}

        def counted(name):
            def call(*arguments, **keywords):
                nonlocal left
                if left == 0:
                    os._exit(9)
                left -= 1
                return real[name](*arguments, **keywords)

            return call

        for name in real:
            setattr(os, name, counted(name))
        now = datetime.now(UTC)
        for _ in remove(plan_sweep(survey(store), policy, now).removals, now, lambda: None):
            pass
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_a_sweep_on_s3_frees_what_its_dry_run_counted(bucket):
    store = SessionStore.create(f"{bucket}/sessions/s.zarr", "test")
    put_exposure_stage(store, "a", "import_session")
    put_exposure_stage(store, "a", "correct_motion")
    (store.location / "exposures/a/correct_motion/attempts/f00d/half").write_bytes(b"0" * 321)
    address = put_scratch(store, "refine_map", "iteration_000", "exposures/a/correct_motion")
    assert list(find_sessions(Location.of(f"{bucket}/sessions"))) == [store.url]
    policy = RetentionPolicy(imported_movies="until used", leftover_attempts="1 days", scratch="0 days")

    def n_bytes() -> int:
        files = store.location.files().items()
        return sum(file.n_bytes for name, file in files if "scratch" in name or not name.endswith("commit.json"))

    before = n_bytes()
    told = sweep_session.fn(store.url, policy, True)
    assert n_bytes() == before
    assert [item.address for item in told.removed] == ["exposures/a/import_session", address]
    done = sweep_session.fn(store.url, policy, False)
    assert before - n_bytes() == done.n_bytes == told.n_bytes > 0
    with pytest.raises(ExpiredProductError, match="until used"):
        store.exposure_product("a", "import_session").read()
    assert store.product(address).record() is None
    # the server's own clock says how old the attempt is that no record names
    (item,) = sweep_session.fn(store.url, policy.model_copy(update={"leftover_attempts": "0 days"}), False).removed
    assert (item.attempt, item.n_bytes) == ("f00d", 321)
    store.exposure_product("a", "correct_motion").verify()
