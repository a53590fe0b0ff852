"""The hand of a map, told from the helices that its Cα make: alpha helices of L-amino acids are right-handed.

A network that was trained on maps of the right hand finds Cα in a map of the wrong one nearly as well, for they stand
where the density bulges; the sense in which four of them wind is that of the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.internal_coordinates import dihedral_rad
from kernels.models.neighbours import nearest_first, pairs_within

_STEP_ANGSTROM = (3.2, 4.5)
"""From one Cα to the next; 3.8 Å with what a detection is off."""
_TWO_STEPS_ANGSTROM = (4.7, 6.3)
"""Over one between; 5.4 Å in a helix."""
_THREE_STEPS_ANGSTROM = (4.2, 6.2)
"""Over two between; 5.0 Å in a helix."""
_TWIST_DEG = (30.0, 75.0)
"""Dihedral of four successive Cα; 50 degrees in a helix."""
_LEAST_QUADS = 6.0
_CLEAR_SHARE = 0.7


@dataclass(frozen=True)
class HelixHand:
    """How many places wind to which side, each counted with the probability that its four Cα are there."""

    n_right: float
    n_left: float

    @property
    def share_left(self) -> float:
        """Of the places that wind to either side; 0.5 where there are none."""
        total = self.n_right + self.n_left
        return self.n_left / total if total > 0 else 0.5

    @property
    def is_told(self) -> bool:
        """Whether there are enough helices, and most wind to one side."""
        is_clear = max(self.share_left, 1 - self.share_left) >= _CLEAR_SHARE
        return is_clear and self.n_right + self.n_left >= _LEAST_QUADS

    @property
    def is_wrong(self) -> bool:
        """Whether the map is the mirror image of what was looked at."""
        return self.is_told and self.share_left > 0.5

    def __str__(self) -> str:
        total = self.n_right + self.n_left
        return f"{self.n_left:.0f} of {total:.0f} helical places wind to the left"


def helix_hand(alpha_angstrom: Tensor, confidence: Tensor) -> HelixHand:
    """How the helices of a map wind.

    Parameters
    ----------
    alpha_angstrom
        (n, 3) places of Cα, (z, y, x), in any order.
    confidence
        (n,) probability that a Cα is there.
    """
    at, weight = alpha_angstrom.double(), confidence.double()
    i, j, distance = pairs_within(at, at, _STEP_ANGSTROM[1])
    is_step = distance >= _STEP_ANGSTROM[0]
    partners, _ = nearest_first(i[is_step], j[is_step], distance[is_step], len(at))
    chains = torch.stack([i[is_step], j[is_step]], dim=-1)
    for spans in ((_TWO_STEPS_ANGSTROM,), (_TWO_STEPS_ANGSTROM, _THREE_STEPS_ANGSTROM)):
        chains = _extended(chains, partners, at, spans)
    # (z, y, x) is a left-handed frame for what is right-handed in (x, y, z)
    twist = torch.rad2deg(dihedral_rad(*at[chains].flip(-1).unbind(1)))
    sure = weight[chains].prod(-1)
    right, left = (
        float(sure[(side * twist > _TWIST_DEG[0]) & (side * twist < _TWIST_DEG[1])].sum()) / 2 for side in (1, -1)
    )
    return HelixHand(right, left)


def _extended(chains: Tensor, partners: Tensor, at: Tensor, spans: Sequence[tuple[float, float]]) -> Tensor:
    """Chains (chain, n) with every partner of their last place that lies as far from those before it as it should.

    ``spans`` are the least and largest distance from the place before the last, the one before that, and so on.
    """
    following = partners[chains[:, -1]]
    row, column = (following >= 0).nonzero().unbind(-1)
    longer = torch.cat([chains[row], following[row, column, None]], dim=-1)
    for back, (low, high) in enumerate(spans, start=3):
        span = (at[longer[:, -1]] - at[longer[:, -back]]).norm(dim=-1)
        longer = longer[(span >= low) & (span <= high)]
    return longer
