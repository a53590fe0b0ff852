"""One command trains a network, and goes on where it was stopped."""

import json

import torch
from typer.testing import CliRunner

from flows.cli import app
from tests.truth.peptides import write_helices

_LETTERS = torch.randint(19, (40, 40), generator=torch.Generator().manual_seed(4)).tolist()


def test_a_training_is_one_command(connected, tmp_path):
    write_helices(tmp_path / "set", ["".join("ACDEFGHIKLMNQRSTVWY"[i] for i in letters) for letters in _LETTERS])
    out = tmp_path / "out"
    arguments = ["train", str(out), "--structures", str(tmp_path / "set"), "--set", "n_loaders=0"]
    arguments += ["--set", "batch_size=1", "--set", "patch_voxels=32", "--set", "n_scored_patches=1"]
    for n_steps in (1, 2):
        result = CliRunner().invoke(app, [*arguments, "--set", f"n_steps={n_steps}"], env={"COLUMNS": "300"})
        assert result.exit_code == 0, result.output
        assert json.loads((out / "residue_detector.jsonl").read_text().splitlines()[-1])["step"] == n_steps
    assert "alpha_f1" in result.output or "amino_acid_top1" in result.output
    assert (out / "residue_detector.safetensors").exists()


def test_side_chains_are_read_where_the_folders_own_network_finds_residues(connected, tmp_path):
    write_helices(tmp_path / "set", ["".join("ACDEFGHIKLMNQRSTVWY"[i] for i in letters) for letters in _LETTERS])
    out = tmp_path / "out"
    arguments = ["train", str(out), "--structures", str(tmp_path / "set"), "--network", "side-chains"]
    for change in ("n_loaders=0", "batch_size=1", "patch_voxels=32", "n_scored_patches=6", "n_steps=2"):
        arguments += ["--set", change]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    assert "together_top1" in result.output
    assert json.loads((out / "side_chain_reader.jsonl").read_text().splitlines()[-1])["step"] == 2
    (out / "residue_detector.safetensors").write_bytes(b"nothing")
    refused = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert refused.exit_code == 1
    assert "residue_detector.safetensors: holds no weights" in refused.output


def test_an_unknown_parameter_is_named(connected, tmp_path):
    arguments = ["train", str(tmp_path / "out"), "--structures", str(tmp_path), "--set", "n_step=1"]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert result.exit_code == 1
    assert "n_step" in result.output
