"""Stretches of a model that lie on the wrong part of its sequence: the shift that the density speaks for."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MOST_SHIFT = 4
_SHIFTS = torch.arange(-MOST_SHIFT, MOST_SHIFT + 1)
_SHORTEST, _BEYOND = 4, 24
"""Residues of the shortest stretch that is shifted, and how far beyond a doubtful region one may reach."""
_LEAST_OVERLAP = 0.4
"""Of a stretch that is shifted, what has to be doubtful."""
_PER_RESIDUE = 1e-3
"""Cost of a longer stretch, so that it holds nothing that stays what it is."""
_LIKELY_AROUND = 3
_NO_SHIFT_BONUS = 0.5


@dataclass(frozen=True)
class RegisterShift:
    """Residues from ``first`` to before ``end`` of a chain, to be laid on other positions of the sequence."""

    first: int
    end: int
    shift: int
    """New position less the one told by the residue's number."""
    gain: float
    """In natural logarithms, breaks of the register included."""


def present_shift(amino_acid: Tensor, letters: Tensor) -> Tensor:
    """(residue,) by how much the types around each residue are off the positions that their numbers tell.

    Parameters
    ----------
    amino_acid
        (residue,) of a stretch in a row.
    letters
        (residue, 2 · `MOST_SHIFT` + 1) type at each residue's position, shifted; -1 where there is none.
    """
    same = (letters == amino_acid[:, None]).double()
    kernel = torch.ones(1, 1, 2 * _LIKELY_AROUND + 1, dtype=torch.float64)
    around = torch.nn.functional.conv1d(same.T[:, None], kernel, padding=_LIKELY_AROUND)[:, 0].T
    around[:, MOST_SHIFT] += _NO_SHIFT_BONUS
    return _SHIFTS[around.argmax(1)]


def best_register_shift(
    evidence: Tensor, amino_acid: Tensor, letters: Tensor, is_doubtful: Tensor, break_cost: float
) -> RegisterShift | None:
    """The stretch about a doubtful region, and its shift, that gains most; None where none gains.

    Parameters
    ----------
    evidence
        (residue, 20) log-odds of each type at each residue of a chain without gaps; NaN where nothing is known.
    letters
        As for `present_shift`.
    is_doubtful
        (residue,) the region.
    break_cost
        What each change of the shift from one residue to the next costs, those that the model has included.
    """
    n = len(amino_acid)
    region = torch.nonzero(is_doubtful).squeeze(1)
    low, high = max(0, int(region[0]) - _BEYOND), min(n, int(region[-1]) + 1 + _BEYOND)
    known = evidence.nan_to_num(nan=0.0)
    own = known.gather(1, amino_acid.clamp(min=0)[:, None])
    gain = torch.where(letters >= 0, known.gather(1, letters.clamp(min=0)) - own, -math.inf)[low:high]
    now = present_shift(amino_acid, letters)
    total = torch.nn.functional.pad(gain.clamp(min=-1e3).cumsum(0), (0, 0, 1, 0))  # (border, shift)
    doubtful = torch.nn.functional.pad(is_doubtful[low:high].double().cumsum(0), (1, 0))
    borders = torch.arange(low, high + 1)
    length = borders[None] - borders[:, None]
    valid = (length >= _SHORTEST) & (doubtful[None] - doubtful[:, None] >= _LEAST_OVERLAP * length)
    broken = torch.nn.functional.pad((now[1:] != now[:-1]).double(), (2, 1)).cumsum(0)  # breaks before each border
    mended = broken[borders + 1][None] - broken[borders][:, None]
    outside = torch.stack([now[(borders - 1).clamp(min=0)], now[borders.clamp(max=n - 1)]])
    made = ((outside[..., None] != _SHIFTS) & torch.stack([borders > 0, borders < n])[..., None]).double()
    score = total[None] - total[:, None] - _PER_RESIDUE * length[..., None]  # (first, end, shift)
    score = score + break_cost * (mended[..., None] - made[0][:, None] - made[1][None])
    changed = (letters[low:high] != amino_acid[low:high, None]).double().cumsum(0)
    changed = torch.nn.functional.pad(changed, (0, 0, 1, 0))
    valid = valid[..., None] & (changed[None] - changed[:, None] >= 2)
    score = torch.where(valid, score, -math.inf)
    best = int(score.argmax())
    if not float(score.flatten()[best]) > 0:
        return None
    first, end, shift = (int(k) for k in torch.unravel_index(torch.tensor(best), score.shape))
    return RegisterShift(low + first, low + end, int(_SHIFTS[shift]), float(score[first, end, shift]))
