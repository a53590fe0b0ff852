"""Atoms that a model lacks stand out by what they are worth, and noise by no more than chance."""

import pytest
import torch

from kernels.maps.grid import DensityGrid
from kernels.models.ligand_search import gains
from kernels.models.map_fit import model_density, soft_mask
from kernels.models.unexplained import atom_evidence, element_weight, half_of, unexplained
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps
from tests.truth.solvated import hetero

RESOLUTION = 2.5


@pytest.fixture(scope="module")
def pair():
    """A map of a protein with two carbons beside it, the protein alone, and where the carbons are."""
    protein = cage_subunit(30)
    place = protein.coordinates_angstrom
    low = place.amin(0)
    spots = torch.stack([low - torch.tensor([4.0, 0.3, 0.2]), low - torch.tensor([4.0, 0.3, -1.4])]).double()
    carbons = hetero("XYZ", ("C1", "C2"), ("C", "C"), spots, "X")
    from kernels.models.atomic_model import joined

    whole = joined([protein, carbons])
    maps = simulated_maps(whole, RESOLUTION, seed=3, own_b_factors=True)
    return maps, maps.model.take(torch.arange(len(protein))), spots


@pytest.fixture(scope="module")
def left(pair):
    maps, protein, _ = pair
    mean = maps.half_1.with_voxels((maps.half_1.voxels + maps.half_2.voxels) / 2)
    near = soft_mask(mean, protein)
    density = model_density(protein, mean)
    return unexplained(mean, density, near, RESOLUTION), half_of(
        unexplained(mean, density, near, RESOLUTION), maps.half_1, density, near
    )


def test_an_atom_that_is_there_has_the_share_of_one_and_nothing_has_none(pair, left):
    _, _, spots = pair
    evidence = atom_evidence(left[0], 40.0)
    gain, share = gains(evidence, spots[None], torch.ones(2))
    assert float(share) == pytest.approx(1.0, abs=0.15)
    empty, _ = gains(evidence, (spots - torch.tensor([3.0, 0, 0]))[None], torch.ones(2))
    assert float(gain) > 20 > 5 > float(empty)


def test_noise_has_a_standard_deviation_of_one(pair, left):
    maps, protein, spots = pair
    near = soft_mask(maps.half_1, protein) > 0.5
    for found in left:
        sigma = atom_evidence(found, 40.0).sigma()
        far = near & (torch.cdist(_places(sigma), spots).amin(1).reshape(near.shape) > 6)
        assert float(sigma.voxels[far].std()) == pytest.approx(1.0, abs=0.1)


def test_a_gain_is_the_drop_of_the_weighted_squares_when_the_atom_is_taken_away(pair, left):
    _, _, spots = pair
    found = left[0]
    evidence = atom_evidence(found, 40.0)
    atom = hetero("XYZ", ("C1",), ("C",), spots[:1], "X")
    after = found.without(model_density(atom, found.grid))
    index_gain = _minus_squares(after) - _minus_squares(found)
    support, own = float(evidence.at(spots[0])), evidence.own
    assert index_gain == pytest.approx(support - own / 2, rel=0.05)


def _minus_squares(found):
    from kernels import fourier

    shape = found.grid.voxels.shape
    index = fourier.shell_index(shape)
    inside = (fourier.frequency_length(shape, found.grid.voxel_size_angstrom) < 1 / RESOLUTION) & (index > 0)
    weights = fourier.hermitian_weights(shape).expand(index.shape)
    return -0.5 * float((found.difference.abs().square() * weights / found.noise_power[index])[inside].sum())


def _places(grid: DensityGrid) -> torch.Tensor:
    axes = [torch.arange(n) for n in grid.voxels.shape]
    return grid.to_angstrom(torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3))


def test_heavier_atoms_count_as_more_carbons():
    weights = [element_weight(e, 0, 3.0) for e in ("C", "S", "ZN", "I")]
    assert weights[0] == pytest.approx(1.0)
    assert weights == sorted(weights)
