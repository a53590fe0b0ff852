"""Potentials of atoms against the scattering factors they come from."""

import math

import pytest
import torch
from torch.testing import assert_close

from kernels import fourier
from kernels.specimen.potential import (
    DISPLACED_VOLUME_ANGSTROM3,
    PENG_COEFFICIENTS,
    VOLT_ANGSTROM3_PER_ANGSTROM,
    Atoms,
    atomic_potential,
    density_map,
    deposit,
    scattering_factor,
    water_potential_volts,
)


def atoms_at(*coordinates: tuple[float, float, float], element: str = "C", n_hydrogens: int = 0, b: float = 20.0):
    n = len(coordinates)
    return Atoms(torch.tensor(coordinates), (element,) * n, torch.full((n,), n_hydrogens), b)


def test_forward_scattering_is_that_of_neutral_atoms():
    # f(0) in Å: Doyle & Turner, Acta Cryst. 1968, A24:390, table 2
    for element, expected in (("H", 0.529), ("C", 2.509), ("N", 2.211), ("O", 1.983), ("P", 5.488), ("S", 5.161)):
        assert float(scattering_factor(element, torch.zeros(1))) == pytest.approx(expected, rel=0.01)


def test_far_out_scattering_approaches_rutherford():
    # f -> Z / (8 pi² a0 s²) for s beyond the reach of the electrons (Mott-Bethe), s = 1 / 2d
    s = 1.9
    for element, number in (("C", 6), ("N", 7), ("O", 8)):
        rutherford = number / (8 * math.pi**2 * 0.529177 * s**2)
        assert float(scattering_factor(element, torch.tensor(2 * s))) == pytest.approx(rutherford, rel=0.25)


def test_ice_has_the_mean_inner_potential_of_isolated_water():
    # 4.5 to 4.9 V for neutral atoms (Vulovic et al., J. Struct. Biol. 2013, 183:19: 4.5 V at 0.93 g/cm³)
    assert 4.4 < water_potential_volts() < 4.9


def test_the_integral_of_a_map_is_the_sum_of_forward_scattering():
    atoms = Atoms(
        torch.tensor([[1.0, -3.3, 2.2], [4.1, 0.2, -5.5], [-6.0, 3.0, 0.7]]), ("C", "N", "S"), torch.tensor([2, 1, 0])
    )
    expected = sum(sum(PENG_COEFFICIENTS[e][0]) for e in ("C", "N", "S", "H", "H", "H")) * VOLT_ANGSTROM3_PER_ANGSTROM
    total = density_map(atoms, 32, 1.1, is_in_ice=False).sum() * 1.1**3
    assert float(total) == pytest.approx(expected, rel=1e-4)
    displaced = sum(DISPLACED_VOLUME_ANGSTROM3[e] for e in ("C", "N", "S", "H", "H", "H")) * water_potential_volts()
    in_ice = density_map(atoms, 32, 1.1).sum() * 1.1**3
    assert float(in_ice) == pytest.approx(expected - displaced, rel=1e-3)


def test_an_atom_is_the_sum_of_gaussians_of_its_scattering_factor():
    n, pixel_size, b = 48, 0.6, 40.0
    where = torch.tensor([0.3, -1.1, 2.05])
    volume = density_map(atoms_at(tuple(where.tolist()), element="O", b=b), n, pixel_size, is_in_ice=False)
    axis = (torch.arange(n) - n // 2) * pixel_size
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    squared = ((points - where) ** 2).sum(-1)
    expected = torch.zeros_like(volume)
    for a, width in zip(*PENG_COEFFICIENTS["O"]):
        total = width + b
        expected += a * (4 * math.pi / total) ** 1.5 * torch.exp(-4 * math.pi**2 * squared / total)
    expected *= VOLT_ANGSTROM3_PER_ANGSTROM
    # 0.6 Å pixels cut the sharpest Gaussians off at 1.2 Å
    assert_close(volume, expected, atol=0.01 * float(expected.max()), rtol=0)


def test_protein_is_denser_than_the_ice_it_displaces():
    zero = torch.zeros(1)
    mean_residue = [("C", 5.0), ("N", 1.35), ("O", 1.5), ("H", 7.8)]
    contrast = sum(n * float(atomic_potential(e, zero, 0.0, is_in_ice=True)) for e, n in mean_residue)
    volume = sum(n * DISPLACED_VOLUME_ANGSTROM3[e] for e, n in mean_residue)
    assert volume == pytest.approx(110 * 1.21, rel=0.06)  # 110 Da of partial specific volume 0.73 cm³/g
    assert 2.5 < contrast / volume < 4.0  # V above ice


def test_points_are_deposited_where_they_are_and_whole():
    points = torch.tensor([[3.25, 8.5], [11.9, 0.1]])  # the second one reaches over two edges
    grid = deposit(points, torch.tensor([2.0, 0.5]), (12, 16))
    assert float(grid.sum()) == pytest.approx(2.5)
    alone = deposit(points[:1], torch.ones(1), (12, 16))
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij")
    assert_close(torch.stack([(alone * rows).sum(), (alone * columns).sum()]), points[0])


def test_a_batch_of_deposits_is_the_loop_over_its_members():
    generator = torch.Generator().manual_seed(5)
    points = torch.rand(3, 7, 3, generator=generator) * 9
    weights = torch.rand(7, generator=generator)
    batch = deposit(points, weights, (9, 10, 12))
    assert_close(batch, torch.stack([deposit(p, weights, (9, 10, 12)) for p in points]))


def test_hydrogens_smear_around_the_atom_that_carries_them():
    grid = fourier.frequency_length((32, 32, 32), 1.0)
    carried = fourier.transform(density_map(atoms_at((0, 0, 0), n_hydrogens=3), 32, 1.0, is_in_ice=False), 3)
    bare = fourier.transform(density_map(atoms_at((0, 0, 0)), 32, 1.0, is_in_ice=False), 3)
    hydrogens = (carried - bare).real / 3
    at_3_angstrom = hydrogens[(grid - 1 / 3).abs() < 0.01].mean()
    assert 0 < float(at_3_angstrom) < 0.5 * float(hydrogens[0, 0, 0])


def test_an_unknown_element_is_named():
    with pytest.raises(ValueError, match="'U' has no scattering factor"):
        atoms_at((0, 0, 0), element="U")


def test_b_factors_of_single_atoms_add_up_to_the_map_of_each():
    places = torch.tensor([[1.0, -3.3, 2.2], [4.1, 0.2, -5.5], [-6.0, 3.0, 0.7]])
    b_factors, hydrogens = torch.tensor([26.0, 83.0, 190.0]), torch.tensor([2, 1, 0])
    elements = ("C", "N", "S")
    found = density_map(Atoms(places, elements, hydrogens, b_factors), 40, 0.8)
    alone = [
        density_map(Atoms(places[i : i + 1], elements[i : i + 1], hydrogens[i : i + 1], float(b_factors[i])), 40, 0.8)
        for i in range(3)
    ]
    assert_close(found, torch.stack(alone).sum(0), atol=0.02 * float(max(a.max() for a in alone)), rtol=0)
    levels = torch.tensor([18.0, 64.0, 140.0])  # at which nothing is shared
    same = density_map(Atoms(places, elements, hydrogens, torch.full((3,), 64.0)), 40, 0.8)
    assert_close(same, density_map(Atoms(places, elements, hydrogens, 64.0), 40, 0.8), atol=1e-5, rtol=0)
    assert len(Atoms(places, elements, hydrogens * 0, levels).kinds()) == 3
    with pytest.raises(ValueError, match=r"expected \(3,\)"):
        Atoms(places, elements, hydrogens, b_factors[:2])


def test_a_box_that_is_no_cube_holds_the_same_density():
    atoms = Atoms(torch.tensor([[0.6, -2.0, 3.1], [2.0, 1.0, -4.0]]), ("C", "ZN"), torch.tensor([1, 0]), 40.0)
    cube = density_map(atoms, 40, 1.0)
    found = density_map(atoms, (32, 36, 40), 1.0)
    assert_close(found, cube[4:36, 2:38], atol=3e-3 * float(cube.max()), rtol=0)
