"""The choice of placements is the best one that has no conflicts, as trying all of them tells."""

import itertools

import pytest
import torch

from tasks.docking.choice import chosen


def best_by_trial(score, conflict, group, most):
    n, best, rows = len(score), 0.0, ()
    for size in range(n + 1):
        for some in itertools.combinations(range(n), size):
            if any(conflict[i, j] for i, j in itertools.combinations(some, 2)):
                continue
            if any(sum(int(group[i]) == g for i in some) > most[g] for g in range(len(most))):
                continue
            total = float(score[list(some)].sum())
            if total > best:
                best, rows = total, some
    return list(rows)


@pytest.mark.parametrize("seed", range(6))
def test_it_is_what_trying_everything_finds(seed):
    generator = torch.Generator().manual_seed(seed)
    score = torch.rand(9, generator=generator, dtype=torch.float64) * 10 - 1
    conflict = torch.rand(9, 9, generator=generator) < 0.25
    conflict = conflict | conflict.T
    group = torch.randint(2, (9,), generator=generator)
    most = torch.tensor([2.0, torch.inf])
    assert chosen(score, conflict, group, most).tolist() == best_by_trial(score, conflict, group, most.tolist())


def test_a_greedy_choice_would_be_worse():
    score = torch.tensor([5.0, 4.0, 4.0])
    conflict = torch.tensor([[False, True, True], [True, False, False], [True, False, False]])
    found = chosen(score, conflict, torch.zeros(3, dtype=torch.int64), torch.tensor([torch.inf]))
    assert found.tolist() == [1, 2]
    assert chosen(-score, conflict, torch.zeros(3, dtype=torch.int64), torch.tensor([torch.inf])).tolist() == []
