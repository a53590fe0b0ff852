"""Side chains are seen in the frame of their backbone, wherever they stand, and two networks speak together."""

import math

import pytest
import torch
from torch import nn

from kernels.maps.grid import DensityGrid
from kernels.models.detections import ProteinDetections
from kernels.networks.side_chain_reader import (
    SIDE,
    STEP_ANGSTROM,
    SideChainReader,
    finer,
    side_chain_frames,
    surroundings,
)
from kernels.networks.side_chain_reading import read_side_chains, told_together, with_side_chains_read
from kernels.rotations import random_rotations
from tests.truth.peptides import helix


def bells(places, shape, sigma=1.0):
    axes = [torch.arange(n, dtype=torch.float32) for n in shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    return torch.exp(-torch.cdist(grid.reshape(-1, 3), places).square() / (2 * sigma**2)).sum(1).reshape(shape)


@pytest.fixture(scope="module")
def backbone():
    model = helix("AAAAAA")
    return model.positions("N", "CA", "C").float(), model.positions("CB")[:, 0].float()


def test_the_first_axis_points_at_the_beta_carbon(backbone):
    atoms, beta = backbone
    along, across, _ = side_chain_frames(atoms).unbind(1)
    bond = beta - atoms[:, 1]
    angle = torch.acos((bond / bond.norm(dim=-1, keepdim=True) * along).sum(-1))
    assert (angle < math.radians(6)).all()
    assert ((across * (atoms[:, 2] - atoms[:, 0])).sum(-1) > 1.0).all()


def test_frames_turn_with_the_molecule_and_keep_its_hand(backbone):
    atoms, _ = backbone
    frames = side_chain_frames(atoms)
    rotation = random_rotations(1, torch.Generator().manual_seed(3))[0].float()
    torch.testing.assert_close(side_chain_frames(atoms @ rotation.T), frames @ rotation.T, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(frames), torch.ones(len(frames)), atol=1e-5, rtol=0)
    mirrored = side_chain_frames(atoms * torch.tensor([-1.0, 1, 1]))
    assert (mirrored - frames * torch.tensor([-1.0, 1, 1])).abs().amax() > 0.1


def test_a_side_chain_is_seen_where_it_stands(backbone):
    """A bell 5 Å along the first axis, in any orientation, is brightest at that place of the cube."""
    atoms, _ = backbone
    for seed in range(4):
        rotation = random_rotations(1, torch.Generator().manual_seed(seed))[0].float()
        turned = (atoms[2] - atoms[2, 1]) @ rotation.T + torch.tensor([20.3, 23.9, 18.6])
        frame = side_chain_frames(turned)
        bell = turned[1] + 5.25 * frame[0] + 0.375 * frame[1] - 1.125 * frame[2]
        seen = surroundings(finer(bells(bell[None], (44, 44, 44))[None])[0], frame[None], turned[None, 1])[0]
        expected = (round((5.25 + 3) / STEP_ANGSTROM), 8, 6)
        assert tuple(int(i) for i in torch.unravel_index(seen.argmax(), seen.shape)) == expected
        assert 0.9 < float(seen.amax()) <= 1.01  # read between voxels of half an Å, along straight lines


class Brightest(nn.Module):
    """Stands in for a network: the amino acid of the number of the brightest layer."""

    def __init__(self) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))
        self.calibration = torch.tensor([1.0, 0.0])
        self.n_types = 20

    def forward(self, density):
        layers = density.float().amax((2, 3))
        return torch.nn.functional.pad(layers, (0, 20 - SIDE))


def test_residues_of_a_large_map_are_read_like_those_of_a_small_one(backbone):
    """Four residues far apart in a map of 0.8 Å voxels away from the origin, one of them half outside of it."""
    atoms, _ = backbone
    origin = torch.tensor([30.0, -12, 7], dtype=torch.float64)
    places = torch.tensor([[20.0, 20, 20], [39.5, 60, 41], [82, 22, 64], [3, 88, 70]])
    reach = torch.tensor([1.5, 3.0, 4.5, 2.25])
    residues, bright = [], []
    for place, far in zip(places, reach):
        moved = atoms[1] - atoms[1, 1] + place
        residues.append(moved)
        bright.append(moved[1] + far * side_chain_frames(moved)[0])
    grid = DensityGrid(bells(torch.stack(bright) / 0.8, (120, 120, 120), 1.2), 0.8, origin)
    logits = read_side_chains(Brightest(), grid, torch.stack(residues).double() + origin)
    assert logits.argmax(1).tolist() == [round((float(far) + 3) / STEP_ANGSTROM) for far in reach]


def test_candidates_keep_all_but_their_amino_acids(backbone):
    atoms, _ = backbone
    alpha = atoms[:1, 1].double() + 25
    offsets = torch.stack([atoms[0, 0] - atoms[0, 1], atoms[0, 2] - atoms[0, 1], torch.zeros(3)])[None]
    nothing = torch.zeros(1, 3)
    found = ProteinDetections(
        alpha, torch.ones(1), offsets, nothing, nothing, torch.full((1, 20), 0.05), torch.full((1, 3), 1 / 3)
    )
    bright = alpha + 3.0 * side_chain_frames(atoms[0])[0]
    grid = DensityGrid(bells(bright.float(), (50, 50, 50)), 1.0, torch.zeros(3, dtype=torch.float64))
    read = with_side_chains_read(Brightest(), grid, found)
    assert read.amino_acid.argmax(-1).tolist() == [8]
    assert read.amino_acid.sum(-1) == pytest.approx(1.0)
    assert read.alpha_angstrom is found.alpha_angstrom


def test_networks_count_as_much_as_their_weights_say():
    logits = torch.zeros(1, 20)
    logits[0, 3] = 2.0
    detected = torch.full((1, 20), 0.02)
    detected[0, 7] = 0.62
    alone = told_together(torch.tensor([1.0, 0.0]), logits, detected)
    torch.testing.assert_close(alone, logits.softmax(-1))
    torch.testing.assert_close(told_together(torch.tensor([0.0, 1.0]), logits, detected), detected)
    both = told_together(torch.tensor([1.0, 1.0]), logits, detected)
    assert both.topk(2).indices.tolist() == [[7, 3]]


def test_an_untrained_reader_answers_for_any_number_of_residues():
    reader = SideChainReader().eval()
    assert reader(torch.rand(3, SIDE, SIDE, SIDE)).shape == (3, 20)
