"""From a trace with errors to all atoms, compared with the model that the map was made of."""

import pytest
import torch

from kernels.models.all_atoms import built_rounds, linked_by_trace
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
