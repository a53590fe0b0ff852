"""Copies by symmetry: their operations, who stands near whom, and clashes between them."""

import pytest
import torch
from torch.testing import assert_close

from kernels.fourier import low_passed
from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import joined
from kernels.models.clashes import find_clashes
from kernels.models.map_likelihood import map_likelihood
from kernels.models.mates import Mates, copies, neighbourhood
from kernels.models.real_space import Weights, energies
from kernels.rotations import symmetry_group
from kernels.specimen.potential import deposit
from tests.truth.ideal_proteins import STRAND_DEG, ideal_protein
from tests.truth.symmetric_maps import about_axis


@pytest.mark.parametrize("symmetry", ["C1", "C5", "D3", "T", "O", "I"])
def test_products_and_inverses_are_those_of_the_matrices(symmetry):
    mates = Mates(symmetry_group(symmetry), torch.zeros(3, dtype=torch.float64))
    for a in range(0, len(mates), 7):
        for b in range(0, len(mates), 5):
            assert_close(mates.rotation[mates.product[a, b]], mates.rotation[a] @ mates.rotation[b], atol=1e-6, rtol=0)
        assert_close(mates.rotation[mates.inverse[a]], mates.rotation[a].T, atol=1e-6, rtol=0)


def test_axes_meet_in_the_middle_voxel_of_a_box():
    grid = DensityGrid(torch.zeros(8, 9, 10), 1.5, torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64))
    mates = Mates.about("D2", grid)
    assert_close(mates.centre_angstrom, torch.tensor([9.0, 4.0, 8.0], dtype=torch.float64))
    place = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    assert_close(mates.of(place).mean(0)[0], mates.centre_angstrom)  # copies lie around the centre
    each = mates.moved(torch.arange(4), place.expand(4, 3))
    assert_close(each, mates.of(place)[:, 0])


def strands_at(distance_angstrom: float) -> tuple:
    """A strand whose outermost atom has this distance from its own copy by a twofold axis along z."""
    strand = ideal_protein("AVKTA", STRAND_DEG)
    place = strand.coordinates_angstrom - strand.coordinates_angstrom.mean(0)
    near = place[place[:, 2].argmin()]
    shift = torch.stack([near[0] * 0, -near[1], distance_angstrom / 2 - near[2]])
    return strand.at(place + shift), Mates(symmetry_group("C2"), torch.zeros(3, dtype=torch.float64))


def test_clashes_with_a_mate_are_half_of_those_that_both_copies_have():
    strand, mates = strands_at(1.5)
    whole = find_clashes(joined(copies(strand, mates)))
    alone, found = find_clashes(strand), find_clashes(strand, mates)
    of_both = len(whole.overlap_angstrom) - 2 * len(alone.overlap_angstrom)
    own_pair = (found.atom[:, 0] == found.atom[:, 1]).sum()  # an atom and its own copy meet once, not twice
    assert of_both > 0
    assert of_both <= 2 * (len(found.overlap_angstrom) - len(alone.overlap_angstrom)) <= of_both + own_pair
    assert found.n_atoms == alone.n_atoms
    far, mates = strands_at(12.0)
    assert len(find_clashes(far, mates).overlap_angstrom) == len(find_clashes(far).overlap_angstrom)


def test_a_neighbourhood_begins_with_the_model_and_names_what_its_copies_are_of():
    strand, mates = strands_at(3.0)
    found = neighbourhood(strand, mates, 6.0)
    n = len(strand)
    assert len(found.model) > n
    assert_close(found.model.coordinates_angstrom[:n], strand.coordinates_angstrom)
    copied = mates.of(strand.coordinates_angstrom)[1, found.atom[n:]]
    assert_close(found.model.coordinates_angstrom[n:], copied)


def test_crowding_with_mates_is_that_of_the_whole_shared_by_its_copies():
    strand, mates = strands_at(2.0)
    grid = DensityGrid(torch.rand(48, 48, 48), 1.0, torch.full((3,), -24.0, dtype=torch.float64))

    def room(model, mates=None):  # every energy but that of density knows nothing of the map
        return energies(model, map_likelihood(grid, model, 3.0), Weights(), mates=mates)["room"]

    alone, shared = room(strand), room(strand, mates)
    whole = joined(copies(strand, mates))
    assert shared > alone + 1
    assert shared == pytest.approx(room(whole) / 2, rel=1e-6)


def test_a_map_shared_by_copies_is_as_likely_as_that_of_the_whole():
    strand, mates = strands_at(2.0)
    whole = joined(copies(strand, mates))
    grid = DensityGrid(torch.zeros(48, 48, 48), 1.0, torch.full((3,), -24.0, dtype=torch.float64))
    shown = deposit(grid.to_voxels(whole.coordinates_angstrom).float(), torch.ones(len(whole)), (48, 48, 48))
    noise = 0.02 * torch.randn(48, 48, 48, generator=torch.Generator().manual_seed(2))
    noise = noise + noise.flip(1, 2).roll((1, 1), (1, 2))  # about voxel n // 2
    grid = grid.with_voxels(low_passed(shown + noise, 1.0, 3.0))
    likelihood = map_likelihood(grid, whole, 3.0)
    shared = energies(strand, likelihood.of(strand), Weights(), mates=mates)["density"]
    alone = energies(strand, likelihood.of(strand), Weights())["density"]
    assert shared == pytest.approx(energies(whole, likelihood, Weights())["density"] / 2, rel=1e-3)
    assert shared > alone + 0.5  # what both copies add to one place is counted once


def test_units_of_the_simulated_dimer_do_not_run_into_each_other():
    unit, mates = about_axis("C2", 40, 14.0)
    assert find_clashes(unit, mates).score < find_clashes(unit).score + 8
