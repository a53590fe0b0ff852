"""``make torture``: run the faults, print the table, write it to ``bench/``; ends with 1 where anything was lost."""

from __future__ import annotations

import argparse
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.torture import from_tests
from tests.torture.gpu_faults import dying_worker, greedy_item, late_worker
from tests.torture.scenarios import feed_with_kills
from tests.torture.site import Row

HEADER = "| fault | seen | items lost | done twice | time to recover |\n|---|---|---|---|---|"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer files and shorter pauses")
    parser.add_argument("--only", help="one scenario: 'files with kills', 'faults with a test', 'a late worker', …")
    arguments = parser.parse_args()
    is_short = arguments.short
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="vitriflow-torture-") as name:
        chosen = scenarios(Path(name), is_short)
        if arguments.only not in (None, *chosen):
            parser.error(f"--only {arguments.only!r}: expected one of {', '.join(chosen)}")
        for scenario, run in chosen.items():
            if arguments.only not in (None, scenario):
                continue
            found = rows_of(scenario, run)
            print("\n".join(map(line, found)), flush=True)
            rows += found
    text = "\n".join([HEADER, *map(line, rows)])
    print(f"\n{text}")
    if arguments.only is None:
        target = Path("bench") / ("torture-short.md" if is_short else "torture.md")
        target.parent.mkdir(exist_ok=True)
        target.write_text(text + "\n")
    return int(any(row.lost or row.twice for row in rows))


def scenarios(folder: Path, is_short: bool) -> dict[str, Callable[[], list[Row]]]:
    """Name -> what runs it; the short ones leave out what has a test of its own."""
    n_files, seconds_between, growth_pause = (80, 0.5, 12.0) if is_short else (1000, 1.0, 30.0)
    on_gpu: dict[str, Callable[[], list[Row]]] = {
        "a late worker": lambda: [late_worker(folder / "late", 10.0 if is_short else 120.0)],
        "a dying worker": lambda: [dying_worker(folder / "dying")],
        "too little memory": lambda: [greedy_item(folder / "greedy")],
    }
    feed = {"files with kills": lambda: feed_with_kills(folder / "feed", n_files, seconds_between, growth_pause)}
    tests = {} if is_short else {"faults with a test": lambda: from_tests.rows(outage_seconds=60.0)}
    return {**on_gpu, **tests, **feed}


def rows_of(scenario: str, run: Callable[[], list[Row]]) -> list[Row]:
    """What a scenario says; one that ends in an error says that, and the others are run all the same."""
    try:
        return run()
    except Exception as error:
        traceback.print_exc()
        return [Row(scenario, f"FAILED: {type(error).__name__}: {error}".replace("|", "/"), 1, 1, None)]


def line(row: Row) -> str:
    recovery = "-" if row.recovery_seconds is None else f"{row.recovery_seconds:.0f} s"
    return f"| {row.fault} | {row.seen} | {row.lost} | {row.twice} | {recovery} |"


if __name__ == "__main__":
    raise SystemExit(main())
