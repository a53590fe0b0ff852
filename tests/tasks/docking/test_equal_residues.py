"""A placement on a copy of a chain is right, however the copy is numbered."""

import math
from dataclasses import replace

import pytest
import torch

from kernels.models.atomic_model import joined
from kernels.models.residue_places import places_of_residues
from kernels.models.superposition import rmsd
from tasks.docking.equal_residues import equal_residues, rmsd_to_copies
from tests.truth.cage_model import cage_subunit


def numbered(model, first, chain="A"):
    residues = tuple(replace(r, chain=chain, number=i + first) for i, r in enumerate(model.residues))
    return replace(model, residues=residues)


def moved(model, angstrom):
    return model.at(model.coordinates_angstrom + torch.tensor([angstrom, 0.0, 0.0], dtype=torch.float64))


def test_a_copy_is_found_under_other_numbers():
    own = numbered(cage_subunit(60), 1)
    copy = moved(numbered(cage_subunit(60), 301, "B"), 50.0)
    assert rmsd_to_copies(own, [moved(own, 20.0)]) == pytest.approx(20.0, abs=1e-6)
    assert rmsd_to_copies(moved(own, 49.0), [own, copy]) == pytest.approx(1.0, abs=1e-6)


def test_the_halves_of_a_dimer_may_change_places():
    half = cage_subunit(60)
    dimer = joined([numbered(half, 3), moved(numbered(half, 503), 40.0)])
    swapped = joined([numbered(half.at(moved(half, 40.0).coordinates_angstrom), 3), numbered(half, 503)])
    assert rmsd(places_of_residues(dimer), places_of_residues(swapped)) == pytest.approx(40.0, abs=1e-6)
    assert rmsd_to_copies(swapped, [dimer]) == pytest.approx(0.0, abs=1e-6)
    assert rmsd_to_copies(moved(swapped, 7.0), [dimer]) == pytest.approx(7.0, abs=1e-6)


def test_three_copies_take_each_others_places_in_a_ring_only():
    third = cage_subunit(50)
    trimer = joined([numbered(third, 1 + 500 * n) for n in range(3)])
    pairs = equal_residues(trimer, trimer)
    assert all(len(some) == 150 for some in pairs)
    orders = {tuple(dict(some)[50 * n] // 50 for n in range(3)) for some in pairs}
    assert orders == {(0, 1, 2), (1, 2, 0), (2, 0, 1)}


def test_another_protein_is_not_there():
    own, other = cage_subunit(150).take_residues(torch.arange(150) < 70), cage_subunit(150)
    other = numbered(other.take_residues(torch.arange(150) >= 80), 1)
    assert rmsd_to_copies(own, [other]) == math.inf
    assert rmsd_to_copies(own, []) == math.inf
