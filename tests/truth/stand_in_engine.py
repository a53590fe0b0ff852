"""A program that takes the command lines of Boltz and ColabFold and writes what they write, without predicting.

``python stand_in_engine.py boltz predict …`` or ``… colabfold …``: options are those of the real programs, and what
they do not know is an error, as it is there; templates are read by the rules of Boltz 2.2.1 and ColabFold 1.6.3. Every
chain comes out as a helix, or as the first of the states in the files ``STAND_IN_STATES``; with a template as the state
that is nearest to it, or furthest with ``STAND_IN_IS_CONTRARY``. With ``STAND_IN_IS_BLIND`` templates are passed over
without a word, as by versions that do not know them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import stat
import sys
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import torch
import yaml

from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.superposition import least_rmsd
from tasks.formats.structure import read_structure, write_structure
from tests.truth.peptides import helix

PLDDT = 71.5
_COLABFOLD_ASKS_FOR = (
    "_chem_comp.id",
    "_chem_comp.type",
    "_struct_asym.id",
    "_struct_asym.entity_id",
    "_entity_poly_seq.mon_id",
    "_pdbx_audit_revision_history.revision_date",
    "_atom_site.label_seq_id",
)

Shown = dict[int, tuple[float, float, float]]
"""Place in the sequence, from 1 -> Cα as x, y, z."""


def stand_in(engine: str) -> str:
    """Line of a shell that runs it as ``boltz`` or ``colabfold``, in an environment that is not its caller's."""
    return f'PYTHONPATH={Path(__file__).parents[2]} {sys.executable} -m tests.truth.stand_in_engine {engine} "$@"'


def command_of(path: Path, line: str) -> str:
    """A program of one line, as an engine's command is in another environment."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


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
    letters: dict[str, str] = {}
    for entry in document["sequences"]:
        ((kind, about),) = entry.items()
        if kind not in ("protein", "rna", "dna", "ligand"):
            sys.exit(f"invalid entity type: {kind}")
        if kind == "protein" and "msa" not in about and not given.use_msa_server:
            sys.exit("Missing MSA's in input and --use_msa_server flag not set.")
        names = about["id"] if isinstance(about["id"], list) else [about["id"]]
        if kind == "protein":
            letters |= dict.fromkeys(names, about["sequence"])
    stem = given.data.stem
    place = given.out_dir / f"boltz_results_{stem}"
    (place / "processed" / "templates").mkdir(parents=True)
    (place / "processed" / "manifest.json").write_text("{}")
    shown: dict[str, Shown] = {}
    if not os.environ.get("STAND_IN_IS_BLIND"):
        try:
            for template in document.get("templates", []):
                shown |= _boltz_template(template, letters)
                np.savez(place / "processed" / "templates" / f"{stem}_{Path(template['cif']).stem}.npz")
        except ValueError as error:  # the run goes on to the next input, and ends well
            print(f"Failed to process {given.data}. Skipping. Error: {error}.")
            return
    chains = [_chain(sequence, name, shown.get(name)) for name, sequence in letters.items()]
    place = place / "predictions" / stem
    place.mkdir(parents=True)
    for number in range(given.diffusion_samples):
        model = _confident(chains, PLDDT / 100)
        write_structure(place / f"{stem}_model_{number}.cif", model)
        told = {"confidence_score": 0.8 - 0.1 * number, "ptm": 0.8 - 0.1 * number, "iptm": 0.0, "complex_plddt": 0.715}
        (place / f"confidence_{stem}_model_{number}.json").write_text(json.dumps(told))
        if given.write_full_pae:
            np.savez_compressed(place / f"pae_{stem}_model_{number}.npz", pae=_error(model))


def _boltz_template(template: dict[str, object], letters: dict[str, str]) -> dict[str, Shown]:
    """Chains are those of the labels; a whole sequence is laid on the query without gaps, atoms on it by gemmi."""
    if unknown := set(template) - {"cif", "pdb", "chain_id", "template_id", "force", "threshold"}:
        raise ValueError(f"the stand-in does not know {unknown}")
    if template.get("force") and "threshold" not in template:
        raise ValueError("must have threshold specified if force is set to True")
    structure = gemmi.make_structure_from_block(gemmi.cif.read(str(template["cif"])).sole_block())
    structure.remove_hydrogens()
    entities = {name: entity for entity in structure.entities for name in entity.subchains}
    polymers = {one.subchain_id(): one for one in structure[0].subchains()}
    found = {}
    for chain, name in zip(template["chain_id"], template["template_id"], strict=True):
        if chain not in letters:
            raise ValueError(f"Chain {chain} assigned for template is not one of the protein chains!")
        if name not in polymers or entities[name].polymer_type != gemmi.PolymerType.PeptideL:
            raise ValueError(f"Template chain {name} is not one of the protein chains!")
        monomers, polymer = entities[name].full_sequence, polymers[name]
        start = letters[chain].find(gemmi.one_letter_code(monomers))
        if start < 0:
            raise ValueError("the sequences share no stretch without gaps")
        kind = entities[name].polymer_type
        result = gemmi.align_sequence_to_polymer(monomers, polymer, kind, gemmi.AlignmentScoring())
        rows, row = {}, 0
        for index, mark in enumerate(result.match_string):
            if mark == "|":
                rows[start + index + 1] = polymer[row].sole_atom("CA").pos.tolist()
                row += 1
        found[chain] = rows
    return found


def colabfold(arguments: list[str]) -> None:
    """``colabfold_batch``."""
    parser = argparse.ArgumentParser(prog="colabfold_batch")
    parser.add_argument("input", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--num-models", type=int, default=5, choices=[1, 2, 3, 4, 5])
    parser.add_argument("--random-seed", type=int, default=0)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--templates", action="store_true")
    parser.add_argument("--custom-template-path", type=Path)
    given = parser.parse_args(arguments)
    lines = [line for line in given.input.read_text().splitlines() if not line.startswith((">", "#"))]
    letters = lines[0] if given.input.suffix == ".a3m" else "".join(lines)
    parts = letters.split(":")
    given.results.mkdir(parents=True)
    stem = given.input.stem
    shown: dict[str, tuple[str, Shown]] = {}
    if given.templates and not os.environ.get("STAND_IN_IS_BLIND"):
        shown = _colabfold_templates(given.custom_template_path, parts)
    if given.templates:
        names = {"ABCDEFGH"[i]: [shown[part][0]] if part in shown else [] for i, part in enumerate(parts)}
        (given.results / f"{stem}_template_domain_names.json").write_text(json.dumps(names))
    for rank in range(1, given.num_models + 1):
        reads = len(parts) > 1 or rank <= 2  # the other networks for one chain have no weights for templates
        chains = [
            _chain(part, "ABCDEFGH"[i], shown[part][1] if part in shown and reads else None)
            for i, part in enumerate(parts)
        ]
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


def _colabfold_templates(folder: Path, queries: list[str]) -> dict[str, tuple[str, Shown]]:
    """Query -> the chain that is found for it: by the letters of residues that have atoms, of the authors' chains."""
    found = {}
    for path in sorted(folder.glob("*.cif")):
        if not re.fullmatch(r"[a-z0-9]{4}", path.stem):
            sys.exit(f"hit.name did not start with PDBID_chain: {path.stem}_A")
        block = gemmi.cif.read(str(path)).sole_block()
        for tag in _COLABFOLD_ASKS_FOR:
            if not block.find_values(tag):
                sys.exit(f"mmCIF file {path} is missing required field {tag}.")
        kinds = {row.str(0): row.str(1).lower() for row in block.find("_chem_comp.", ["id", "type"])}
        if not all(
            "peptide" in kinds[gemmi.cif.as_string(name)] for name in block.find_values("_entity_poly_seq.mon_id")
        ):
            sys.exit(f"{path}: no protein chains found in this file")
        for chain in gemmi.make_structure_from_block(block)[0]:
            own = gemmi.one_letter_code([residue.name for residue in chain])
            for query in queries:
                start = query.find(own)
                if start >= 0 and len(own) >= 0.1 * len(query):
                    alpha = {
                        start + i + 1: residue.sole_atom("CA").pos.tolist()
                        for i, residue in enumerate(chain)
                        if residue.find_atom("CA", "*")
                    }
                    found.setdefault(query, (f"{path.stem}_{chain.name}", alpha))
    return found


def _chain(letters: str, name: str, shown: Shown | None) -> AtomicModel:
    known = [read_structure(path) for path in os.environ.get("STAND_IN_STATES", "").split(os.pathsep) if path]
    states = [state for state in known if "".join(state.sequences.values()) == letters]
    if not states:
        return helix(letters, name)
    best = states[0]
    if shown:
        order = max if os.environ.get("STAND_IN_IS_CONTRARY") else min
        best = order(states, key=lambda state: _away(state, shown))
    return replace(best, residues=tuple(replace(residue, chain=name) for residue in best.residues))


def _away(state: AtomicModel, shown: Shown) -> float:
    """Root-mean-square distance of its Cα from those that are shown, as they are laid on each other best."""
    target = torch.tensor(list(shown.values()), dtype=torch.float64).flip(-1)
    return least_rmsd(state.positions("CA")[:, 0][torch.tensor(list(shown)) - 1], target)


def _confident(chains: list[AtomicModel], plddt: float) -> AtomicModel:
    model = joined(chains)
    return replace(model, b_factor_angstrom2=torch.full((len(model),), plddt))


def _error(model: AtomicModel) -> np.ndarray:
    at = np.arange(model.n_residues)
    return np.abs(at[:, None] - at[None]).astype(np.float32) * 0.5


if __name__ == "__main__":
    {"boltz": boltz, "colabfold": colabfold}[sys.argv[1]](sys.argv[2:])
