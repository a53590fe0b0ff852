"""Figures with their 95 % intervals, what they cost, and tables of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

Better = Literal["higher", "lower"]
N_SAMPLES = 1000
"""With replacement."""
_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Estimate:
    """A figure, and between what it lies in 95 % of the samples drawn with replacement."""

    value: float
    low: float
    high: float


def estimate(figure: Callable[[Tensor], float], n: int | Sequence[int]) -> Estimate:
    """A figure of ``n`` cases and its bootstrap interval; samples in which it has no value do not count.

    Parameters
    ----------
    figure
        Of the cases whose numbers (case,) it is given, some of them several times.
    n
        Cases, or cases of each group: then groups are drawn first, and as many of its cases as each has.
    """
    sizes = torch.tensor([n] if isinstance(n, int) else list(n))
    first = sizes.cumsum(0) - sizes
    generator = torch.Generator().manual_seed(0)

    def drawn(n_of: int) -> Tensor:
        return torch.randint(n_of, (n_of,), generator=generator)

    def sample() -> Tensor:
        return torch.cat([first[group] + drawn(int(sizes[group])) for group in drawn(len(sizes))])

    samples = torch.tensor([figure(sample()) for _ in range(N_SAMPLES)], dtype=torch.float64)
    low, high = samples.nanquantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(figure(torch.arange(int(sizes.sum()))), low, high)


def single(value: float) -> Estimate:
    """A figure that nothing can be drawn again for."""
    return Estimate(value, value, value)


def share(is_so: Tensor) -> Estimate:
    """In per cent, of cases (case,)."""
    return estimate(lambda chosen: 100 * float(is_so[chosen].double().mean()), len(is_so))


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    figure: str
    where: str
    """Map or set of structures, and how many cases."""
    estimate: Estimate
    unit: str = ""
    reach: float | None = None
    better: Better = "higher"
    digits: int = 3

    @property
    def is_reached(self) -> bool | None:
        """None where nothing is to be reached."""
        if self.reach is None:
            return None
        return self.estimate.value >= self.reach if self.better == "higher" else self.estimate.value <= self.reach


@dataclass(frozen=True)
class Section:
    """Lines that were measured together, and what that took."""

    name: str
    definition: str
    lines: tuple[Line, ...]
    cpu_seconds: float
    peak_bytes: int


def measured(name: str, definition: str | None, measure: Callable[[], Sequence[Line]]) -> Section:
    """Lines with the CPU time that they took, and the peak memory of this process meanwhile."""
    _FORGET.write_text("5")
    started = time.process_time()
    lines = tuple(measure())
    seconds = time.process_time() - started
    peak = next(int(line.split()[1]) * 1024 for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return Section(name, definition or "", lines, seconds, peak)


def table(sections: Sequence[Section]) -> str:
    """In Markdown: one table of all lines, and below it what each section took and how its figures are defined."""
    rows = rows_of([line for section in sections for line in section.lines])
    rows += ["", "| section | CPU-s | peak GB of a process |", "|---|---|---|"]
    rows += [f"| {s.name} | {s.cpu_seconds:.0f} | {s.peak_bytes / 1e9:.2f} |" for s in sections]
    names: dict[str, list[str]] = {}
    for section in sections:
        names.setdefault(" ".join(section.definition.split()), []).append(section.name)
    return "\n".join([*rows, "", *(f"- {'; '.join(some)}. {words}" for words, some in names.items() if words)])


def rows_of(lines: Sequence[Line]) -> list[str]:
    """Of a table in Markdown, its head first."""
    return ["| figure | of | measured | 95 % | to reach | |", "|---|---|---|---|---|---|", *map(_row, lines)]


def _row(line: Line) -> str:
    value, low, high = (f"{x:.{line.digits}f}" for x in (line.estimate.value, line.estimate.low, line.estimate.high))
    between = f"{low} to {high}" if line.estimate.low < line.estimate.high else ""
    sign = "≥" if line.better == "higher" else "≤"
    aim = "" if line.reach is None else f"{sign} {line.reach:g} {line.unit}".strip()
    verdict = {None: "", True: "reached", False: "missed"}[line.is_reached]
    return f"| {line.figure} | {line.where} | {f'{value} {line.unit}'.strip()} | {between} | {aim} | {verdict} |"
