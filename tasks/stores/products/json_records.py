"""Records of what was found, as JSON in the products of the store."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from pydantic import BaseModel

from tasks.stores.commit import Attempt
from tasks.stores.session_store import SessionStore

_Found = TypeVar("_Found", bound=BaseModel)


def write_record(attempt: Attempt, found: BaseModel, name: str = "json") -> None:
    """Write it as an array of bytes of a product."""
    attempt.write(name, np.frombuffer(found.model_dump_json().encode(), dtype=np.uint8))


def read_record(
    store: SessionStore, address: str, kind: type[_Found], what: str, stage: str, name: str = "json"
) -> _Found:
    """What `write_record` wrote.

    Parameters
    ----------
    what
        That the product is, in words.
    stage
        Which writes it.

    Raises
    ------
    StoreError
        Where the product is not there, with the reason.
    """
    product = store.product(address)
    product.done_record(what, f"run {stage}")
    return kind.model_validate_json(product.read()[name].tobytes())
