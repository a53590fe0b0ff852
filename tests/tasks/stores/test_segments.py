"""An index of segments holds the last value of every entry, and writes nothing that it has."""

import pytest

from tasks.stores import segments
from tasks.stores.segments import Segments
from tasks.stores.storage.location import Location


@pytest.fixture(params=["same process", "another process"])
def append(request, tmp_path):
    """Appends to one index, by a process that remembers what it wrote or by one that has to look."""
    index = Segments(Location.of(tmp_path / "index"))

    def one(entries):
        if request.param == "another process":
            segments._known_of.cache_clear()
        before = index.files()
        index.append(entries)
        return index.files() != before

    one.index = index
    return one


def contents(index: Segments) -> dict[str, object]:
    found = {}
    for part in index.read():
        found |= part
    return found


def test_an_entry_that_changes_back_is_written_again(append):
    for value in (1, 2, 1):
        assert append({"a": value, "b": 0})
        assert contents(append.index) == {"a": value, "b": 0}
    assert not append({"b": 0, "a": 1})


def test_what_is_merged_keeps_the_last_values_and_is_not_written_again(append):
    expected = {}
    for i in range(60):
        entries = {f"e{j}": (i, j) for j in range(i % 7, 40, 3 + i % 5)}
        append(entries)
        expected |= {key: list(value) for key, value in entries.items()}
    assert contents(append.index) == expected
    assert len(append.index.files()) < 12
    assert not append(expected)
    assert not append({})
