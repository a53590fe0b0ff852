"""States beside each other: what is told to move, against what was moved, and real pairs the one way and the other.

    python -m tests.benchmarks.states [--n 40]

- Turned: one chain of each of so many structures of structures_bm5, of 150 to 450 residues, cut where its two parts
  touch least; the second part is turned about a random axis through the cut by 6 to 30°, or by 2 to 6°, every atom
  displaced by 0.4 Å (rms, in three directions), and the whole laid elsewhere. Told right: two domains that a hinge
  joins. The angle and the direction of its axis are those of the motion with the larger angle; residues count as of
  the right domain where most of their part are of the same one.
- Still: the same chains with the displacements alone. Told right: one domain.
- Real pairs: the same protein in two crystals of structures_bm5, of 166 to 493 residues; the second compared with the
  first and the first with the second should tell the same turn. Pockets are looked for in these.

Intervals: 1,000 bootstrap samples of cases, 95 %. Nothing was tuned on these figures.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path

import torch
import typer
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.pockets import Probes
from tasks.formats.structure import read_structure
from tasks.records.state_comparison import MotionOfDomain, StateComparison
from tasks.states.comparison import compared
from tests.benchmarks.estimates import Line, estimate, rows_of, share, single
from tests.benchmarks.flexible_fitting import chain_of
from tests.truth.bent_models import hinge_residue
from tests.truth.real_maps import REAL_DATA
from tests.truth.states import laid_elsewhere, turned

_SHORTEST, _LONGEST = 150, 450
_ANGLES_DEG = ((6.0, 30.0), (2.0, 6.0))
_ERROR_ANGSTROM = 0.4
_PAIRS = (
    ("1WQ1_l", "1BKD_l"), ("1FC2_l", "1FCC_r"), ("1BVN_r", "1KXQ_r"), ("1ATN_r", "1H1V_r"), ("1E6J_r", "2FD6_r"),
    ("2SIC_r", "2SNI_r"), ("1CLV_r", "1TMQ_r"), ("1BUH_r", "1FQ1_l"),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Case:
    """A chain whose second part is turned."""

    name: str
    chain: AtomicModel
    moves: Tensor
    """(residue,)"""
    axis: Tensor
    angle_deg: float

    @property
    def moved(self) -> AtomicModel:
        point = self.chain.positions("CA")[int(self.moves.long().argmax()), 0]
        return laid_elsewhere(turned(self.chain, self.moves, self.axis, point, self.angle_deg, 0.0), _ERROR_ANGSTROM)


@dataclass(frozen=True)
class Found:
    """What was told of one case."""

    is_right: bool
    angle_off_deg: float
    axis_off_deg: float
    right_percent: float
    """Residues of the right domain."""
    is_still: bool
    """Whether one domain is told where nothing was turned."""
    cpu_seconds: float


def cases(data: Path, n: int, angles_deg: tuple[float, float]) -> Iterator[Case]:
    """The first chains of the set that are neither short nor long, turned by angles of a range."""
    low, high = angles_deg
    chains = ((path.name[:6], chain_of(path)) for path in sorted((data / "structures_bm5").glob("*.gz")))
    for name, chain in islice((c for c in chains if _SHORTEST <= c[1].n_residues <= _LONGEST), n):
        generator = torch.Generator().manual_seed(sha256(name.encode()).digest()[0])
        angle = low + (high - low) * float(torch.rand((), generator=generator))
        axis = torch.nn.functional.normalize(torch.randn(3, generator=generator, dtype=torch.float64), dim=0)
        moves = torch.arange(chain.n_residues) > hinge_residue(chain.positions("CA")[:, 0])
        yield Case(name, chain, moves, axis, angle)


def found_of(case: Case) -> Found:
    """Compare the turned chain with the one that it was, and the one that is only displaced."""
    started = time.process_time()
    told, _ = compared(case.chain, case.moved, ("before", "after"))
    seconds = time.process_time() - started
    still, _ = compared(case.chain, laid_elsewhere(case.chain, _ERROR_ANGSTROM), ("before", "after"))
    turn = _largest(told)
    angle_off = axis_off = math.nan
    if turn is not None:
        axis = torch.tensor(turn.axis, dtype=torch.float64)
        angle_off = abs(turn.angle_deg - case.angle_deg)
        axis_off = math.degrees(math.acos(min(1.0, abs(float(axis @ case.axis)))))
    is_right = len(told.domains) == 2 and len(told.hinges) >= 1
    return Found(is_right, angle_off, axis_off, _right_percent(case, told), len(still.domains) == 1, seconds)


def _largest(told: StateComparison) -> MotionOfDomain | None:
    return max(told.motions, key=lambda motion: motion.angle_deg, default=None)


def _right_percent(case: Case, told: StateComparison) -> float:
    domain = torch.tensor([row.domain or 0 for row in told.residues])
    n_right = 0
    for part in (case.moves, ~case.moves):
        own = domain[part]
        known = own[own > 0]
        n_right += int((own == known.mode().values).sum()) if len(known) else 0
    both_one = len(set(domain.tolist()) - {0}) < 2
    return 100 * (
        max(float(p.double().mean()) for p in (case.moves, ~case.moves)) if both_one else n_right / len(domain)
    )


def lines(data: Path, n: int, n_pairs: int = len(_PAIRS)) -> list[Line]:
    """Of so many chains, and of real pairs."""
    lines: list[Line] = []
    for low, high in _ANGLES_DEG:
        found = [_told(case) for case in cases(data, n, (low, high))]
        where = f"{len(found)} chains turned by {low:g} to {high:g}°"
        right = [one for one in found if one.is_right]
        lines += [
            Line(
                "states: two domains and their hinge", where, share(_bools([f.is_right for f in found])), "%", digits=0
            ),
            _mean("states: residues of the right domain", where, [f.right_percent for f in found], "%", 1),
            _mean("states: angle off, where two are told", where, [f.angle_off_deg for f in right], "°", 2),
            _mean("states: axis off, where two are told", where, [f.axis_off_deg for f in right], "°", 1),
            _mean("states: CPU-s without pockets", where, [f.cpu_seconds for f in found], "", 2),
        ]
    still = share(_bools([f.is_still for f in found]))
    lines.append(Line("states: one domain", f"{len(found)} chains that stand still", still, "%", digits=0))
    pairs = [_both_ways(data, *pair) for pair in _PAIRS[:n_pairs]]
    where = f"{len(pairs)} real pairs, both ways"
    return [
        *lines,
        Line("states: as many domains", where, share(_bools([a == b for (a, b), _, _ in pairs])), "%", digits=0),
        _mean("states: largest turn, one way less the other", where, [off for _, off, _ in pairs], "°", 2),
        _mean("states: CPU-s with pockets", where, [seconds for _, _, seconds in pairs], "", 1),
    ]


def _both_ways(data: Path, first: str, second: str) -> tuple[tuple[int, int], float, float]:
    """Domains told either way, by how much the largest turns differ, and CPU-seconds of one way."""
    models = [read_structure(data / "structures_bm5" / f"{name}_b-matched.pdb.gz") for name in (first, second)]
    started = time.process_time()
    told = [compared(a, b, (first, second), probes=Probes())[0] for a, b in (models, models[::-1])]
    seconds = (time.process_time() - started) / 2
    turns = [turn.angle_deg if (turn := _largest(one)) is not None else 0.0 for one in told]
    n_domains = (len(told[0].domains), len(told[1].domains))
    print(f"{first} and {second}: {n_domains} domains, turns {turns[0]:.1f} and {turns[1]:.1f}°", flush=True)
    return n_domains, abs(turns[0] - turns[1]), seconds


def _bools(values: list[bool]) -> Tensor:
    return torch.tensor(values)


def _mean(figure: str, where: str, values: list[float], unit: str, digits: int) -> Line:
    known = torch.tensor(values, dtype=torch.float64)
    told = estimate(lambda chosen: float(known[chosen].mean()), len(known)) if len(known) else single(math.nan)
    return Line(figure, where, told, unit, None, "lower", digits)


def _told(case: Case) -> Found:
    """Compare, and print a line."""
    found = found_of(case)
    print(
        f"{case.name}, {case.chain.n_residues} residues, {case.angle_deg:.1f}°: off by {found.angle_off_deg:.2f}°,"
        f" axis by {found.axis_off_deg:.1f}°, {found.right_percent:.0f} % of residues; right {found.is_right}, still"
        f" {found.is_still}",
        flush=True,
    )
    return found


def main(data: Path = REAL_DATA, n: int = 40) -> None:
    """Print a line for each case, and the figures."""
    torch.set_num_threads(1)
    print("\n".join(rows_of(lines(data, n))))


if __name__ == "__main__":
    typer.run(main)
