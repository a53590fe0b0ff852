"""Elastic network of a structure: springs between residues that are near each other, and its slowest motions."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.models.neighbours import pairs_within

_REACH_ANGSTROM = 12.0
_UNIT_ANGSTROM = 6.0
"""A spring of this length has a strength of 1; it falls with the square of its length."""
_CHAIN_STRENGTH = 10.0
_ALONG_CHAIN = 3
"""Residues so near in sequence are held by the chain itself: their springs are strong and never give way."""
_YIELD_ANGSTROM = 2.0
"""By which a contact of two parts of the fold is stretched where it begins to give way."""
_SURE_ANGSTROM = 4.0
"""Predicted error of two residues to each other at which their spring is half as strong."""
_MOST_UNKNOWNS = 900
"""Of the matrix whose eigenvectors are looked for; larger networks move in rigid blocks."""
_STILL = 1e-6
"""Of the largest moment of a block: about an axis of less nothing turns."""


@dataclass(frozen=True, eq=False)
class ElasticNetwork:
    """Springs at rest in one conformation."""

    places_angstrom: Tensor
    """(node, 3) float64"""
    first: Tensor
    """(spring,) node at one end"""
    second: Tensor
    """(spring,) node at the other end, a later one"""
    length_angstrom: Tensor
    """(spring,) at rest"""
    strength: Tensor
    """(spring,) 1/Å²"""
    is_chain: Tensor
    """(spring,) whether the chain itself holds it"""

    def energies(self, places_angstrom: Tensor) -> Tensor:
        """(spring,) of another conformation (node, 3): quadratic, and of contacts that break no more than a limit."""
        stretch = self._stretch(places_angstrom).square()
        given = torch.where(self.is_chain, stretch, stretch / (1 + stretch / _YIELD_ANGSTROM**2))
        return 0.5 * self.strength * given

    def strain_angstrom(self, places_angstrom: Tensor) -> Tensor:
        """(node,) root mean square change of the lengths of its springs."""
        squared = self._stretch(places_angstrom).square()
        total = torch.zeros(len(self.places_angstrom), dtype=squared.dtype)
        count = torch.zeros_like(total)
        for end in (self.first, self.second):
            total.index_add_(0, end, squared)
            count.index_add_(0, end, torch.ones_like(squared))
        return (total / count.clamp(min=1)).sqrt()

    def at(self, places_angstrom: Tensor) -> ElasticNetwork:
        """The same springs at rest in another conformation."""
        length = (places_angstrom[self.first] - places_angstrom[self.second]).norm(dim=-1)
        return replace(self, places_angstrom=places_angstrom, length_angstrom=length)

    def _stretch(self, places: Tensor) -> Tensor:
        apart = places[self.first] - places[self.second]
        return apart.square().sum(-1).clamp(min=1e-6).sqrt() - self.length_angstrom


def elastic_network(
    places_angstrom: Tensor, is_linked: Tensor | None = None, error_angstrom: Tensor | None = None
) -> ElasticNetwork:
    """Springs between all nodes within 12 Å, the strongest between those that follow each other along a chain.

    Parameters
    ----------
    places_angstrom
        (node, 3) of one atom a residue, Cα or C4'.
    is_linked
        (node,) whether the next node follows along the chain; none does when None.
    error_angstrom
        (node, node) predicted aligned error: what the engine is not sure of is held less.

    Source
    ------
    Atilgan et al. 2001, Biophys. J. 80:505 (anisotropic network); Yang, Song & Jernigan 2009, PNAS 106:12347 (strength
    by distance); Orellana et al. 2010, J. Chem. Theory Comput. 6:2910 (stronger springs along the chain).
    """
    places = places_angstrom.double()
    i, j, distance = pairs_within(places, places, _REACH_ANGSTROM)
    once = i < j
    i, j, distance = i[once], j[once], distance[once]
    linked = torch.zeros(len(places), dtype=torch.bool) if is_linked is None else is_linked
    stretch = torch.cat([torch.zeros(1, dtype=torch.int64), (~linked).long().cumsum(0)[:-1]])
    is_chain = (stretch[i] == stretch[j]) & (j - i <= _ALONG_CHAIN)
    strength = (_UNIT_ANGSTROM / distance.clamp(min=1.0)) ** 2 * torch.where(is_chain, _CHAIN_STRENGTH, 1.0)
    if error_angstrom is not None:
        error = ((error_angstrom[i, j] + error_angstrom[j, i]) / 2).double()
        strength = torch.where(is_chain, strength, strength / (1 + (error / _SURE_ANGSTROM) ** 2))
    return ElasticNetwork(places, i, j, distance, strength, is_chain)


@dataclass(frozen=True, eq=False)
class NormalModes:
    """Motions of a network, the softest first; none of them moves or turns the whole."""

    directions: Tensor
    """(mode, node, 3) orthonormal"""
    stiffness: Tensor
    """(mode,) 1/Å²; twice the energy of one unit of the direction"""


def normal_modes(network: ElasticNetwork, n_modes: int, block: Tensor | None = None) -> NormalModes:
    """The softest motions of a network about its rest.

    Parameters
    ----------
    block
        (node,) number of the rigid block that each node belongs to; of networks of more than 300 nodes, as many nodes
        that follow each other as the eigenvectors allow, each node by itself otherwise.

    Memory: 72 bytes a pair of blocks and 16 bytes a pair of unknowns.

    Source
    ------
    Tama et al. 2000, Proteins 41:1 (rotations and translations of blocks).
    """
    places = network.places_angstrom
    n = len(places)
    if block is None:
        per_block = 1 if 3 * n <= _MOST_UNKNOWNS else math.ceil(6 * n / _MOST_UNKNOWNS)
        block = torch.arange(n) // per_block
    motion, is_still = _motions_of_blocks(places, block)
    n_blocks = len(motion)
    step = places[network.first] - places[network.second]
    along = step / step.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    # how the length of each spring changes with the motions of the blocks at its two ends
    moved = _of_nodes(motion, places, block)
    one = torch.einsum("smd,sd->sm", moved[network.first], along)
    other = -torch.einsum("smd,sd->sm", moved[network.second], along)
    a, b = block[network.first], block[network.second]
    pairs = torch.zeros(n_blocks * n_blocks, 6, 6, dtype=torch.float64)
    for x, m in ((a, one), (b, other)):
        for y, k in ((a, one), (b, other)):
            pairs.index_add_(0, x * n_blocks + y, network.strength[:, None, None] * m[:, :, None] * k[:, None, :])
    hessian = pairs.reshape(n_blocks, n_blocks, 6, 6).permute(0, 2, 1, 3).reshape(6 * n_blocks, 6 * n_blocks)
    moving = ~is_still.reshape(-1)
    basis = torch.zeros(6 * n_blocks, n * 3, dtype=torch.float64)
    basis.reshape(n_blocks, 6, n, 3)[block, :, torch.arange(n)] = moved
    basis, hessian = basis[moving], hessian[moving][:, moving]
    whole = basis @ rigid_motions(places).reshape(6, -1).T
    # rigid motions are made stiff, so that they come last
    stiff = 2 * float(hessian.diagonal().sum()) + 1.0
    values, vectors = torch.linalg.eigh(hessian + stiff * whole @ whole.T)
    n_kept = min(n_modes, max(0, len(values) - 6))
    directions = vectors[:, :n_kept].T @ basis
    return NormalModes(directions.reshape(n_kept, n, 3), values[:n_kept].clamp(min=0))


def rigid_motions(places_angstrom: Tensor) -> Tensor:
    """(6, node, 3) orthonormal: the whole along z, y and x, and turned about three axes; zero where none turns."""
    places, block = places_angstrom.double(), torch.zeros(len(places_angstrom), dtype=torch.int64)
    motion, _ = _motions_of_blocks(places, block)
    return _of_nodes(motion, places, block).permute(1, 0, 2)


def _motions_of_blocks(places: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
    """(block, 6, 9) motions as velocity, rotation, and the centre that it is about; (block, 6) which move nothing."""
    n_blocks = int(block.max()) + 1
    count = torch.bincount(block, minlength=n_blocks).double()
    centre = torch.zeros(n_blocks, 3, dtype=torch.float64).index_add_(0, block, places) / count[:, None]
    arm = places - centre[block]
    outer = torch.zeros(n_blocks, 3, 3, dtype=torch.float64)
    outer.index_add_(0, block, arm[:, :, None] * arm[:, None, :])
    inertia = outer.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None] * torch.eye(3, dtype=torch.float64) - outer
    moments, axes = torch.linalg.eigh(inertia)
    is_still = moments <= _STILL * moments.amax(-1, keepdim=True).clamp(min=1.0)
    turn = axes.transpose(1, 2) / moments.clamp(min=1e-12).sqrt()[..., None]
    turn = torch.where(is_still[..., None], 0.0, turn)
    motion = torch.zeros(n_blocks, 6, 9, dtype=torch.float64)
    motion[:, :3, :3] = torch.eye(3, dtype=torch.float64) / count.sqrt()[:, None, None]
    motion[:, 3:, 3:6] = turn
    motion[..., 6:] = centre[:, None]
    return motion, torch.cat([torch.zeros_like(is_still), is_still], dim=1)


def _of_nodes(motion: Tensor, places: Tensor, block: Tensor) -> Tensor:
    """(node, 6, 3) how the motions of its block move each node."""
    of_block = motion[block]
    arm = places[:, None] - of_block[..., 6:]
    return of_block[..., :3] + torch.linalg.cross(of_block[..., 3:6], arm)
