"""Alignments of traces with sequences, against all of them written out."""

import itertools
import math

import pytest
import torch

from kernels.models.polymers import PROTEIN
from kernels.models.threading import (
    MOVES,
    UNKNOWN,
    GapCosts,
    alignment_log_sums,
    best_alignments,
    best_scores,
    column_scores,
    extreme_value_p,
    profile_log_odds,
    sequence_text,
)

N_ROWS, N_COLUMNS = 4, 7


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(3)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    costs = GapCosts(normal(N_ROWS, len(MOVES)) - 1, normal(N_ROWS, N_COLUMNS), normal(N_ROWS))
    return normal(N_ROWS, N_COLUMNS), costs


def every_alignment(scores, costs):
    found = []

    def extended(pairs, score):
        row, column = pairs[-1]
        found.append((tuple(pairs), score + float(costs.end[row])))
        for k, (invented, lost) in enumerate(MOVES):
            i, j = row + 1 + invented, column + 1 + lost
            if i < N_ROWS and j < N_COLUMNS:
                extended([*pairs, (i, j)], score + float(costs.move[i, k]) + float(scores[i, j]))

    for i, j in itertools.product(range(N_ROWS), range(N_COLUMNS)):
        extended([(i, j)], float(costs.begin[i, j]) + float(scores[i, j]))
    return found


def test_sums_are_those_of_every_alignment(problem):
    everything = every_alignment(*problem)
    sums, total = alignment_log_sums(*problem)
    assert float(total) == pytest.approx(math.log(sum(math.exp(s) for _, s in everything)))
    for pair in itertools.product(range(N_ROWS), range(N_COLUMNS)):
        expected = math.log(sum(math.exp(s) for pairs, s in everything if pair in pairs))
        assert float(sums[pair]) == pytest.approx(expected)


def test_the_best_alignment_is_the_best_of_all(problem):
    pairs, score = max(every_alignment(*problem), key=lambda found: found[1])
    best = best_alignments(*problem, 5)
    assert best[0].score == pytest.approx(score)
    assert tuple(zip(best[0].row.tolist(), best[0].column.tolist())) == pairs
    used = [pair for a in best for pair in zip(a.row.tolist(), a.column.tolist())]
    assert len(set(used)) == len(used)


def test_the_best_scores_of_parts_are_those_of_each_alone():
    generator = torch.Generator().manual_seed(2)
    log_odds = torch.randn(9, 20, generator=generator)
    texts = [sequence_text([torch.randint(20, (15,), generator=generator)])[0] for _ in range(3)]
    costs = GapCosts(torch.full((9, len(MOVES)), -2.0), torch.zeros(9, 1), torch.zeros(9))
    found = best_scores(log_odds, torch.cat(texts), costs, 3)
    for text, score in zip(texts, found.tolist()):
        assert best_alignments(column_scores(log_odds, text), costs, 1)[0].score == pytest.approx(score)


def test_no_alignment_leads_from_one_sequence_into_the_next():
    text, owner, position = sequence_text([torch.full((6,), 3), torch.full((6,), 3)])
    log_odds = torch.zeros(12, 20)
    log_odds[:, 3] = 2.0
    costs = GapCosts(torch.zeros(12, len(MOVES)), torch.zeros(12, 1), torch.zeros(12))
    for alignment in best_alignments(column_scores(log_odds, text), costs, 4):
        assert len(set(owner[alignment.column].tolist())) == 1
        assert (owner[alignment.column] >= 0).all()
        assert (position[alignment.column].diff() > 0).all()


def test_residues_that_are_not_trusted_and_types_that_are_not_known_say_nothing():
    profile = torch.softmax(torch.randn(5, 20, generator=torch.Generator().manual_seed(0)), 1)
    assert profile_log_odds(profile, torch.zeros(5), 1.0).abs().max() < 1e-6
    scores = column_scores(profile_log_odds(profile, torch.ones(5), 1.0), torch.tensor([UNKNOWN, 4]))
    assert (scores[:, 0] == 0).all()
    assert torch.allclose(scores[:, 1], torch.log(profile[:, 4] / PROTEIN.background[4]).double(), atol=1e-5)


def test_p_values_of_chance_are_even():
    generator = torch.Generator().manual_seed(1)
    uniform = torch.rand(4000, generator=generator, dtype=torch.float64).clamp(1e-9, 1 - 1e-9)
    gumbel = 5.0 - 1.3 * torch.log(-torch.log(uniform))
    p = torch.tensor([extreme_value_p(float(s), gumbel) for s in gumbel])
    for level in (0.01, 0.1, 0.5):
        assert float((p < level).double().mean()) == pytest.approx(level, rel=0.3)
