"""The Q-score is 1 for the Gaussian it looks for, does not mind scale, and agrees with MapQ."""

import gemmi
import numpy as np
import pytest
import torch

from kernels.maps.grid import DensityGrid
from kernels.models.mates import Mates
from kernels.models.q_score import expected_q_score, q_scores
from tasks.formats.map_file import read_map
from tasks.formats.structure import read_structure

VOXEL = 0.5


def gaussians(atoms: torch.Tensor, sigma: float, n: int = 32) -> DensityGrid:
    """The density at each voxel is that of the nearest atom."""
    grid = DensityGrid(torch.zeros(n, n, n), VOXEL, torch.tensor([-4.0, 1.0, 7.0], dtype=torch.float64))
    index = torch.cartesian_prod(*[torch.arange(n)] * 3)
    distance = torch.cdist(grid.to_angstrom(index), atoms).amin(1)
    return grid.with_voxels(torch.exp(-0.5 * (distance / sigma) ** 2).reshape(n, n, n).float())


@pytest.fixture
def atoms() -> torch.Tensor:
    """Three atoms in a row 1.5 Å apart, and one apart, none on a voxel."""
    return torch.tensor([[4.1, 9.0, 14.2], [4.1, 9.0, 15.7], [4.1, 9.0, 17.2], [0.3, 5.2, 11.9]], dtype=torch.float64)


def test_atoms_that_are_the_reference_gaussian_score_one(atoms):
    assert (q_scores(gaussians(atoms, 0.6), atoms) > 0.985).all()  # what is missing, linear interpolation costs


def test_blurred_atoms_score_less_the_more_they_are_blurred(atoms):
    scores = torch.stack([q_scores(gaussians(atoms, sigma), atoms) for sigma in (0.6, 0.9, 1.3, 2.5)])
    assert (scores.diff(dim=0) < 0).all()


def test_scale_and_offset_of_the_map_do_not_matter_and_its_sign_does(atoms):
    grid = gaussians(atoms, 0.8)
    expected = q_scores(grid, atoms)
    torch.testing.assert_close(q_scores(grid.with_voxels(5 * grid.voxels + 3), atoms), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(q_scores(grid.with_voxels(-grid.voxels), atoms), -expected, atol=1e-5, rtol=0)


def test_noise_scores_nothing_on_average():
    generator = torch.Generator().manual_seed(2)
    grid = DensityGrid(torch.randn(40, 40, 40, generator=generator), 1.0, torch.zeros(3, dtype=torch.float64))
    atoms = 5 + 30 * torch.rand(300, 3, generator=generator, dtype=torch.float64)
    scores = q_scores(grid, atoms)
    assert abs(float(scores.mean())) < 4 * float(scores.std()) / 300**0.5


def test_an_atom_without_density_around_it_scores_zero(atoms):
    outside = torch.cat([atoms, torch.tensor([[200.0, 200, 200]], dtype=torch.float64)])
    scores = q_scores(gaussians(atoms, 0.6), outside)
    assert scores[-1] == 0
    assert torch.equal(scores[:-1], q_scores(gaussians(atoms, 0.6), atoms))
    with pytest.raises(ValueError, match="the same everywhere"):
        q_scores(DensityGrid(torch.ones(4, 4, 4), 1.0, torch.zeros(3)), atoms)


def test_no_atoms_have_no_scores(atoms):
    assert q_scores(gaussians(atoms, 0.6), atoms[:0]).shape == (0,)


def test_atoms_of_copies_take_points_away_like_those_of_the_model(atoms):
    grid = gaussians(torch.cat([atoms, atoms + 1.0]), 0.8)
    mates = Mates.about("D2", grid)
    near = mates.centre_angstrom + torch.tensor([[0.9, 1.1, 0.7], [2.0, 0.3, 1.9]], dtype=torch.float64)
    everywhere = mates.of(near).reshape(-1, 3)
    torch.testing.assert_close(q_scores(grid, near, mates=mates), q_scores(grid, everywhere)[:2])
    assert (q_scores(grid, near, mates=mates) - q_scores(grid, near)).abs().max() > 1e-3
    on_axis = mates.centre_angstrom[None]
    torch.testing.assert_close(q_scores(grid, on_axis, mates=mates), q_scores(grid, on_axis))


def test_expected_scores_are_those_of_the_program_that_fitted_them():
    found = expected_q_score(torch.tensor([3.9, 3.0]), torch.tensor([False, True]))
    assert found.tolist() == pytest.approx([0.4270, 0.5842], abs=1e-4)


def test_scores_of_a_real_map_are_those_of_the_reference(real_data):
    """Reference: MapQ on the 3.9 Å integrin map, 4308 atoms."""
    folder = real_data / "maps" / "EMD-30342_integrin_3.9A"
    path = folder / "390_7cec_A__Q__390_emd_30342_A_z4.cif"
    table = gemmi.cif.read(str(path))[0].find("_atom_site.", ["Q_score"])
    reference = np.array([float(row[0]) for row in table])
    found = q_scores(read_map(folder / "390_emd_30342_A_z4.mrc"), read_structure(path).coordinates_angstrom).numpy()
    assert len(found) == len(reference)
    assert np.corrcoef(found, reference)[0, 1] > 0.99
    assert abs((found - reference).mean()) < 0.01
