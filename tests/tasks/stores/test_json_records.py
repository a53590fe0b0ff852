"""Records come back from the store as they went in."""

import numpy as np
import pytest
from pydantic import BaseModel

from tasks.records.session import StageParams
from tasks.stores.products.json_records import read_record, write_record
from tasks.stores.storage.location import StoreError


class Found(BaseModel):
    words: tuple[str, ...]
    share: float | None


def read(store, name):
    return read_record(store, "models/placed", Found, "model 'placed'", "place_ligands", name)


def test_a_record_reads_back_as_it_was_written_beside_others(store):
    found, other = Found(words=("Å", "2 × 3"), share=1 / 3), Found(words=(), share=None)
    with store.product("models/placed").write("place_ligands", 1, StageParams(), {}) as attempt:
        attempt.write("mmcif", np.zeros(3, np.uint8))
        write_record(attempt, found, "json")
        write_record(attempt, other, "placement")
    assert read(store, "json") == found
    assert read(store, "placement") == other


def test_a_record_that_is_not_there_says_how_to_get_it(store):
    with pytest.raises(StoreError, match=r"model 'placed'.*run place_ligands"):
        read(store, "json")
