"""The protein of a map is found in a database without being told."""

from dataclasses import replace

import pytest
import torch

from kernels.models.residues import AMINO_ACID_LETTERS
from tasks.building.identify import WORST_E_VALUE, identify
from tasks.building.trace_chains import trace_chains
from tasks.formats.structure import read_structure
from tests.truth.protein_detections import TYPICAL, cage_subunits, known_chains, simulated_detections


def shuffled(sequence: str, seed: int) -> str:
    order = torch.randperm(len(sequence), generator=torch.Generator().manual_seed(seed))
    return "".join(sequence[i] for i in order.tolist())


def stranger(n: int, seed: int) -> str:
    types = torch.randint(20, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    return "".join(AMINO_ACID_LETTERS[t] for t in types)


@pytest.mark.parametrize("top1", [0.45, 0.35])
def test_the_right_protein_is_found_among_shuffled_ones(top1):
    known = cage_subunits(2)
    sequence = known[0].sequence
    detections = simulated_detections(known, replace(TYPICAL, top1=top1), 1)
    database = {f"decoy {i}": shuffled(sequence, i) for i in range(150)} | {"cage": sequence}
    found = identify(trace_chains(detections), detections, database)
    assert found[0].name == "cage"
    assert found[0].e_value < 1e-6
    assert len(found) == 1 or found[1].e_value > 1e3 * found[0].e_value
    for hit in found[0].hits:
        assert 0 <= hit.start < hit.stop <= len(sequence)


def test_a_protein_that_is_not_in_the_database_is_not_found():
    known = cage_subunits(2)
    detections = simulated_detections(known, TYPICAL, 2)
    database = {f"stranger {i}": stranger(150, i) for i in range(150)}
    found = identify(trace_chains(detections), detections, database)
    assert all(p.e_value > 1e-5 for p in found)
    assert len(found) <= 1
    assert all(p.e_value <= WORST_E_VALUE for p in found)


@pytest.mark.real
def test_proteins_of_real_structures_are_found(real_data):
    files = sorted((real_data / "structures_bm5").glob("*.gz"))[:60]
    structures = {f.name[:6]: known_chains(read_structure(f)) for f in files}
    database = {f"{name} {k}": c.sequence for name, chains in structures.items() for k, c in enumerate(chains)}
    database |= {f"decoy of {name}": shuffled(sequence, 0) for name, sequence in list(database.items())}
    for name in ("1ATN_r", "1BKD_r", "1AK4_l"):
        chains = structures[name]
        detections = simulated_detections(chains, TYPICAL, 0)
        found = identify(trace_chains(detections), detections, database)
        assert found[0].sequence in {c.sequence for c in chains}
        assert found[0].e_value < 1e-10


def test_searches_that_cannot_be_are_refused():
    known = cage_subunits(1)
    detections = simulated_detections(known, TYPICAL, 3)
    traces = trace_chains(detections)
    with pytest.raises(ValueError, match="database of sequences is empty"):
        identify(traces, detections, {})
    with pytest.raises(ValueError, match="longest trace has 0 residues, but a search wants 15"):
        identify([], detections, {"cage": known[0].sequence})
