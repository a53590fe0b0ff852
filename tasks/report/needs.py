"""The needs of a session's stages as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks.records.forecast import Need
from tasks.report.artifacts import artifact_key, show_table
from tasks.report.words import markdown_text
from tasks.stores.upkeep.costs import Cost
from tasks.workers.room import PROCESS_BYTES, duration_words


def need_rows(needs: Sequence[Need], costs: Mapping[str, Cost]) -> list[dict[str, str]]:
    """A row a stage and one for all: memory of a worker with one item at a time, time of one core, disk.

    Where this session's items cost more or less than was foreseen, so will the others of their stage.
    """
    rows, all_seconds = [], 0.0
    for need in needs:
        seconds = need.cpu_seconds * (costs[need.stage].ratio if need.stage in costs else 1.0)
        all_seconds += seconds
        least, most = (PROCESS_BYTES + n for n in (need.least_memory_bytes, need.memory_bytes))
        rows.append(
            {
                "stage": need.stage,
                "items": str(need.n_items),
                "GB of a worker": " to ".join(dict.fromkeys(f"{n / 1e9:.1f}" for n in (least, most))),
                "CPU time": duration_words(seconds),
                "GB on disk": f"{need.disk_bytes / 1e9:.2f}",
                "of": need.told_from,
            }
        )
    largest = max(PROCESS_BYTES + need.least_memory_bytes for need in needs)
    rows.append(
        {
            "stage": "all",
            "items": "",
            "GB of a worker": f"{largest / 1e9:.1f} or more",
            "CPU time": duration_words(all_seconds),
            "GB on disk": f"{sum(need.disk_bytes for need in needs) / 1e9:.2f}",
            "of": "scratch included",
        }
    )
    return rows


def show_needs(session_name: str, needs: Sequence[Need], costs: Mapping[str, Cost]) -> None:
    """``<session>-forecast``."""
    rows = need_rows(needs, costs)
    words = f"{markdown_text(session_name)}: what it will need, by its sizes and what it has cost so far"
    show_table(artifact_key(session_name, "forecast"), rows, words)
