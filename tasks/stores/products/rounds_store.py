"""Rounds of a model beside each other in the store."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.records.rounds import RoundsComparison
from tasks.stores.commit import Attempt
from tasks.stores.products.json_records import read_record, write_record
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError


def rounds_address(models: Sequence[str]) -> str:
    """Of the comparison of some models: rounds are made one after the other, and the last one names them all."""
    return f"rounds/{models[-1]}"


def write_rounds(attempt: Attempt, found: RoundsComparison) -> None:
    """Write how rounds compare into the product at `rounds_address`."""
    write_record(attempt, found)
    attempt.figures.update(map=found.map, halves=found.halves, resolution_angstrom=found.resolution_angstrom)


def read_rounds(store: SessionStore, models: Sequence[str], density: str) -> RoundsComparison:
    """How these models compare in the map ``maps/<density>``.

    Raises
    ------
    StoreError
        Where they were not compared as they are now, with the reason.
    """
    address, what = rounds_address(models), f"comparison of {', '.join(models)}"
    found = read_record(store, address, RoundsComparison, what, "compare_rounds")
    if found.names != tuple(models) or found.map != density:
        raise StoreError(
            f"{address} compares {', '.join(found.names)} in maps/{found.map}, expected {', '.join(models)} in"
            f" maps/{density}; run compare_rounds"
        )
    sources = [f"models/{name}" for name in models]
    then = store.product(address).done_record(what).inputs
    made_anew = [one for one, now in store.fingerprints(sources).items() if then.get(one) != now]
    if made_anew:
        raise StoreError(f"{address} is of earlier {', '.join(made_anew)}; run compare_rounds again")
    return found
