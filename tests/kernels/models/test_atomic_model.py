"""Residues and atoms find each other."""

import pytest
import torch

from kernels.models.atomic_model import AtomicModel, Residue, joined


def peptide(chain: str = "A", n: int = 3) -> AtomicModel:
    """N and C of ``n`` alanines, 1.3 Å from one to the next, and a zinc without either."""
    residues = (*(Residue(chain, "ALA", 5 + i) for i in range(n)), Residue(chain, "ZN", 99))
    along = torch.tensor([value for i in range(n) for value in (3.8 * i, 3.8 * i + 2.5)] + [50.0])
    place = torch.zeros(2 * n + 1, 3, dtype=torch.float64)
    place[:, 2] = along
    residue = torch.tensor([i for i in range(n) for _ in range(2)] + [n])
    ones = torch.ones(2 * n + 1)
    return AtomicModel(residues, residue, ("N", "C") * n + ("ZN",), ("N", "C") * n + ("ZN",), place, ones * 30, ones)


def test_atoms_are_found_by_name():
    model = peptide()
    assert model.atom("N", "C", "CA").tolist() == [[0, 1, -1], [2, 3, -1], [4, 5, -1], [-1, -1, -1]]
    positions = model.positions("C", "CA")
    assert positions[1, 0].tolist() == pytest.approx([0, 0, 6.3])
    assert positions[:, 1].isnan().all()


def test_bonds_lead_on_where_they_are_short():
    assert peptide().is_linked().tolist() == [True, True, False, False]


def test_a_residue_without_atoms_leaves():
    model = peptide()
    part = model.take_residues(torch.tensor([True, False, True, False]))
    assert [str(r) for r in part.residues] == ["A/ALA5", "A/ALA7"]
    assert part.is_linked().tolist() == [False, False]
    assert part.residue.tolist() == [0, 0, 1, 1]


def test_joined_models_keep_their_atoms():
    model = joined([peptide("A"), peptide("B")])
    assert len(model) == 14
    assert model.residues[4].chain == "B"
    assert model.amino_acid.tolist() == [0, 0, 0, -1] * 2


def test_atoms_out_of_order_are_refused():
    model = peptide()
    with pytest.raises(ValueError, match="order"):
        AtomicModel(
            model.residues,
            model.residue.flip(0),
            model.names,
            model.elements,
            model.coordinates_angstrom,
            model.b_factor_angstrom2,
            model.occupancy,
        )
