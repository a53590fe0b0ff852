"""Intervals of figures, and the table that shows them."""

import math

import pytest
import torch

from tests.benchmarks.estimates import Line, Section, estimate, share, single, table


def test_the_interval_of_a_share_is_that_of_the_binomial_distribution():
    n = 400
    found = share(torch.arange(n) < 0.3 * n)
    spread = 1.96 * 100 * math.sqrt(0.3 * 0.7 / n)
    assert found.value == pytest.approx(30)
    assert [found.low, found.high] == pytest.approx([30 - spread, 30 + spread], abs=0.6)  # 1,000 samples


def test_groups_that_differ_widen_the_interval():
    values = torch.tensor([0.0] * 100 + [1.0] * 100)
    as_groups = estimate(lambda chosen: float(values[chosen].mean()), [100, 100])
    assert as_groups.value == 0.5
    assert (as_groups.low, as_groups.high) == (0, 1)  # one sample in four holds one group alone


def test_samples_without_a_value_do_not_count():
    values = torch.tensor([math.nan, 3.0])
    found = estimate(lambda chosen: float(values[chosen].nanmean()), 2)
    assert (found.low, found.high) == (3, 3)


def test_a_line_says_whether_it_is_reached():
    lines = (
        Line("clashscore", "a map", single(7.0), reach=6, better="lower", digits=1),
        Line("favoured", "a map", share(torch.tensor([True, True])), "%", 97, digits=0),
    )
    told = table([Section("models", "How it is\nmeasured", lines, 12.3, 2_000_000_000)])
    assert "| clashscore | a map | 7.0 |  | ≤ 6 | missed |" in told
    assert "| favoured | a map | 100 % |  | ≥ 97 % | reached |" in told
    assert "| models | 12 | 2.00 |" in told
    assert told.endswith("- models. How it is measured")
