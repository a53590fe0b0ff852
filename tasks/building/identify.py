"""Which protein a map shows: profiles of its traces search a database of sequences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pyhmmer.easel import Alphabet, DigitalSequenceBlock, TextMSA, TextSequence
from pyhmmer.plan7 import HMM, Background, Builder, Pipeline
from scipy.stats import chi2
from torch import Tensor

from kernels.models.detections import ProteinDetections
from kernels.models.polymers import PROTEIN
from kernels.models.residues import AMINO_ACID_LETTERS
from tasks.building.trace_chains import Trace

SHORTEST = 15
"""Residues of a trace that searches."""
MOST_TRACES = 40
"""Of the longest, that search."""
TEMPERATURE = 0.8
"""Of the types: what threading finds on simulated detections (0.6 to 1.0)."""
WORST_E_VALUE = 0.01
_WORST_HIT = 100.0
"""E-value of a single trace that may count together with others."""
_N_ROWS = 80
"""Sequences of the alignment that stands for a profile."""


@dataclass(frozen=True)
class Hit:
    """A stretch of a protein that looks like a trace."""

    trace: int
    is_reversed: bool
    e_value: float
    score_bits: float
    start: int
    """First position in the protein, from 0"""
    stop: int
    """Position behind the last"""


@dataclass(frozen=True)
class IdentifiedProtein:
    """A protein of the database that traces look like."""

    name: str
    sequence: str
    e_value: float
    """Of all hits together: proteins of the database that would do as well by chance."""
    hits: tuple[Hit, ...]
    """The surest of each trace, the best first"""


def identify(
    traces: Sequence[Trace],
    detections: ProteinDetections,
    database: Mapping[str, str],
    worst_e_value: float = WORST_E_VALUE,
    seed: int = 42,
) -> list[IdentifiedProtein]:
    """Proteins of a database that traces look like, the surest first.

    Each trace searches by itself, forwards and backwards; traces that hit different parts of one protein count
    together (Fisher's product of their p-values, and as many choices of traces as there are).

    Parameters
    ----------
    database
        Name of each protein -> its sequence in one-letter code.

    Raises
    ------
    ValueError
        For an empty database, or where no trace is long enough.
    """
    if not database:
        raise ValueError("the database of sequences is empty; give a FASTA file of the proteins that it may be")
    longest = sorted((i for i, t in enumerate(traces) if len(t) >= SHORTEST), key=lambda i: -len(traces[i]))
    if not longest:
        found = max((len(t) for t in traces), default=0)
        raise ValueError(
            f"the longest trace has {found} residues, but a search wants {SHORTEST}; identify the protein in a map of"
            " better resolution, or give its sequence"
        )
    alphabet = Alphabet.amino()
    names = list(database)
    block = DigitalSequenceBlock(
        alphabet,
        [TextSequence(name=str(i), sequence=database[n]).digitize(alphabet) for i, n in enumerate(names)],
    )
    hits: dict[str, list[Hit]] = {}
    searching = longest[:MOST_TRACES]
    for index in searching:
        for is_reversed in (False, True):
            share = trace_profile(traces[index], detections)
            profile = _hmm(share.flip(0) if is_reversed else share, alphabet, seed)
            for name, hit in _search(profile, block, alphabet, index, is_reversed, seed):
                hits.setdefault(names[int(name)], []).append(hit)
    proteins = [_together(n, database[n], own, len(searching), len(names)) for n, own in hits.items()]
    return sorted((p for p in proteins if p.e_value <= worst_e_value), key=lambda p: p.e_value)


def trace_profile(trace: Trace, detections: ProteinDetections) -> Tensor:
    """(residue, 20) probabilities of types, mixed with those of any protein as far as a candidate may be none."""
    row = trace.candidate.clamp(min=0)
    trust = torch.where(trace.candidate >= 0, detections.confidence[row].clamp(0.05, 0.97), 0.0)[:, None]
    sharp = torch.softmax(torch.log(detections.amino_acid[row].clamp(min=1e-4)) / TEMPERATURE, 1)
    return trust * sharp + (1 - trust) * torch.tensor(PROTEIN.background).to(sharp)


def _hmm(share: Tensor, alphabet: Alphabet, seed: int) -> HMM:
    """A hidden Markov model with these emissions, its scores calibrated: built from an alignment that has them."""
    generator = np.random.default_rng(seed)
    letters = np.array(list(AMINO_ACID_LETTERS))
    columns = []
    for wanted in (share.double().numpy() * _N_ROWS).tolist():
        count = np.floor(wanted).astype(int)
        rest = np.argsort(count - np.array(wanted))[: _N_ROWS - count.sum()]
        count[rest] += 1
        columns.append(generator.permutation(np.repeat(letters, count)))
    rows = np.stack(columns, 1)
    sequences = [TextSequence(name=f"row{i}", sequence="".join(row)) for i, row in enumerate(rows)]
    alignment = TextMSA(name="trace", sequences=sequences).digitize(alphabet)
    builder = Builder(alphabet, weighting="none", effective_number="none", prior_scheme="laplace", seed=seed)
    return builder.build_msa(alignment, Background(alphabet))[0]


def _search(
    profile: HMM, block: DigitalSequenceBlock[Any], alphabet: Alphabet, trace: int, is_reversed: bool, seed: int
) -> list[tuple[str, Hit]]:
    pipeline = Pipeline(alphabet, background=Background(alphabet), E=_WORST_HIT, seed=seed, F1=0.2, F2=0.1, F3=0.05)
    found = []
    for hit in pipeline.search_hmm(profile, block):
        domain = hit.best_domain
        name = hit.name.decode() if isinstance(hit.name, bytes) else hit.name
        place = domain.alignment.target_from - 1, domain.alignment.target_to
        found.append((name, Hit(trace, is_reversed, 2 * hit.evalue, hit.score, *place)))  # two directions were tried
    return found


def _together(name: str, sequence: str, hits: list[Hit], n_traces: int, n_proteins: int) -> IdentifiedProtein:
    """The hits that make the protein likeliest, none of a trace or a place twice."""
    chosen: list[Hit] = []
    best, kept = math.inf, 0
    surprise = 0.0
    for hit in sorted(hits, key=lambda h: h.e_value):
        if any(hit.trace == c.trace or (hit.start < c.stop and c.start < hit.stop) for c in chosen):
            continue
        chosen.append(hit)
        surprise -= 2 * math.log(min(max(hit.e_value / n_proteins, 1e-300), 1.0))
        by_chance = chi2.sf(surprise, 2 * len(chosen)) * math.comb(n_traces, len(chosen)) * n_proteins
        if by_chance < best:
            best, kept = float(by_chance), len(chosen)
    return IdentifiedProtein(name, sequence, best, tuple(chosen[:kept]))
