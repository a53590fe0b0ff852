"""Helices and strands as objects: from what is said of single residues to the elements of a fold.

A network judges each residue by itself. Along a chain its neighbours have their say: structure comes in stretches, so
the posterior of a Markov chain takes the place of the single answers, and each stretch becomes an element with an axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.models.secondary_structure import COIL, HELIX, STRAND

FOLLOWS = ((0.8974, 0.0064, 0.0962), (0.0147, 0.7243, 0.2610), (0.0888, 0.1400, 0.7712))
"""Probability of helix, strand and coil after helix, after strand and after coil, in the 457 structures that the
detection network is trained on (`secondary_structure.secondary_structure`)."""
SHARE = (0.3775, 0.2126, 0.4099)
"""Of residues in helix, strand and coil, in the same."""
LEAST_RESIDUES = {HELIX: 5, STRAND: 3}
"""Of an element; shorter ones are coil."""
_RISE_ANGSTROM = {HELIX: 1.5, STRAND: 3.3}
_BEND_OVER = {HELIX: 4, STRAND: 2}
"""Residues before and after a place between which an axis is to go straight on."""
_LEAST_COSINE = 0.5
"""Of the angle between the two, 60 degrees."""
_AVERAGED = {HELIX: 4, STRAND: 2}
"""Successive Cα whose mean lies on the axis."""


@dataclass(frozen=True)
class StructureElement:
    """A helix or a strand."""

    kind: int
    """`secondary_structure.HELIX` or ``STRAND``."""
    first: int
    """Its first residue."""
    n_residues: int
    start_angstrom: Tensor
    """(3,) end of its axis at the first residue."""
    end_angstrom: Tensor
    """(3,) end of its axis at the last residue."""
    probability: float
    """Mean of its residues' probability of this structure."""

    @property
    def length_angstrom(self) -> float:
        return float((self.end_angstrom - self.start_angstrom).norm())


def chain_posterior(probability: Tensor, is_linked: Tensor, sharpness: float = 1.0) -> Tensor:
    """Probability of each residue's structure, given what is said of all residues of its chain.

    Parameters
    ----------
    probability
        (residue, 3) of helix, strand and coil, each residue judged by itself.
    is_linked
        (residue,) whether the chain goes on from a residue to the next one in the list.
    sharpness
        Power of what is said of a residue: below 1 where neighbours are judged from the same density.

    Returns
    -------
    (residue, 3), float64. Forward and backward messages are products of 3 x 3 matrices, made by doubling.
    """
    n = len(probability)
    if n == 0:
        return probability.double()
    share = torch.tensor(SHARE, dtype=torch.float64, device=probability.device)
    said = (probability.double().clamp_min(1e-6) / share) ** sharpness
    follows = torch.tensor(FOLLOWS, dtype=torch.float64, device=probability.device)
    alone = share.expand(3, 3)
    step = torch.where(is_linked[:-1, None, None], follows, alone)  # (residue - 1, before, after)
    begin = torch.diag_embed(share)[None]
    forward = _products(torch.cat([begin, step]) * said[:, None, :])
    ahead = forward.sum(1)  # (residue, state)
    back = _products((step * said[1:, None, :]).flip(0).transpose(1, 2)).flip(0) if n > 1 else ahead[:0, None]
    behind = torch.cat([back.sum(1), ahead.new_ones(1, 3)])
    posterior = ahead * behind
    return posterior / posterior.sum(-1, keepdim=True)


def _products(matrices: Tensor) -> Tensor:
    """Products of the first 1, 2, ... of (n, 3, 3) matrices up to a factor, by doubling."""
    step = 1
    running = matrices / matrices.sum((1, 2), keepdim=True)
    while step < len(running):
        longer = running[:-step] @ running[step:]
        running = torch.cat([running[:step], longer / longer.sum((1, 2), keepdim=True)])
        step *= 2
    return running


def stretches(state: Tensor, is_linked: Tensor) -> list[tuple[int, int, int]]:
    """Runs of one structure along the chain that are long enough for an element: (kind, first, last residue)."""
    n = len(state)
    if n == 0:
        return []
    begins = torch.ones(n, dtype=torch.bool, device=state.device)
    begins[1:] = (state[1:] != state[:-1]) | ~is_linked[:-1]
    first = begins.nonzero().squeeze(-1)
    last = torch.cat([first[1:], first.new_tensor([n])]) - 1
    rows = torch.stack([state[first], first, last], dim=-1).tolist()
    return [(k, a, b) for k, a, b in rows if k != COIL and b - a + 1 >= LEAST_RESIDUES[k]]


def structure_elements(alpha_angstrom: Tensor, posterior: Tensor, is_linked: Tensor) -> list[StructureElement]:
    """Helices and strands of traced chains, in the order of their residues.

    Parameters
    ----------
    alpha_angstrom
        (residue, 3) Cα.
    posterior
        (residue, 3) of `chain_posterior`.
    is_linked
        (residue,) as there.
    """
    found = []
    for kind, begin, end in stretches(posterior.argmax(-1), is_linked):
        for first, last in _straight_parts(alpha_angstrom.double(), kind, begin, end):
            start, stop = _axis(alpha_angstrom[first : last + 1].double(), kind)
            sure = float(posterior[first : last + 1, kind].mean())
            found.append(StructureElement(kind, first, last - first + 1, start, stop, sure))
    return found


def _straight_parts(alpha: Tensor, kind: int, first: int, last: int) -> list[tuple[int, int]]:
    """Residues of a stretch, parted where its axis bends most, as long as that is too much for one element."""
    middle = alpha[first : last + 1].unfold(0, _AVERAGED[kind], 1).mean(-1)
    span = _BEND_OVER[kind]
    if len(middle) <= 2 * span:
        return [(first, last)]
    along = torch.nn.functional.normalize(middle[span:] - middle[:-span], dim=-1)
    cosine = (along[:-span] * along[span:]).sum(-1)
    worst = int(cosine.argmin())
    if cosine[worst] > _LEAST_COSINE:
        return [(first, last)]
    at = first + worst + span + _AVERAGED[kind] // 2
    parts = [(first, at - 1), (at, last)]
    return [part for a, b in parts if b - a + 1 >= LEAST_RESIDUES[kind] for part in _straight_parts(alpha, kind, a, b)]


def _axis(alpha: Tensor, kind: int) -> tuple[Tensor, Tensor]:
    """Ends of the line through the middles of successive Cα, as long as they reach."""
    width = _AVERAGED[kind]
    middle = alpha.unfold(0, width, 1).mean(-1) if len(alpha) > width else alpha
    centre = middle.mean(0)
    direction = torch.linalg.svd(middle - centre, full_matrices=False).Vh[0]
    direction = direction * torch.sign((alpha[-1] - alpha[0]) @ direction)
    half = _RISE_ANGSTROM[kind] * (len(alpha) - 1) / 2
    along = (alpha - centre) @ direction
    reach = torch.stack([along.min().clamp(min=-1.3 * half), along.max().clamp(max=1.3 * half)])
    return centre + reach[0] * direction, centre + reach[1] * direction
