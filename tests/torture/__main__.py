"""``make torture``: run the faults, print the table, write it to ``bench/``; ends with 1 where anything was lost."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.torture import from_tests
from tests.torture.gpu_faults import dying_worker, greedy_item, late_worker
from tests.torture.scenarios import feed_with_kills
from tests.torture.site import Row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer files and shorter pauses")
    arguments = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="vitriflow-torture-") as name:
        folder = Path(name)
        if arguments.short:
            rows += feed_with_kills(folder / "feed", 80, 0.5, 12.0)
            rows += [late_worker(folder / "late", 10.0), dying_worker(folder / "dying"), greedy_item(folder / "greedy")]
        else:
            rows += feed_with_kills(folder / "feed", 1000, 1.0, 30.0)
            rows += [
                late_worker(folder / "late", 120.0),
                dying_worker(folder / "dying"),
                greedy_item(folder / "greedy"),
            ]
            rows += from_tests.rows(outage_seconds=60.0)
    text = table(rows)
    print(text)
    target = Path("bench") / ("torture-short.md" if arguments.short else "torture.md")
    target.parent.mkdir(exist_ok=True)
    target.write_text(text + "\n")
    return int(any(row.lost or row.twice for row in rows))


def table(rows: list[Row]) -> str:
    lines = ["| fault | seen | items lost | done twice | time to recover |", "|---|---|---|---|---|"]
    for row in rows:
        recovery = "-" if row.recovery_seconds is None else f"{row.recovery_seconds:.0f} s"
        lines.append(f"| {row.fault} | {row.seen} | {row.lost} | {row.twice} | {recovery} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
