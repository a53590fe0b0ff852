"""Density beside a backbone tells the side chain, and where the sequence is out of register."""

from dataclasses import replace

import pytest
import torch

from kernels.maps.grid import DensityGrid
from kernels.models.assessment import likelihood_tables
from kernels.models.atomic_model import Residue
from kernels.models.map_fit import model_density
from kernels.models.residues import AMINO_ACID_LETTERS, AMINO_ACIDS
from kernels.models.side_chain_profile import (
    amino_acid_evidence,
    backbone_level,
    register_shift_evidence,
    side_chain_gain,
    side_chain_profile,
)
from tests.truth.ideal_proteins import ideal_protein

SEQUENCE = "AFSLKWTEYAVMRDGFLSTIQNEW"


@pytest.fixture(scope="module")
def model():
    found = ideal_protein(SEQUENCE)
    return found.at(found.coordinates_angstrom - found.coordinates_angstrom.mean(0))


@pytest.fixture(scope="module")
def grid(model) -> DensityGrid:
    shape = (56, 56, 64)
    origin = -torch.tensor(shape, dtype=torch.float64) / 2 * 0.9
    return model_density(model, DensityGrid(torch.zeros(shape), 0.9, origin), 3.0)


def test_large_side_chains_are_seen_and_small_ones_leave_room(model, grid):
    profile = side_chain_profile(grid, model)
    number = AMINO_ACID_LETTERS.index
    for i, letter in enumerate(SEQUENCE):
        if letter in "FWYRKM" and 0 < i < len(SEQUENCE) - 1:
            assert profile[i, number(letter)] > profile[i, number("A")] + 1, (i, letter)
        if letter in "AS":
            assert profile[i, number("W")] < profile[i, number(letter)]
    assert (profile[:, number("G")] == 0).all()


def test_scale_does_not_matter_to_a_profile(model, grid):
    scaled = grid.with_voxels(7 * grid.voxels)
    torch.testing.assert_close(side_chain_profile(scaled, model), side_chain_profile(grid, model), atol=1e-4, rtol=0)
    assert (backbone_level(grid, model) > 0).all()


def test_a_side_chain_that_stands_right_gains_what_its_best_rotamer_does(model, grid):
    gain = side_chain_gain(grid, model)
    best = side_chain_profile(grid, model).gather(1, model.amino_acid[:, None]).squeeze(1)
    assert ((best - gain).abs() < 1.2).all()  # of up to ten atoms; and the logarithm of a rotamer's probability
    away = model.at(model.coordinates_angstrom + torch.tensor([0.0, 200, 0]))
    assert (side_chain_gain(grid, away) <= 0).all()


@pytest.mark.parametrize("shift", [-2, 1, 3])
def test_a_sequence_out_of_register_fits_better_where_it_belongs(model, grid, shift):
    resolution = torch.full((len(SEQUENCE),), 3.0)
    evidence = amino_acid_evidence(side_chain_profile(grid, model), resolution, *likelihood_tables())
    assert (register_shift_evidence(evidence, model)[4:-4] < 0).all()
    letters = [SEQUENCE[(i + shift) % len(SEQUENCE)] for i in range(len(SEQUENCE))]
    names = [AMINO_ACIDS[AMINO_ACID_LETTERS.index(letter)] for letter in letters]
    moved = replace(model, residues=tuple(Residue("A", name, i) for i, name in enumerate(names)))
    assert (register_shift_evidence(evidence, moved)[6:-6] > 0).all()


def test_evidence_is_the_posterior_over_the_prior():
    profile = torch.rand(5, 20, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    profile[3] = torch.nan
    shares = torch.linspace(1, 2, 20, dtype=torch.float64)
    shares = shares / shares.sum()
    blind = amino_acid_evidence(profile, torch.full((5,), 3.0), torch.zeros(42, 20, dtype=torch.float64), shares)
    torch.testing.assert_close(blind[0].exp(), 0.05 / shares)
    assert blind.isnan().all(1).tolist() == [False, False, False, True, False]
    seen = amino_acid_evidence(profile, torch.full((5,), 3.0), *likelihood_tables())
    own = likelihood_tables()[1]
    torch.testing.assert_close((seen[0].exp() * own).sum(), torch.ones((), dtype=torch.float64))


def test_what_is_no_protein_has_no_profile(model, grid):
    others = replace(model, residues=tuple(Residue("A", "HEM", i) for i in range(len(SEQUENCE))))
    profile = side_chain_profile(grid, others)
    assert profile.isnan().all()
    assert (register_shift_evidence(profile, others) == 0).all()
