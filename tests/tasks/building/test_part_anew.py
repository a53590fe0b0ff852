"""A part that is built anew takes the place of what stood in its mask, and goes on with the chains around it."""

from dataclasses import replace

import pytest
import torch

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.map_fit import soft_mask
from kernels.models.residue_places import representatives
from tasks.building.part_anew import part_anew
from tests.truth.peptides import helix

SEQUENCE = "ALEKDIRQSVMTWYFGHNCP" * 2
ODD = 5


def named(model: AtomicModel, chain: str, first: int = 1) -> AtomicModel:
    residues = tuple(replace(r, chain=chain, number=first + i) for i, r in enumerate(model.residues))
    return replace(model, residues=residues)


@pytest.fixture
def true() -> AtomicModel:
    return named(helix(SEQUENCE), "A")


@pytest.fixture
def mask(true) -> DensityGrid:
    """Around residues 21 to 40."""
    low = true.coordinates_angstrom.amin(0) - 15
    shape = (true.coordinates_angstrom.amax(0) + 15 - low).ceil().long().tolist()
    grid = DensityGrid(torch.zeros(shape), 1.0, low.double())
    return grid.with_voxels(soft_mask(grid, true.take_residues(torch.arange(40) >= 28)).float())


def made_of(true: AtomicModel, chain: str, first: int = 1) -> AtomicModel:
    """As `build_model` makes it, a little aside."""
    is_backbone = torch.tensor([name in ("N", "CA", "C", "O") for name in true.names])
    return named(true.at(true.coordinates_angstrom + 0.1).take(is_backbone), chain, first)


def kept(true: AtomicModel) -> AtomicModel:
    """Residues 1 to 20 as they are, and a piece of ten under a name of its own, 4 Å beside the chain."""
    beside = named(true.take_residues((torch.arange(40) >= 26) & (torch.arange(40) < 36)), "B")
    return joined([true.take_residues(torch.arange(40) < 20), beside.at(beside.coordinates_angstrom + 2.3)])


def test_the_inside_is_new_and_the_outside_is_kept(true, mask):
    before = kept(true)
    made = made_of(true, "C")
    found = part_anew(before, torch.ones(before.n_residues, dtype=torch.bool), made, mask)
    assert [(r.chain, r.number) for r in found.residues] == [("A", number) for number in range(1, 41)]
    assert set(found.names) == {"N", "CA", "C", "O"}
    moved = (representatives(found) - representatives(true)).norm(dim=-1)
    assert moved[:20].max() < 1e-6
    torch.testing.assert_close(moved[20:], moved.new_full((20,), 0.1 * 3**0.5), atol=1e-4, rtol=0)


def test_what_is_not_trusted_gives_way_and_stays_where_there_is_nothing_else(true, mask):
    before = kept(true)
    is_trusted = torch.ones(before.n_residues, dtype=torch.bool)
    is_trusted[[ODD, 10]] = False
    rows = torch.arange(40) != 10
    made = made_of(true, "C").take_residues(rows)
    found = part_anew(before, is_trusted, made, mask)
    assert [r.number for r in found.residues] == list(range(1, 41))
    moved = (representatives(found) - representatives(true)).norm(dim=-1)
    assert moved[ODD] > 0.1 and moved[10] < 1e-6


def test_a_chain_of_other_numbers_gets_a_name_of_its_own(true, mask):
    before = kept(true)
    made = made_of(true, "A", first=7)
    found = part_anew(before, torch.ones(before.n_residues, dtype=torch.bool), made, mask)
    assert [(r.chain, r.number) for r in found.residues] == [
        *(("A", number) for number in range(1, 21)),
        *(("C", number) for number in range(27, 47)),
    ]
