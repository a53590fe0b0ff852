"""What was spent on a session: CPU seconds and products of each stage, added up over all runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import BaseModel

from tasks.records.session import StageParams, StageReport
from tasks.stores.session_store import SessionStore

_ADDRESS = "session/costs"


class Cost(BaseModel):
    """Of one stage."""

    cpu_seconds: float = 0.0
    n_done: int = 0
    foreseen_cpu_seconds: float = 0.0
    """What the stage was expected to take as it was measured elsewhere."""

    @property
    def ratio(self) -> float:
        """By how much this session's items cost more than was foreseen; 1 where nothing is known."""
        is_known = self.foreseen_cpu_seconds > 0 and self.cpu_seconds > 0
        return self.cpu_seconds / self.foreseen_cpu_seconds if is_known else 1.0


def add_costs(store: SessionStore, reports: Iterable[StageReport]) -> None:
    """Add what stages did to the store's account; that of a version begins at nothing."""
    costs = with_costs(read_costs(store), reports)
    with store.product(_ADDRESS).write("costs", 1, StageParams(), {}) as attempt:
        attempt.details = {stage: cost.model_dump() for stage, cost in costs.items()}


def with_costs(costs: Mapping[str, Cost], reports: Iterable[StageReport]) -> dict[str, Cost]:
    """The account, what stages did added to it."""
    added = dict(costs)
    for report in reports:
        known = added.get(report.stage, Cost())
        added[report.stage] = Cost(
            cpu_seconds=round(known.cpu_seconds + report.cpu_seconds, 3),
            n_done=known.n_done + len(report.done),
            foreseen_cpu_seconds=round(known.foreseen_cpu_seconds + report.foreseen_cpu_seconds, 3),
        )
    return added


def read_costs(store: SessionStore) -> dict[str, Cost]:
    """Stage -> what was spent in this store, its parents' left out."""
    product = store.product(_ADDRESS)
    record = product.record()
    if record is None or product.is_inherited:
        return {}
    return {stage: Cost.model_validate(cost) for stage, cost in record.details.items()}
