"""Tiles tell what the whole map would; votes for one place are one candidate; voxels of any size end in one frame."""

import pytest
import torch
from torch import nn

from kernels.maps.grid import DensityGrid
from kernels.networks.detection import detect, merged, resampled
from kernels.networks.residue_detector import ResidueDetector, normalised


class Lamp(nn.Module):
    """Stands in for a network: a Cα where the mean density of a cell is above 0.5, whose type is alanine."""

    def __init__(self) -> None:
        super().__init__()
        self.anything = nn.Parameter(torch.zeros(1))
        self.calibration = torch.tensor([[1.0, 0.0]] * 5)

    def forward(self, density):
        mean = nn.functional.avg_pool3d(density.float(), 2)
        channels = torch.zeros(len(density), 65, *mean.shape[2:])
        channels[:, :1] = 40 * (mean - 0.5)
        channels[:, 1 + 12 + 6] = 9.0
        channels[:, 1 + 12 + 6 + 20 + 3] = -20
        channels[:, -3:] = mean
        return channels


def blobs(shape, places, voxel_size):
    axes = [torch.arange(n) * voxel_size for n in shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    return torch.exp(-torch.cdist(grid.reshape(-1, 3), places).square() / (2 * 1.3**2)).sum(1).reshape(shape)


@pytest.mark.parametrize("voxel_size", [0.65, 1.0, 1.113, 1.4])
def test_candidates_stand_where_the_density_is(voxel_size):
    places = torch.tensor([[12.0, 30, 44], [40, 20, 18], [61, 70, 33], [20, 66, 60], [55.0, 48, 52]])
    shape = tuple(round(size / voxel_size) for size in (80, 90, 76))
    origin = torch.tensor([-20.0, 5.0, 100.0], dtype=torch.float64)
    found = detect(Lamp(), DensityGrid(blobs(shape, places, voxel_size), voxel_size, origin))
    distance = torch.cdist(found.protein.alpha_angstrom - origin, places.double())
    assert (distance.amin(0) < 1.74).all()  # half of a cell's diagonal, since nothing is told but cells
    assert (distance.amin(1) < 2.6).all()
    first = [found.protein.alpha_angstrom[distance[:, i] < 4].mean(0) - origin for i in range(len(places))]
    torch.testing.assert_close(torch.stack(first), places.double(), atol=0.7, rtol=0)
    assert (found.protein.amino_acid.argmax(-1) == 0).all()
    assert len(found.nucleic) == 0


def test_tiles_tell_what_a_single_one_does():
    """A map larger than a tile against the network's answer to all of it, apart from what a tile does not see."""
    torch.manual_seed(0)
    network = ResidueDetector(4, 8, 8, 8).eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm3d):
            nn.init.ones_(layer.weight)
    density = blobs((96, 40, 40), torch.rand(150, 3) * torch.tensor([96.0, 40, 40]), 1.0)
    found = detect(network, DensityGrid(density, 1.0, torch.zeros(3, dtype=torch.float64)))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        whole = network(normalised(density)[None, None])[0, -3:].permute(1, 2, 3, 0).float().sigmoid()
    assert found.content.shape == whole.shape
    difference = (found.content - whole).abs()
    assert difference.mean() < 0.1 * whole.std() + 0.02
    assert torch.equal(found.cell_angstrom[0, 0, 0], torch.full((3,), 0.5, dtype=torch.float64))


def test_the_surest_vote_takes_its_neighbours():
    positions = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [2.5, 0, 0], [9.0, 0, 0], [9.5, 0, 0]])
    probability = torch.tensor([0.6, 0.9, 0.5, 0.01, 0.7])
    votes = merged(positions, probability, 1.9)
    assert votes.best.tolist() == pytest.approx([0.9, 0.7])
    assert votes.group.tolist() == [0, 0, 0, -1, 1]
    x = votes.mean(positions)[:, 0]
    assert x.tolist() == pytest.approx([(0.9 + 0.5 * 2.5) / 2.0, 9.5])


def test_no_votes_make_no_candidates():
    votes = merged(torch.zeros(0, 3), torch.zeros(0), 2.0)
    assert len(votes.best) == 0 and len(votes.mean(torch.zeros(0, 3))) == 0


def test_resampled_density_keeps_its_values():
    density = blobs((60, 50, 40), torch.tensor([[17.0, 15, 12]]), 0.65)
    found, spacing = resampled(density, 0.65)
    assert ((spacing - 1).abs() < 0.005).all()
    peak = torch.tensor(torch.unravel_index(found.argmax(), found.shape)) * spacing
    assert (peak - torch.tensor([17.0, 15, 12])).abs().max() < 0.6
    assert float(found.max()) == pytest.approx(float(density.max()), rel=0.1)
