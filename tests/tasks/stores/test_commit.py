"""Products, commit records and fingerprints: nobody reads half a product."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks.records.session import StageParams
from tasks.stores.commit import fingerprint
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import Location, StoreError, StoreUnreachableError, StoreWriteError
from tasks.stores.storage.s3 import StoreSilentError


class SomeParams(StageParams):
    strength: float = 1.0


ADDRESS = "exposures/a/estimate_ctf"


def write(store: SessionStore, values, params=None) -> None:
    with store.product(ADDRESS).write("estimate_ctf", 1, params or SomeParams(), {}) as attempt:
        attempt.write("power_spectrum", values)
        attempt.figures["mean"] = float(values.mean())


def test_a_product_reads_back_as_it_was_written(store):
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    write(store, values)
    product = SessionStore.open(store.url).product(ADDRESS)
    np.testing.assert_array_equal(product.read()["power_spectrum"], values)
    assert product.record().figures == {"mean": 5.5}
    product.verify()


def test_a_product_whose_writer_fails_cannot_be_read(store):
    with (
        pytest.raises(RuntimeError, match="lightning"),
        store.product(ADDRESS).write("s", 1, SomeParams(), {}) as attempt,
    ):
        attempt.write("power_spectrum", np.ones((3, 3), np.float32))
        raise RuntimeError("lightning")
    assert store.product(ADDRESS).record() is None
    assert store.product(ADDRESS).attempts() == []
    with pytest.raises(StoreError, match="found nothing"):
        store.product(ADDRESS).read()


@pytest.mark.parametrize("error", [TimeoutError("the program gave no answer"), FileNotFoundError("gain.mrc")])
def test_an_error_of_the_computation_is_not_told_as_one_of_the_store(store, error):
    """These are errors of the system too, but the next item may fare better."""
    with pytest.raises(type(error)) as found, store.product(ADDRESS).write("s", 1, SomeParams(), {}) as attempt:
        attempt.write("power_spectrum", np.ones((3, 3), np.float32))
        raise error
    assert found.value is error
    assert store.product(ADDRESS).record() is None
    assert store.product(ADDRESS).attempts() == []


def test_a_product_that_cannot_be_written_is_named(store):
    in_the_way = Path(store.url) / ADDRESS / "attempts"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("a file where a folder has to be")
    with pytest.raises(StoreWriteError, match=f"{ADDRESS}: cannot be written .*check free space"):
        write(store, np.ones((3, 3), np.float32))


def test_a_store_that_falls_silent_while_it_is_read_stops_everything(store):
    with (
        pytest.raises(StoreUnreachableError, match="cannot be read: no answer for 300 s"),
        store.product(ADDRESS).write("s", 1, SomeParams(), {}),
    ):
        raise StoreSilentError("no answer for 300 s")
    assert store.product(ADDRESS).attempts() == []


def test_a_failed_rewrite_leaves_the_old_product(store):
    write(store, np.ones((3, 3), np.float32))
    with pytest.raises(RuntimeError), store.product(ADDRESS).write("s", 1, SomeParams(), {}) as attempt:
        attempt.write("power_spectrum", np.zeros((3, 3), np.float32))
        raise RuntimeError
    assert store.product(ADDRESS).read()["power_spectrum"].sum() == 9


def test_a_product_of_figures_alone_is_its_record_and_has_no_file(store):
    product = store.product("exposures/a/curate_exposures")
    with product.write("curate_exposures", 1, SomeParams(), {}) as attempt:
        attempt.figures["is_accepted"] = True
    record = product.record()
    assert (record.state, record.attempt, record.n_files) == ("done", None, 0)
    assert product.attempts() == []
    assert (product.read().names, product.read().attributes) == ([], {})
    product.verify()


def test_attributes_alone_read_back(store):
    with store.product(ADDRESS).write("s", 1, SomeParams(), {}) as attempt:
        attempt.set_attributes({"a": [1, 2]})
        attempt.set_attributes({"b": None})
    assert store.product(ADDRESS).read().attributes == {"a": [1, 2], "b": None}
    store.product(ADDRESS).verify()


def test_a_lost_chunk_is_found_by_verify(store):
    write(store, np.ones((3, 3), np.float32))
    record = store.product(ADDRESS).record()
    chunk = Location.of(f"{store.url}/{ADDRESS}/attempts/{record.attempt}/power_spectrum/c")
    chunk.remove()
    with pytest.raises(StoreError, match="its record says"):
        store.product(ADDRESS).verify()


def test_sweeping_removes_what_the_record_does_not_name(store):
    write(store, np.ones((3, 3), np.float32))
    write(store, np.full((3, 3), 2, np.float32))
    assert len(store.product(ADDRESS).attempts()) == 2
    assert store.product(ADDRESS).sweep() == 1
    assert store.product(ADDRESS).read()["power_spectrum"].sum() == 18


def test_a_fingerprint_changes_with_each_of_its_parts():
    base = fingerprint("s", 1, SomeParams(), {"a": "1"})
    assert base == fingerprint("s", 1, SomeParams(), {"a": "1"})
    others = [
        fingerprint("t", 1, SomeParams(), {"a": "1"}),
        fingerprint("s", 2, SomeParams(), {"a": "1"}),
        fingerprint("s", 1, SomeParams(strength=2), {"a": "1"}),
        fingerprint("s", 1, SomeParams(), {"a": "2"}),
    ]
    assert len({base, *others}) == 5


def test_an_array_outside_the_layout_is_refused(store):
    with (
        pytest.raises(KeyError, match="not in the layout"),
        store.product(ADDRESS).write("s", 1, SomeParams(), {}) as a,
    ):
        a.write("surprise", np.ones(3))


def test_a_newer_layout_is_refused_with_advice(store):
    header = Location.of(store.url) / "zarr.json"
    header.write_bytes(header.read_bytes().replace(b'"layout_version": 1', b'"layout_version": 99'))
    with pytest.raises(StoreError, match="update vitriflow"):
        SessionStore.open(store.url)


def test_a_folder_without_a_session_says_so(tmp_path):
    with pytest.raises(StoreError, match="found no session"):
        SessionStore.open(str(tmp_path))


def test_a_full_disk_is_named_and_leaves_nothing_readable(store, record_property):
    """A real one: a file-size limit makes the kernel refuse the write as a full disk does."""
    script = f"""
import resource, numpy as np
from tasks.records.session import StageParams
from tasks.stores.storage.location import StoreWriteError
from tasks.stores.session_store import SessionStore
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
product = SessionStore.open({store.url!r}).product({ADDRESS!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
try:
    with product.write("estimate_ctf", 1, StageParams(), {{}}) as attempt:
        attempt.write("power_spectrum", np.random.default_rng(0).normal(size=(500, 500)).astype(np.float32))
except StoreWriteError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "check free space" in done.stdout
    assert store.product(ADDRESS).record() is None
    assert store.product(ADDRESS).attempts() == []
    record_property("seen", "the write fails with the words check free space; no record, no attempt is left")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /proc here")
def test_an_unwritable_store_is_named():
    with pytest.raises(StoreError, match="/proc/nowhere"):
        SessionStore.create("/proc/nowhere/session.zarr")
