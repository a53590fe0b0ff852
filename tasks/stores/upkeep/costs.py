"""What was spent on a session: CPU seconds and products of each stage, added up over all runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from pydantic import BaseModel

from tasks.records.session import StageParams, StageReport
from tasks.stores.session_store import SessionStore

Part = Literal["exposures", "maps"]
"""Parts of a session on which two flows may work at once; each has an account of its own, so that none is lost."""
_ACCOUNTS: dict[Part, str] = {"exposures": "session/costs", "maps": "session/costs_of_maps"}


class Cost(BaseModel):
    """Of one stage."""

    cpu_seconds: float = 0.0
    n_done: int = 0
    foreseen_cpu_seconds: float = 0.0
    """What the stage was expected to take as it was measured elsewhere."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            cpu_seconds=round(self.cpu_seconds + other.cpu_seconds, 3),
            n_done=self.n_done + other.n_done,
            foreseen_cpu_seconds=round(self.foreseen_cpu_seconds + other.foreseen_cpu_seconds, 3),
        )

    @property
    def ratio(self) -> float:
        """By how much this session's items cost more than was foreseen; 1 where nothing is known."""
        is_known = self.foreseen_cpu_seconds > 0 and self.cpu_seconds > 0
        return self.cpu_seconds / self.foreseen_cpu_seconds if is_known else 1.0


@contextmanager
def spending(store: SessionStore, part: Part) -> Iterator[list[StageReport]]:
    """Gives a list for the reports of stages; at the end, however it comes, what they spent is added up.

    For whoever works on the part alone. A flow that is killed leaves out what it spent.
    """
    reports: list[StageReport] = []
    try:
        yield reports
    finally:
        add_costs(store, reports, part)


def add_costs(store: SessionStore, reports: Iterable[StageReport], part: Part = "exposures") -> None:
    """Add what stages did to the store's account; that of a version begins at nothing."""
    costs = with_costs(_read_account(store, part), reports)
    with store.product(_ACCOUNTS[part]).write("costs", 1, StageParams(), {}) as attempt:
        attempt.details = {stage: cost.model_dump() for stage, cost in costs.items()}


def with_costs(costs: Mapping[str, Cost], reports: Iterable[StageReport]) -> dict[str, Cost]:
    """The account, what stages did added to it."""
    added = dict(costs)
    for report in reports:
        spent = Cost(
            cpu_seconds=report.cpu_seconds,
            n_done=len(report.done),
            foreseen_cpu_seconds=report.foreseen_cpu_seconds,
        )
        added[report.stage] = added.get(report.stage, Cost()) + spent
    return added


def read_costs(store: SessionStore) -> dict[str, Cost]:
    """Stage -> what was spent in this store, its parents' left out."""
    total: dict[str, Cost] = {}
    for part in _ACCOUNTS:
        for stage, cost in _read_account(store, part).items():
            total[stage] = total.get(stage, Cost()) + cost
    return total


def _read_account(store: SessionStore, part: Part) -> dict[str, Cost]:
    product = store.product(_ACCOUNTS[part])
    record = product.record()
    if record is None or product.is_inherited:
        return {}
    return {stage: Cost.model_validate(cost) for stage, cost in record.details.items()}
