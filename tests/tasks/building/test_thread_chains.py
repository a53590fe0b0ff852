"""Chains with sequence, from candidates of chains that are known."""

from dataclasses import replace

import pytest
import torch

from kernels.models.polymers import NUCLEIC_ACID, PROTEIN
from kernels.models.residues import AMINO_ACID_LETTERS
from tasks.building.sequences import sequences_of, targets, told_kind
from tasks.building.thread_chains import thread_chains
from tasks.building.trace_chains import trace_chains
from tests.truth.protein_detections import EASY, TYPICAL, KnownChain, cage_subunits, simulated_detections
from tests.truth.traced import positions_in_truth

_APART = 100_000


def stranger(n: int, seed: int) -> str:
    types = torch.randint(20, (n,), generator=torch.Generator().manual_seed(seed)).tolist()
    return "".join(AMINO_ACID_LETTERS[t] for t in types)


def right_and_all(chain, known: list[KnownChain]) -> tuple[int, int]:
    key = positions_in_truth(chain.alpha_angstrom, known)
    seen = key >= 0
    return int((key[seen] % _APART == chain.position[seen]).sum()), int(seen.sum())


@pytest.mark.parametrize(("top1", "share"), [(0.45, 0.8), (0.35, 0.7)])
def test_residues_get_their_place_in_the_sequence(top1, share):
    known = cage_subunits(3)
    detections = simulated_detections(known, replace(TYPICAL, top1=top1), 1)
    wanted = targets([stranger(200, 0), known[0].sequence], [1, 3], len(detections))
    chains = thread_chains(trace_chains(detections), detections, wanted)
    threaded = [c for c in chains if c.sequence is not None]
    assert {c.sequence for c in threaded} == {1}
    assert len(threaded) <= 3
    right, seen = (sum(v) for v in zip(*(right_and_all(c, known) for c in threaded)))
    assert right >= 0.93 * seen
    assert right >= share * sum(len(k.sequence) for k in known)


def test_a_chain_holds_each_position_once_and_steps_are_short_enough():
    known = cage_subunits(3)
    detections = simulated_detections(known, TYPICAL, 2)
    wanted = targets([known[0].sequence], None, len(detections))
    for chain in thread_chains(trace_chains(detections), detections, wanted):
        if chain.sequence is None:
            continue
        step = chain.position.diff()
        assert (step > 0).all()
        assert (chain.alpha_angstrom.diff(dim=0).norm(dim=1) <= 3.8 * step + 3.0).all()
        assert int(chain.position[-1]) < len(known[0].sequence)


def test_probabilities_of_the_register_tell_right_from_wrong():
    known = cage_subunits(3)
    sure, right = [], []
    for seed in range(2):
        detections = simulated_detections(known, replace(TYPICAL, top1=0.35), seed)
        wanted = targets([known[0].sequence], [3], len(detections))
        for chain in thread_chains(trace_chains(detections), detections, wanted):
            key = positions_in_truth(chain.alpha_angstrom, known)
            seen = (key >= 0) & torch.tensor(chain.sequence is not None)
            sure.append(chain.register_probability[seen])
            right.append((key[seen] % _APART == chain.position[seen]).double())
    sure, right = torch.cat(sure), torch.cat(right)
    assert right[sure > 0.95].mean() > 0.97
    assert sure[right < 0.5].mean() < sure[right > 0.5].mean() - 0.15
    assert abs(float(sure.mean() - right.mean())) < 0.08


def test_a_sequence_that_is_not_there_is_not_threaded():
    known = cage_subunits(2)
    detections = simulated_detections(known, TYPICAL, 3)
    chains = thread_chains(trace_chains(detections), detections, targets([stranger(150, 5)], [2], len(detections)))
    sure = sum(int((c.register_probability > 0.5).sum()) for c in chains)
    assert sure <= 0.05 * sum(len(c) for c in chains)
    assert max(len(c) for c in chains if c.sequence is None) > 20


def test_a_chain_that_is_traced_backwards_is_turned():
    known = cage_subunits(1)
    seen = simulated_detections(known, replace(EASY, top1=0.6), 4)
    turned = replace(
        seen,
        next_offset_angstrom=seen.previous_offset_angstrom,
        previous_offset_angstrom=seen.next_offset_angstrom,
        backbone_offset_angstrom=seen.backbone_offset_angstrom[:, [1, 0, 2]],
    )
    chain = thread_chains(trace_chains(turned), turned, targets([known[0].sequence], [1], len(turned)))[0]
    right, n = right_and_all(chain, known)
    assert right > 0.95 * n > 0.9 * 156
    assert chain.is_reversed[chain.candidate >= 0].all()


def test_without_sequences_traces_stay_as_they_are():
    detections = simulated_detections(cage_subunits(1), EASY, 5)
    traces = trace_chains(detections)
    chains = thread_chains(traces, detections, [])
    assert [len(c) for c in chains] == [len(t) for t in traces]
    assert all(c.sequence is None for c in chains)
    assert thread_chains([], detections, targets(["ACDEFGHIKLMNPQ"], None, 100)) == []


def test_the_same_sequence_twice_is_two_copies():
    assert [(t.letters, t.copies) for t in targets(["ACDW", "EFGH", "acd w*"], [1, 2, 2], 10)] == [
        ("ACDW", 3),
        ("EFGH", 2),
    ]
    assert targets(["ACDW"], None, 10)[0].copies is None


@pytest.mark.parametrize(
    ("sequence", "copies", "says"),
    [
        ("ACD1EF?", None, r"sequence 1 has letters .*'1' at position 4, '\?' at position 7"),
        (">sp|P1|\nACDEF", None, "'>' at position 1"),
        ("  ", None, "sequence 1 is empty"),
        ("rna:ACGE", None, "sequence 1 has letters that stand for no nucleotide: 'E' at position 4"),
        ("peptide:ACD", None, "said to be 'peptide'; expected protein, rna, dna"),
        ("ACDEFGHIKLMNPQRSTVWY" * 100, None, "2000 residues, but the map shows 100"),
        ("ACDEF", [0], "one positive number"),
    ],
)
def test_sequences_that_cannot_be_used_are_named(sequence, copies, says):
    with pytest.raises(ValueError, match=says):
        targets([sequence], copies, 100)


@pytest.mark.parametrize(
    ("given", "kind", "letters"),
    [
        ("acgu acgu*", "rna", "ACGUACGU"),
        ("ACGTACGT", "dna", "ACGTACGT"),
        ("GGGGGGGG", "rna", "GGGGGGGG"),
        ("GGGGGGG", "protein", "GGGGGGG"),
        ("protein:GGGGGGGG", "protein", "GGGGGGGG"),
        ("dna:GGGG", "dna", "GGGG"),
        ("ACDEFGHIKL", "protein", "ACDEFGHIKL"),
    ],
)
def test_a_sequence_is_of_protein_rna_or_dna(given, kind, letters):
    assert told_kind(given) == (kind, letters)


def test_sequences_of_two_kinds_are_threaded_apart():
    given = ["ACDEFGHIKL", "ACGUACGU"]
    with pytest.raises(ValueError, match="of proteins and of nucleic acids"):
        targets(given, None, 100)
    assert sequences_of(NUCLEIC_ACID, given, [1, 2]) == (["rna:ACGUACGU"], [2])
    assert sequences_of(PROTEIN, given, None) == (["protein:ACDEFGHIKL"], None)
