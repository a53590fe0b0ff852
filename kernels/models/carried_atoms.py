"""All atoms of a model, carried by one place a residue: each residue turns as the places around it do."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.elastic_network import ElasticNetwork

_NEAR_ANGSTROM = 5.0
_STEADY = 1e-3
"""Weight of the orientation that a residue has had, for places on a line, which tell of no turn about it."""


def turns(network: ElasticNetwork, places_angstrom: Tensor) -> Tensor:
    """(node, 3, 3) rotations that lay the rest of each node's springs best on their places in a new conformation.

    Source
    ------
    Kabsch 1976, Acta Cryst. A32:922.
    """
    old, new = network.places_angstrom, places_angstrom.double()
    weight = torch.exp(-((network.length_angstrom / _NEAR_ANGSTROM) ** 2)) * torch.where(network.is_chain, 2.0, 1.0)
    before, after = old[network.second] - old[network.first], new[network.second] - new[network.first]
    outer = weight[:, None, None] * after[:, :, None] * before[:, None, :]
    total = torch.zeros(len(old), 3, 3, dtype=torch.float64)
    total.index_add_(0, network.first, outer)
    total.index_add_(0, network.second, outer)
    total = total + _STEADY * torch.eye(3, dtype=torch.float64)
    u, _, v = torch.linalg.svd(total)
    sign = torch.ones(len(old), 3, dtype=torch.float64)
    sign[:, 2] = torch.linalg.det(u @ v).sign()
    return u @ (sign[..., None] * v)


def carried(model: AtomicModel, network: ElasticNetwork, places_angstrom: Tensor) -> Tensor:
    """(atom, 3) where a model's atoms come to lie when its residues' places, at rest in the network, move.

    Differentiable with respect to the places as far as atoms move with their residue; turns are taken for given.
    """
    rotation = turns(network, places_angstrom.detach())[model.residue]
    arm = model.coordinates_angstrom.double() - network.places_angstrom[model.residue]
    return places_angstrom[model.residue] + torch.einsum("aij,aj->ai", rotation, arm)
