"""One place of each residue: its Cα, its C4', or the middle of what has neither."""

import torch

from kernels.models.atomic_model import joined
from kernels.models.residue_places import places_of_residues, representatives
from tests.truth.ideal_nucleic_acids import duplex
from tests.truth.peptides import helix


def test_places_are_those_of_the_trace_and_the_middle_of_what_has_none():
    whole = joined([helix("ALEK"), duplex("GAUC")])
    is_trace = torch.tensor([name in ("CA", "C4'") for name in whole.names])
    trace = whole.coordinates_angstrom[is_trace]
    assert torch.equal(places_of_residues(whole), trace)
    bare = whole.take(~(is_trace & (whole.residue == 2)))
    places = places_of_residues(bare)
    assert representatives(bare)[2].isnan().all()
    torch.testing.assert_close(places[2], bare.coordinates_angstrom[bare.residue == 2].mean(0))
    others = torch.arange(whole.n_residues) != 2
    assert torch.equal(places[others], trace[others])
