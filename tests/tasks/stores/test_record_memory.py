"""Records are remembered inside a block and nowhere else, and what is written there is what is remembered."""

import pickle

from tasks.records.session import StageParams
from tasks.stores.record_memory import remembered_records
from tasks.stores.session_store import SessionStore

STAGE = "import_session"


def put(store: SessionStore, reason: str) -> None:
    store.exposure_product("a", STAGE).put_outcome("failed", reason, STAGE, 1, StageParams(), {})


def reason_of(store: SessionStore, address: str = f"exposures/a/{STAGE}") -> str | None:
    record = store.product(address).record()
    assert record is not None
    return record.reason


def test_a_record_is_read_once_inside_a_block_and_anew_after_it(store):
    put(store, "first")
    with remembered_records():
        inside = SessionStore.open(store.url)
        assert reason_of(inside) == "first"
        put(store, "second")  # by somebody who does not share the memory
        assert reason_of(SessionStore.open(store.url)) == "first"
    assert reason_of(SessionStore.open(store.url)) == "second"


def test_what_is_written_inside_a_block_is_known_there(store):
    with remembered_records():
        put(SessionStore.open(store.url), "first")
        other = SessionStore.open(store.url)
        assert reason_of(other) == "first"
        other.exposure_product("a", STAGE).amend({"more": 1})
        record = SessionStore.open(store.url).exposure_product("a", STAGE).record()
        assert record is not None and record.details == {"more": 1}


def test_a_record_that_is_absent_is_looked_for_again(store):
    with remembered_records():
        inside = SessionStore.open(store.url)
        assert inside.exposure_product("a", STAGE).record() is None
        put(store, "made meanwhile")
        assert reason_of(inside) == "made meanwhile"


def test_records_of_the_session_as_a_whole_are_never_remembered(store):
    """Items of a stage write them on their workers."""
    address = "session/estimated_gain"
    with remembered_records():
        inside = SessionStore.open(store.url)
        for reason in ("first", "second"):
            store.product(address).put_outcome("skipped", reason, "diagnose_gain", 1, StageParams(), {})
            assert reason_of(inside, address) == reason


def test_a_store_that_travels_leaves_its_memory_behind(store):
    put(store, "first")
    with remembered_records():
        inside = SessionStore.open(store.url)
        assert reason_of(inside) == "first"
        put(store, "second")
        assert reason_of(pickle.loads(pickle.dumps(inside))) == "second"
