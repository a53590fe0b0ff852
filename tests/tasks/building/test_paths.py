"""Paths through candidates are the best ones, and are paths."""

import itertools

import numpy as np
import pytest

from tasks.building.paths import Limit, as_paths, best_paths


def links(*rows: tuple[int, int, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.array([r[0] for r in rows]), np.array([r[1] for r in rows]), np.array([r[2] for r in rows])


def test_one_successor_and_one_predecessor():
    source, target, score = links((0, 1, 2.0), (0, 2, 3.0), (1, 2, 3.0), (3, 2, 1.0))
    used, chosen = best_paths(np.full(4, 0.1), source, target, score)
    assert chosen.tolist() == [True, False, True, False]
    assert used.all()
    assert as_paths(4, source[chosen], target[chosen]) == [[0, 1, 2], [3]]


def test_a_ring_is_opened_at_its_weakest_link():
    source, target, score = links((0, 1, 3.0), (1, 2, 1.0), (2, 0, 2.0))
    _, chosen = best_paths(np.zeros(3), source, target, score)
    assert chosen.tolist() == [True, False, True]


def test_of_two_close_candidates_the_better_linked_one_is_used():
    source, target, score = links((0, 1, 2.0), (1, 3, 2.0), (0, 2, 1.5), (2, 3, 1.5))
    used, chosen = best_paths(np.array([1.0, 0.2, 0.5, 1.0]), source, target, score, [Limit((1, 2))])
    assert used.tolist() == [True, True, False, True]
    assert chosen.tolist() == [True, True, False, False]


def test_a_link_lifts_the_ban_between_close_candidates():
    source, target, score = links((0, 1, 2.0))
    assert best_paths(np.ones(2), source, target, score, [Limit((0, 1), (0,))])[0].all()
    assert best_paths(np.ones(2), source[:0], target[:0], score[:0], [Limit((0, 1))])[0].sum() == 1


def test_a_bad_candidate_is_used_only_where_its_links_pay_for_it():
    source, target, score = links((0, 1, 2.0), (1, 2, 2.0))
    assert best_paths(np.array([1.0, -3.0, 1.0]), source, target, score)[0].all()
    assert best_paths(np.array([1.0, -5.0, 1.0]), source, target, score)[0].tolist() == [True, False, True]


@pytest.mark.parametrize("seed", range(3))
def test_the_paths_are_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    source, target = (np.array(v) for v in zip(*pairs))
    score, node = rng.normal(0.3, 1, len(pairs)), rng.normal(0, 1, 4)
    used, chosen = best_paths(node, source, target, score)
    best = -np.inf
    for order in itertools.permutations(range(4)):
        for cuts in itertools.product([False, True], repeat=3):
            runs = [[order[0]]]
            for node_index, cut in zip(order[1:], cuts):
                runs.append([node_index]) if cut else runs[-1].append(node_index)
            total = 0.0
            for run in runs:
                own = node[run].sum() + sum(score[pairs.index(p)] for p in itertools.pairwise(run))
                total += max(own, 0.0) if len(run) == 1 else own
            best = max(best, total)
    assert node[used].sum() + score[chosen].sum() == pytest.approx(best)


def test_paths_are_no_more_than_their_limit():
    source, target, score = links((0, 1, -1.0), (1, 2, -1.0))
    node = np.array([2.0, 0.5, 2.0])
    assert best_paths(node, source, target, score)[1].sum() == 0
    used, chosen = best_paths(node, source, target, score, [Limit((0, 1, 2), (0, 1), most=1)])
    assert used.all()
    assert chosen.all()


def test_nothing_has_no_paths():
    empty = np.zeros(0, dtype=int)
    used, chosen = best_paths(np.zeros(0), empty, empty, np.zeros(0))
    assert len(used) == len(chosen) == 0
