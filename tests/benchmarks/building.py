"""Tracing and threading of simulated detections of known structures: figures with intervals over structures.

``python -m tests.benchmarks.building`` prints them. Structures whose name hashes to an even number were looked at while
tracing and threading were written; those reported are the others. The simulated detector is not the network: these
figures tell what becomes of detections of a given quality.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from tasks.building.build_chains import BuiltProtein, build_chains
from tasks.building.identify import SHORTEST, identify
from tasks.building.placements import Text, fitted_temperature, placements_of, shuffled_text
from tasks.building.sequences import targets
from tasks.building.trace_chains import Trace, trace_chains
from tasks.formats.structure import read_structure
from tests.benchmarks.estimates import Better, Line, estimate, rows_of
from tests.truth.protein_detections import (
    EASY,
    HARD,
    TYPICAL,
    DetectorNoise,
    KnownChain,
    known_chains,
    simulated_detections,
)
from tests.truth.real_maps import REAL_DATA
from tests.truth.traced import TraceFigures, positions_in_truth, trace_figures

LEVELS = {
    "easy (5 % missing, 10 % false, 0.4 Å, 10°, 60 % typing)": EASY,
    "typical (10 %, 20 %, 0.6 Å, 20°, 45 %)": TYPICAL,
    "typical at 35 % typing": replace(TYPICAL, top1=0.35),
    "hard (20 %, 40 %, 0.8 Å, 30°, 35 %)": HARD,
}
LONG = 25
"""Residues of a trace whose register should be right."""
_APART = 100_000


@dataclass(frozen=True)
class Row:
    """Counts of one structure at one level."""

    trace: TraceFigures
    n_long: int
    n_long_right: int
    """Traces longer than `LONG`, of real chains for the most part, whose best place is the right one."""
    n_threaded: int
    n_right: int
    """Residues with sequence that lie within 3 Å of the residue of that number"""
    probability: np.ndarray
    is_right: np.ndarray
    identified: int
    """1 where the search names a protein of the structure first, 0 where another, -1 where no trace is long enough"""
    cpu_s: float


def is_development(name: str) -> bool:
    """By the entry, so that its parts stay together."""
    return int(hashlib.sha256(name.split("_")[0].encode()).hexdigest(), 16) % 2 == 0


def structures(
    data: Path, n: int, is_wanted: Callable[[str], bool], least: int = 150, most: int = 2500
) -> list[list[KnownChain]]:
    """Chains of some structures, by chance but always the same."""
    files = [
        *sorted((data / "structures_bm5").glob("*.gz")),
        *sorted((data / "complexes_posebusters").glob("*.pdb.gz")),
    ]
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0)).tolist()
    found: list[list[KnownChain]] = []
    for file in (files[i] for i in order):
        if len(found) < n and is_wanted(file.name):
            chains = known_chains(read_structure(file))
            if least <= sum(len(c.position) for c in chains) <= most:
                found.append(chains)
    return found


def measured(chains: list[KnownChain], noise: DetectorNoise, database: dict[str, str], seed: int) -> Row:
    """Detections, traces, chains and the search of one structure."""
    detections = simulated_detections(chains, noise, seed)
    sequences = list(dict.fromkeys(c.sequence for c in chains))
    copies = [sum(c.sequence == s for c in chains) for s in sequences]
    start = time.process_time()
    built = build_chains(detections, sequences, copies)
    cpu_s = time.process_time() - start
    traces = trace_chains(detections)
    wanted = targets(sequences, copies, len(detections))
    text, shuffled = Text.of(wanted), shuffled_text(wanted, 0)
    temperature = fitted_temperature(traces, detections, text)
    long = [(i, t) for i, t in enumerate(traces) if len(t) > LONG]
    verdicts = []
    for i, trace in long:
        best = placements_of(i, trace, detections, text, shuffled, temperature)[:1]
        verdict = _is_right(trace, chains, best[0], [t.letters for t in wanted]) if best else False
        if verdict is not None:
            verdicts.append(verdict)
    right, probability = _judged(built, chains)
    identified = -1
    if any(len(t) >= SHORTEST for t in traces):
        found = identify(traces, detections, database)
        identified = int(bool(found) and any(_is_same_protein(found[0].sequence, s) for s in sequences))
    return Row(
        trace_figures([t.alpha_angstrom for t in traces], chains, detections),
        len(verdicts), sum(verdicts), len(right), int(right.sum()), probability, right, identified, cpu_s,
    )  # fmt: skip


def _is_same_protein(first: str, second: str) -> bool:
    """Whether half of the words of the shorter one stand in the other: another structure of the same protein."""
    words = [{s[i : i + 5] for i in range(len(s) - 4)} for s in (first, second)]
    return 2 * len(words[0] & words[1]) >= min(map(len, words))


def _is_right(trace: Trace, chains: Sequence[KnownChain], best, letters: Sequence[str]) -> bool | None:
    """Whether most residues are placed where they belong; None for a trace of nothing."""
    key = positions_in_truth(trace.alpha_angstrom, chains)
    if (key >= 0).double().mean() < 0.5:
        return None
    own = key[best.residue]
    seen = own >= 0
    same = torch.tensor([chains[k // _APART].sequence == letters[best.sequence] for k in own[seen].tolist()])
    return bool((same & (own[seen] % _APART == best.position[seen])).double().mean() > 0.5)


def _judged(built: BuiltProtein, chains: Sequence[KnownChain]) -> tuple[np.ndarray, np.ndarray]:
    """Whether each residue with sequence is right, and how sure of it the model is."""
    key = positions_in_truth(built.model.positions("CA")[:, 0], chains).tolist()
    target = {c.name: c.sequence for c in built.chains}
    right, sure = [], []
    for k, residue, confidence in zip(key, built.model.residues, built.confidence.tolist()):
        which = target[residue.chain]
        if which is not None:
            is_same = k >= 0 and chains[k // _APART].sequence == built.targets[which].letters
            right.append(is_same and k % _APART == residue.number - 1)
            sure.append(confidence)
    return np.array(right, dtype=bool), np.array(sure)


def calibration_error(rows: Sequence[Row]) -> float:
    """Expected calibration error of the confidence, in ten bins."""
    sure, right = (np.concatenate([getattr(r, name) for r in rows]) for name in ("probability", "is_right"))
    which = np.minimum((10 * sure).astype(int), 9)
    return sum(
        float((which == b).mean() * abs(sure[which == b].mean() - right[which == b].mean()))
        for b in range(10)
        if (which == b).any()
    )


def figures() -> dict[str, tuple[Callable[[Sequence[Row]], float], float | None, Better, str]]:
    """Name -> figure of some rows, what is to be reached, which is better, and unit."""

    def share(above: Callable[[Row], float], below: Callable[[Row], float]) -> Callable[[Sequence[Row]], float]:
        return lambda rows: 100 * sum(map(above, rows)) / max(sum(map(below, rows)), 1)

    def per_residue(rows: Sequence[Row]) -> float:
        return 1000 * sum(r.cpu_s for r in rows) / sum(r.trace.n_residues for r in rows)

    def traces_per_chain(rows: Sequence[Row]) -> float:
        return sum(r.trace.n_traces for r in rows) / sum(r.trace.n_chains for r in rows)

    recovered = share(lambda r: r.trace.n_recovered, lambda r: r.trace.n_residues)
    real = share(lambda r: r.trace.n_recovered, lambda r: r.trace.n_traced)
    broken = share(lambda r: r.trace.n_broken, lambda r: r.trace.n_neighbours)
    wrong = share(lambda r: r.trace.n_wrong, lambda r: r.trace.n_residues)
    in_register = share(lambda r: r.n_long_right, lambda r: r.n_long)
    right = share(lambda r: r.n_right, lambda r: r.n_threaded)
    right_of_all = share(lambda r: r.n_right, lambda r: r.trace.n_residues)
    named = share(lambda r: r.identified == 1, lambda r: r.identified >= 0)
    return {
        "residues recovered within 3 Å": (recovered, None, "higher", "%"),
        "traced residues that are real": (real, None, "higher", "%"),
        "neighbours broken": (broken, 5.0, "lower", "%"),
        "wrong links per 100 residues": (wrong, None, "lower", ""),
        "traces per chain": (traces_per_chain, None, "lower", ""),
        f"traces > {LONG} residues in the right register": (in_register, 90.0, "higher", "%"),
        "residues with sequence that are right": (right, None, "higher", "%"),
        "right residues of all": (right_of_all, 75.0, "higher", "%"),
        "calibration error of the confidence": (calibration_error, 0.05, "lower", ""),
        "proteins identified first": (named, None, "higher", "%"),
        "CPU-s per 1,000 residues": (per_residue, 30.0, "lower", "s"),
    }


def compare(data: Path, n: int) -> list[Line]:
    """All figures at all levels."""
    some = structures(data, n, lambda name: not is_development(name))
    others = structures(data, 400, lambda name: True, least=30)
    database = {f"{i} {k}": c.sequence for i, chains in enumerate(others) for k, c in enumerate(chains)}
    database |= {f"own {i} {k}": c.sequence for i, chains in enumerate(some) for k, c in enumerate(chains)}
    generator = np.random.default_rng(0)
    database |= {f"shuffled {n}": "".join(generator.permutation(list(s))) for n, s in list(database.items())}
    lines = []
    for level, noise in LEVELS.items():
        rows = [measured(chains, noise, database, seed) for seed, chains in enumerate(some)]
        for name, (figure, reach, better, unit) in figures().items():
            of = partial(_of_chosen, figure, rows)
            lines.append(Line(name, level, estimate(of, len(rows)), unit, reach, better))
    return lines


def _of_chosen(figure: Callable[[Sequence[Row]], float], rows: Sequence[Row], chosen: Tensor) -> float:
    return figure([rows[i] for i in chosen.tolist()])


def main(n: Annotated[int, typer.Option(help="Structures of the reported half.")] = 30) -> None:
    """Print the table."""
    if not REAL_DATA.is_dir():
        raise typer.BadParameter(f"no structures at {REAL_DATA}; set VITRIFLOW_REAL_DATA")
    print(*rows_of(compare(REAL_DATA, n)), sep="\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    typer.run(main)
