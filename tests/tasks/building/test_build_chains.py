"""Backbones with sequence and confidence, from candidates of chains that are known."""

from dataclasses import replace

import pytest
import torch

from kernels.models.detections import ProteinDetections
from kernels.models.residues import AMINO_ACID_LETTERS, AMINO_ACIDS
from tasks.building.build_chains import build_chains
from tasks.formats.structure import chain_name, read_structure, write_structure
from tests.truth.protein_detections import EASY, TYPICAL, cage_subunits, simulated_detections


def taken(detections: ProteinDetections, index: torch.Tensor) -> ProteinDetections:
    return ProteinDetections(*(getattr(detections, name)[index] for name in detections.__dataclass_fields__))


def test_a_model_has_chains_numbers_names_and_backbones(tmp_path):
    known = cage_subunits(2)
    sequence = known[0].sequence
    detections = simulated_detections(known, EASY, 0)
    built = build_chains(detections, [sequence], [2])
    model = built.model
    threaded = [c for c in built.chains if c.sequence is not None]
    assert [c.name for c in threaded] == ["A", "B"]
    assert all(c.p_value < 1e-6 for c in threaded)
    for residue in model.residues:
        if residue.chain in "AB":
            assert residue.name == AMINO_ACIDS[AMINO_ACID_LETTERS.index(sequence[residue.number - 1])]
    true = torch.cat([k.alpha_angstrom for k in known])
    offset = torch.cat([k.backbone_offset_angstrom for k in known])
    distance, nearest = torch.cdist(model.positions("CA")[:, 0], true).min(1)
    assert (distance < 2.0).double().mean() > 0.9
    found = model.positions("N", "C", "O")
    error = (found - (true[nearest][:, None] + offset[nearest])).norm(dim=-1).median(0).values
    assert (error < torch.tensor([0.5, 0.5, 0.8])).all()
    assert torch.allclose(model.b_factor_angstrom2[::4], 100 * built.confidence)
    assert len(built.candidate) == len(built.confidence) == model.n_residues
    write_structure(tmp_path / "built.cif", model)
    assert read_structure(tmp_path / "built.cif").n_residues == model.n_residues


def test_without_sequences_residues_get_the_types_that_they_look_like():
    detections = simulated_detections(cage_subunits(1), EASY, 1)
    built = build_chains(detections)
    assert all(c.sequence is None and "without a place" in str(c) for c in built.chains)
    seen = built.candidate >= 0
    likeliest = detections.amino_acid[built.candidate[seen]].argmax(1)
    assert torch.equal(built.model.amino_acid[seen], likeliest)
    assert built.model.residues[0].number == 1


def test_confidence_is_higher_for_long_chains_and_right_registers():
    known = cage_subunits(2)
    built = build_chains(simulated_detections(known, TYPICAL, 2), [known[0].sequence], [2])
    of_chain = {c.name: [] for c in built.chains}
    for residue, confidence in zip(built.model.residues, built.confidence.tolist()):
        of_chain[residue.chain].append(confidence)
    mean = {name: sum(v) / len(v) for name, v in of_chain.items()}
    shortest = min(built.chains, key=lambda c: c.n_residues)
    assert mean["A"] > 0.85
    assert mean[shortest.name] < mean["A"]
    assert ((built.confidence >= 0) & (built.confidence <= 1)).all()


def test_chain_names_go_on_after_z():
    assert [chain_name(i) for i in (0, 25, 26, 27, 702)] == ["A", "Z", "AA", "AB", "AAA"]


def test_maps_without_chains_are_refused_with_what_to_look_at():
    detections = simulated_detections(cage_subunits(1), EASY, 0)
    with pytest.raises(ValueError, match=r"no residues were detected.*hand, voxel size and resolution"):
        build_chains(taken(detections, torch.zeros(0, dtype=torch.int64)))
    apart = replace(detections, alpha_angstrom=100.0 * torch.arange(3 * len(detections)).float().reshape(-1, 3))
    with pytest.raises(ValueError, match=r"residues were detected, but no four"):
        build_chains(apart)
    with pytest.raises(ValueError, match=r"residues, but the map shows"):
        build_chains(detections, ["ACDEFGHIKLMNPQRSTVWY" * 100])
