"""From a trace with errors to all atoms, compared with the model that the map was made of."""

import pytest
import torch

from kernels.models.all_atoms import built_rounds, judged, linked_by_trace, repaired
from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.torsions import side_chain_torsions
from tests.truth.cage_model import cage_subunit, trace_of
from tests.truth.model_maps import simulated_maps


def test_a_trace_becomes_a_model_near_the_truth():
    maps = simulated_maps(cage_subunit(50), 3.0, padding_angstrom=8)
    rounds = built_rounds(trace_of(maps.model, 0.6), maps.sharpened, 3.0, n_rounds=1)
    found = min(rounds, key=lambda built: built.surprise).model
    error = (found.positions("N", "CA", "C", "O") - maps.model.positions("N", "CA", "C", "O")).square().sum(-1)
    assert error[:, 1].mean().sqrt() < 0.35
    assert error[:-1].mean().sqrt() < 0.5
    wrong = (side_chain_torsions(found) - side_chain_torsions(maps.model))[:, 0]
    assert (torch.cos(wrong[~wrong.isnan()]) > 0.766).double().mean() > 0.8
    assert found.names == maps.model.names


def test_links_follow_numbers_chains_and_distance():
    places = torch.tensor([0.0, 3.8, 7.6, 11.4, 25.0])
    residues = (("A", 1), ("A", 2), ("A", 4), ("B", 5), ("B", 6))
    alpha = torch.zeros(5, 3, dtype=torch.float64)
    alpha[:, 2] = places
    ones = torch.ones(5)
    trace = AtomicModel(
        tuple(Residue(chain, "ALA", number) for chain, number in residues),
        torch.arange(5), ("CA",) * 5, ("C",) * 5, alpha, ones, ones,
    )  # fmt: skip
    assert linked_by_trace(trace).tolist() == [True, False, False, False, False]


def test_a_trace_of_something_else_is_refused():
    maps = simulated_maps(cage_subunit(10), 4.0, padding_angstrom=6)
    trace = trace_of(maps.model, 0.1)
    odd = AtomicModel(
        (Residue("A", "HEM", 1), *trace.residues[1:]),
        trace.residue,
        trace.names,
        trace.elements,
        trace.coordinates_angstrom,
        trace.b_factor_angstrom2,
        trace.occupancy,
    )
    with pytest.raises(ValueError, match="A/HEM1 is no amino acid"):
        built_rounds(odd, maps.sharpened, 4.0)
    with pytest.raises(ValueError, match="outside of the map"):
        built_rounds(trace.at(trace.coordinates_angstrom + 500), maps.sharpened, 4.0)


def test_fragments_of_one_and_two_residues_are_built_too():
    maps = simulated_maps(cage_subunit(12), 3.5, padding_angstrom=6)
    kept = torch.zeros(12, dtype=torch.bool)
    kept[[0, 4, 5, 9, 10, 11]] = True
    trace = trace_of(maps.model, 0.3).take_residues(kept)
    built = built_rounds(trace, maps.sharpened, 3.5, n_rounds=1)[0]
    truth = maps.model.take_residues(kept)
    assert built.model.names == truth.names
    assert torch.isfinite(built.model.coordinates_angstrom).all()
    linked = linked_by_trace(trace)
    assert linked.tolist() == [False, True, False, True, True, False]
    again = repaired(built.model, maps.sharpened, 3.5, linked)
    assert again.model.names == truth.names
    assert again.surprise < built.surprise + 5


def test_a_flipped_peptide_and_a_wrong_rotamer_are_repaired():
    maps = simulated_maps(cage_subunit(40), 3.0, padding_angstrom=8)
    truth = maps.model
    linked = linked_by_trace(truth)
    place = truth.coordinates_angstrom.clone()
    alpha, oxygen, carbon = (truth.atom(name)[20, 0] for name in ("CA", "O", "C"))
    after = truth.atom("CA")[21, 0]
    axis = place[after] - place[alpha]
    turned = torch.stack([oxygen, carbon, truth.atom("N")[21, 0]])
    along = ((place[turned] - place[alpha]) @ axis / axis.dot(axis))[:, None] * axis
    place[turned] = 2 * (place[alpha] + along) - place[turned]  # half a turn about the line between the Cα
    wrong = truth.at(place)
    assert (wrong.positions("O") - truth.positions("O")).norm(dim=-1).max() > 3
    found = repaired(wrong, maps.sharpened, 3.0, linked)
    assert (found.model.positions("O") - truth.positions("O"))[:-1].norm(dim=-1).max() < 1.2
    assert found.surprise < judged(wrong, maps.sharpened, 3.0, linked).surprise - 20
