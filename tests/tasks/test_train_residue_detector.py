"""Training goes on where it was left, on the same patches."""

import json

import pytest
import torch
from safetensors.torch import load_file

from kernels.networks.residue_detector import ResidueDetector
from tasks.train_residue_detector import TrainResidueDetectorParams, train_residue_detector
from tasks.training.patches import SimulatedPatches
from tasks.training.structures import read_structures
from tests.truth.peptides import write_helices

_LETTERS = torch.randint(19, (40, 40), generator=torch.Generator().manual_seed(4)).tolist()
SEQUENCES = ["".join("ACDEFGHIKLMNQRSTVWY"[i] for i in letters) for letters in _LETTERS]


@pytest.fixture
def structures(tmp_path):
    write_helices(tmp_path / "set", SEQUENCES)
    found = read_structures([tmp_path / "set"])
    assert 2 <= sum(s.is_held_out for s in found) < len(found)
    return tmp_path / "set"


def test_a_training_that_was_stopped_goes_on(tmp_path, structures):
    params = TrainResidueDetectorParams(
        structures=[str(structures)],
        n_steps=3,
        batch_size=2,
        patch_voxels=32,
        n_loaders=0,
        n_scored_patches=1,
        longest_seconds=1e-3,
    )
    for step in (1, 2):
        train_residue_detector.fn(str(tmp_path / "out"), params)
        kept = torch.load(tmp_path / "out" / "residue_detector.checkpoint.pt")
        assert kept["step"] == step
    scores = train_residue_detector.fn(str(tmp_path / "out"), params.model_copy(update={"longest_seconds": None}))
    assert scores
    lines = [json.loads(line) for line in (tmp_path / "out" / "residue_detector.jsonl").read_text().splitlines()]
    assert (lines[-1]["step"], lines[-1]["scores"]) == (3, scores)
    assert 0 <= lines[-1]["calibration_error"]["amino_acid"] < 1
    network = ResidueDetector()
    network.load_state_dict(load_file(tmp_path / "out" / "residue_detector.safetensors"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "residue_detector.checkpoint.pt",
        "residue_detector.jsonl",
        "residue_detector.safetensors",
    ]


def test_a_patch_depends_on_its_number_alone(structures):
    found = read_structures([structures])
    first, longer = (SimulatedPatches(found, 7, n, 32, 0.1) for n in (4, 40))
    assert torch.equal(first[3][0], longer[3][0])
    assert not torch.equal(first[3][0], first[2][0])


def test_good_maps_come_first(structures):
    found = read_structures([structures])
    patches = SimulatedPatches(found, 7, 60, 32, 0.1, good_at_first=1.0)
    first = [patches.simulate(n).resolution_angstrom for n in range(6)]
    last = [patches.simulate(n).resolution_angstrom for n in range(40, 60)]
    assert max(first) < 2.9 < max(last)


def test_too_few_relatives_to_hold_out_are_said(tmp_path):
    write_helices(tmp_path / "few", SEQUENCES[:1])
    with pytest.raises(ValueError, match="hold out"):
        train_residue_detector.fn(str(tmp_path / "out"), TrainResidueDetectorParams(structures=[str(tmp_path / "few")]))
    assert not (tmp_path / "out").exists()
