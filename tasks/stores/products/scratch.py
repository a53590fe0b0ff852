"""What a stage of several passes keeps in the store between them, until its products are there."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from tasks.records.session import StageParams
from tasks.stores.commit import Attempt, Product, Reader, Record, fingerprint
from tasks.stores.session_store import SessionStore

Params = TypeVar("Params", bound=StageParams)


@dataclass(frozen=True, eq=False)
class Scratch(Generic[Params]):
    """The scratch products of one computation: same stage, parameters and inputs, same place.

    It holds names and no pixels, and travels to the workers as it is.
    """

    store: SessionStore
    stage: str
    version: int
    params: Params
    inputs: dict[str, str]
    """Address of each product that is read -> its fingerprint."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scratch) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[str, str]:
        return self.store.url, self.address

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.stage, self.version, self.params, self.inputs)

    @property
    def address(self) -> str:
        return f"scratch/{self.stage}/{self.fingerprint}"

    def read(self, name: str) -> Reader:
        return self._product(name).read()

    def record(self, name: str) -> Record | None:
        """The record of a scratch product that is done, else None."""
        record = self._product(name).record()
        is_there = record is not None and record.expired is None and record.is_current(self.fingerprint)
        return record if is_there else None

    def write(self, name: str) -> AbstractContextManager[Attempt]:
        return self._product(name).write(self.stage, self.version, self.params, self.inputs)

    def remove(self, *names: str) -> None:
        """Remove these products; all of them where none is named."""
        for name in names:
            (self.store.location / self.address / name).remove()
        if not names:
            (self.store.location / self.address).remove()

    def _product(self, name: str) -> Product:
        return self.store.product(f"{self.address}/{name}")
