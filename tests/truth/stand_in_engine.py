"""A program that takes the command lines of Boltz and ColabFold and writes what they write, without predicting.

``python stand_in_engine.py boltz predict …`` or ``… colabfold …``: options are those of the real programs, and what
they do not know is an error, as it is there. Every chain comes out as a helix.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import yaml

from kernels.models.atomic_model import AtomicModel, joined
from tasks.formats.structure import write_structure
from tests.truth.peptides import helix

PLDDT = 71.5


def boltz(arguments: list[str]) -> None:
    """``boltz predict``, version 2."""
    parser = argparse.ArgumentParser(prog="boltz")
    parser.add_argument("verb", choices=["predict"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--out_dir", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--accelerator", choices=["gpu", "cpu", "tpu"], default="gpu")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--diffusion_samples", type=int, default=1)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--output_format", choices=["pdb", "mmcif"], default="mmcif")
    parser.add_argument("--write_full_pae", action="store_true")
    parser.add_argument("--use_msa_server", action="store_true")
    given = parser.parse_args(arguments)
    document = yaml.safe_load(given.data.read_text())
    if document["version"] != 1:
        sys.exit("version must be 1")
    chains = []
    for entry in document["sequences"]:
        ((kind, about),) = entry.items()
        if kind not in ("protein", "rna", "dna", "ligand"):
            sys.exit(f"invalid entity type: {kind}")
        if kind == "protein" and "msa" not in about and not given.use_msa_server:
            sys.exit("Missing MSA's in input and --use_msa_server flag not set.")
        names = about["id"] if isinstance(about["id"], list) else [about["id"]]
        if kind == "protein":
            chains += [helix(about["sequence"], name) for name in names]
    stem = given.data.stem
    place = given.out_dir / f"boltz_results_{stem}" / "predictions" / stem
    place.mkdir(parents=True)
    for number in range(given.diffusion_samples):
        model = _confident(chains, PLDDT / 100)
        write_structure(place / f"{stem}_model_{number}.cif", model)
        told = {"confidence_score": 0.8 - 0.1 * number, "ptm": 0.8 - 0.1 * number, "iptm": 0.0, "complex_plddt": 0.715}
        (place / f"confidence_{stem}_model_{number}.json").write_text(json.dumps(told))
        if given.write_full_pae:
            np.savez_compressed(place / f"pae_{stem}_model_{number}.npz", pae=_error(model))


def colabfold(arguments: list[str]) -> None:
    """``colabfold_batch``."""
    parser = argparse.ArgumentParser(prog="colabfold_batch")
    parser.add_argument("input", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--num-models", type=int, default=5, choices=[1, 2, 3, 4, 5])
    parser.add_argument("--random-seed", type=int, default=0)
    parser.add_argument("--data", type=Path)
    given = parser.parse_args(arguments)
    lines = [line for line in given.input.read_text().splitlines() if not line.startswith((">", "#"))]
    letters = lines[0] if given.input.suffix == ".a3m" else "".join(lines)
    chains = [helix(part, "ABCDEFGH"[i]) for i, part in enumerate(letters.split(":"))]
    given.results.mkdir(parents=True)
    stem = given.input.stem
    for rank in range(1, given.num_models + 1):
        name = f"rank_{rank:03d}_alphafold2_ptm_model_{rank}_seed_{given.random_seed:03d}"
        model = _confident(chains, PLDDT)
        write_structure(given.results / f"{stem}_unrelaxed_{name}.pdb", model)
        told = {
            "plddt": [PLDDT] * model.n_residues,
            "pae": _error(model).tolist(),
            "max_pae": 30.0,
            "ptm": 0.9 - rank / 10,
        }
        (given.results / f"{stem}_scores_{name}.json").write_text(json.dumps(told))
    (given.results / "log.txt").write_text("Done\n")


def _confident(chains: list[AtomicModel], plddt: float) -> AtomicModel:
    model = joined(chains)
    return replace(model, b_factor_angstrom2=torch.full((len(model),), plddt))


def _error(model: AtomicModel) -> np.ndarray:
    at = np.arange(model.n_residues)
    return np.abs(at[:, None] - at[None]).astype(np.float32) * 0.5


if __name__ == "__main__":
    {"boltz": boltz, "colabfold": colabfold}[sys.argv[1]](sys.argv[2:])
