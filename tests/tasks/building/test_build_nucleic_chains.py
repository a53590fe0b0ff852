"""A double helix in a map of its own becomes a model of it, from detections that know nothing of bases."""

import pytest
import torch

from kernels.models.nucleotide_restraints import nucleotide_restraints
from kernels.scores import matched_points
from tasks.building.build_nucleic_chains import build_nucleic_chains
from tasks.building.chain_names import NoChainError
from tests.truth.ideal_nucleic_acids import duplex, seen_nucleotides
from tests.truth.model_maps import simulated_maps

STRANDS = ("GGACUCAGUUAC", "GUAACUGAGUCC")


@pytest.fixture(scope="module")
def maps():
    return simulated_maps(duplex(STRANDS[0]), 3.0, padding_angstrom=9.0)


def test_a_double_helix_is_traced_paired_and_threaded(maps):
    built = build_nucleic_chains(seen_nucleotides(maps.model, seed=1), maps.sharpened, 3.0, STRANDS, [1, 1])
    place, true = built.model.positions("C4'")[:, 0], maps.model.positions("C4'")[:, 0]
    match = matched_points(place, true, 1.5)
    found = match >= 0
    assert found.sum() >= 22
    is_right = built.model.base == maps.model.base[match]
    assert is_right[found].double().mean() > 0.9
    looks_right = built.types.argmax(1) == maps.model.base[match]
    assert looks_right[found].double().mean() > 0.4  # without the sequence; a quarter by chance
    assert {c.sequence for c in built.chains} == {0, 1}
    assert 9 <= len(built.pairs) == len(built.pair_names()) <= 12
    chemistry = nucleotide_restraints(built.model)
    first, second = built.model.coordinates_angstrom[chemistry.pairs].unbind(1)
    error = ((first - second).norm(dim=-1) - chemistry.pair_angstrom) / chemistry.pair_sigma
    assert error.square().mean().sqrt() < 1.5


def test_candidates_beside_the_molecule_are_dropped(maps):
    seen = seen_nucleotides(maps.model)
    away = type(seen)(*(getattr(seen, name) for name in seen.__dataclass_fields__))
    away.sugar_angstrom[:] += 13.0
    with pytest.raises(NoChainError, match="stand in density"):
        build_nucleic_chains(away, maps.sharpened, 3.0)


def test_nothing_is_no_chain(maps):
    nothing = seen_nucleotides(maps.model).take(torch.zeros(0, dtype=torch.int64))
    with pytest.raises(NoChainError, match="0 nucleotides were detected"):
        build_nucleic_chains(nothing, maps.sharpened, 3.0)
