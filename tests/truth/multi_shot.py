"""Shifts of a session with a template of several shots, and how well two groupings agree."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def grid(n: int, spacing: float = 1.0) -> NDArray:
    """(place, yx) square grid of n by n holes around the middle, turned by 17°."""
    axis = (np.arange(n) - (n - 1) / 2) * spacing
    y, x = np.meshgrid(axis, axis, indexing="ij")
    cos, sin = np.cos(np.deg2rad(17)), np.sin(np.deg2rad(17))
    return np.stack([cos * y + sin * x, cos * x - sin * y], -1).reshape(-1, 2)


def ring(n: int, radius: float) -> NDArray:
    """(place, yx) places around a middle that has none."""
    angle = 2 * np.pi * np.arange(n) / n + 0.3
    return radius * np.stack([np.sin(angle), np.cos(angle)], -1)


def scattered(n: int, seed: int) -> NDArray:
    """(place, yx) places at random, at least 1 apart."""
    random = np.random.default_rng(seed)
    places: list[NDArray] = []
    while len(places) < n:
        place = random.uniform(0, 1.6 * np.sqrt(n), 2)
        if all(np.hypot(*(place - other)) >= 1 for other in places):
            places.append(place)
    return np.array(places)


def session(
    places: NDArray, n_visits: int, jitter: float, drift: float = 0.0, missed: float = 0.1, outliers: float = 0.0,
    is_jitter_of_visit: bool = False, seed: int = 5,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(exposure, yx) shifts in order of acquisition, and the (exposure,) true place of each, -1 for outliers.

    ``jitter`` is the standard deviation along each axis, of each shot or of a visit's shots together; ``drift`` the way
    of all places over the whole session, along a curve; ``missed`` and ``outliers`` are shares of the shots.
    """
    random = np.random.default_rng(seed)
    shifts, truth = [], []
    for visit in range(n_visits):
        t = visit / max(1, n_visits - 1)
        wander = drift * np.array([t, 0.3 * np.sin(5 * t)])
        together = random.normal(0, jitter, 2) if is_jitter_of_visit else np.zeros(2)
        for place in random.permutation(len(places)):
            if random.uniform() < missed:
                continue
            own = random.normal(0, 0.2 * jitter if is_jitter_of_visit else jitter, 2)
            is_outlier = random.uniform() < outliers
            away = random.uniform(-1, 1, 2) * (np.ptp(places) + 2) if is_outlier else np.zeros(2)
            shifts.append(places[place] + wander + together + own + away)
            truth.append(-1 if is_outlier else place)
    return torch.tensor(np.array(shifts)), torch.tensor(truth)


def adjusted_rand_index(first: Tensor, second: Tensor) -> float:
    """Agreement of two groupings: 1 where they are the same, 0 on average for random ones.

    Source
    ------
    Hubert & Arabie, J. Classification 1985, 2:193.
    """

    def pairs(counts: NDArray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    _, a = np.unique(np.asarray(first), return_inverse=True)
    _, b = np.unique(np.asarray(second), return_inverse=True)
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    together, of_first, of_second = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    expected = of_first * of_second / pairs(np.array([len(a)]))
    most = 0.5 * (of_first + of_second)
    return 1.0 if most == expected else (together - expected) / (most - expected)
