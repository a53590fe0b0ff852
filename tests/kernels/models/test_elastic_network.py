"""Networks move as springs do: by hand for a triangle, and two bodies on a stalk about that stalk."""

import math

import pytest
import torch

from kernels.models.carried_atoms import carried
from kernels.models.elastic_network import elastic_network, normal_modes, rigid_motions
from kernels.models.residue_places import places_of_residues
from kernels.rotations import from_rotation_vector
from tests.truth.cage_model import cage_subunit


def cloud(n: int, seed: int, middle: float) -> torch.Tensor:
    """Points of a body, some 3 Å apart, about a place on the last axis."""
    points = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    points = 6 * points / points.norm(dim=-1, keepdim=True).clamp(min=1)
    return points + torch.tensor([0.0, 0.0, middle], dtype=torch.float64)


def dumbbell() -> torch.Tensor:
    """Two bodies 40 Å apart and a stalk between them."""
    stalk = torch.zeros(6, 3, dtype=torch.float64)
    stalk[:, 2] = torch.linspace(-12, 12, 6, dtype=torch.float64)
    return torch.cat([cloud(40, 1, -20.0), stalk, cloud(40, 2, 20.0)])


def test_a_triangle_breathes_twice_as_stiffly_as_it_shears():
    side = 6.0
    places = side * torch.tensor([[0, 0, 0], [0, 0, 1], [0, math.sqrt(0.75), 0.5]], dtype=torch.float64)
    modes = normal_modes(elastic_network(places), 9)
    torch.testing.assert_close(modes.stiffness, torch.tensor([1.5, 1.5, 3.0], dtype=torch.float64))
    out_of_plane = modes.directions[:, :, 0]
    torch.testing.assert_close(out_of_plane, torch.zeros_like(out_of_plane), atol=1e-6, rtol=0)


def test_a_mode_costs_half_its_stiffness():
    network = elastic_network(dumbbell())
    modes = normal_modes(network, 20)
    small = 1e-3
    for direction, stiffness in zip(modes.directions[::5], modes.stiffness[::5]):
        energy = float(network.energies(network.places_angstrom + small * direction).sum())
        assert energy == pytest.approx(0.5 * float(stiffness) * small**2, rel=0.02, abs=1e-12)


def test_turning_the_whole_costs_nothing():
    network = elastic_network(dumbbell())
    turn = from_rotation_vector(torch.tensor([0.5, -0.8, 1.1], dtype=torch.float64))
    assert float(network.energies(network.places_angstrom @ turn.T + 7).sum()) < 1e-12


def test_modes_neither_move_nor_turn_the_whole_and_are_orthonormal():
    network = elastic_network(dumbbell())
    flat = torch.cat([rigid_motions(network.places_angstrom), normal_modes(network, 10).directions]).reshape(16, -1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(16, dtype=torch.float64), atol=1e-8, rtol=0)


def test_the_softest_modes_of_two_bodies_on_a_stalk_leave_each_body_as_it_is():
    network = elastic_network(dumbbell())
    body = (torch.arange(len(network.places_angstrom)) >= 46).long()
    stretch = network.places_angstrom[network.first] - network.places_angstrom[network.second]
    along = stretch / stretch.norm(dim=-1, keepdim=True)
    inside = (body[network.first] == body[network.second]) & (network.first >= 46)
    for direction in normal_modes(network, 3).directions:
        one, other = direction[:40], direction[46:]
        change = ((direction[network.first] - direction[network.second]) * along).sum(-1)
        assert float(change[inside].abs().max()) < 0.05 * float(other.norm(dim=-1).max())
        assert min(float(one.norm()), float(other.norm())) > 0.2


def test_blocks_of_residues_have_the_softest_modes_of_all_residues():
    places = places_of_residues(cage_subunit(120))
    network = elastic_network(places, torch.arange(120) < 119)
    exact = normal_modes(network, 10).directions.reshape(10, -1)
    blocked = normal_modes(network, 6, torch.arange(120) // 4).directions.reshape(6, -1)
    assert float((blocked @ exact.T).square().sum(1)[:3].min()) > 0.85


def test_what_the_engine_is_not_sure_of_is_softer():
    places, error = torch.cat([cloud(40, 1, -8.0), cloud(40, 2, 8.0)]), torch.ones(80, 80)
    error[:40, 40:] = error[40:, :40] = 25.0
    sure = normal_modes(elastic_network(places, error_angstrom=torch.ones(80, 80)), 1).stiffness
    unsure = normal_modes(elastic_network(places, error_angstrom=error), 1).stiffness
    assert 0 < float(unsure) < 0.2 * float(sure)


def test_atoms_turn_with_the_whole():
    model = cage_subunit(60)
    network = elastic_network(places_of_residues(model), model.is_linked())
    turn = from_rotation_vector(torch.tensor([1.5, 0.4, -2.0], dtype=torch.float64))
    there = carried(model, network, network.places_angstrom @ turn.T - 30)
    torch.testing.assert_close(there, model.coordinates_angstrom @ turn.T - 30, atol=0.02, rtol=0)
