"""Predicted structures as AlphaFold DB, AlphaFold Server, ColabFold, Boltz, ESMFold and RoseTTAFold write them.

pLDDT comes out from 0 to 100 and PAE in Å, whatever the file says; where a file comes from is kept.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import gemmi
import torch
from torch import Tensor

from kernels.models.predicted_structure import PredictedStructure
from tasks.formats import FormatError
from tasks.formats.predicted_error import (
    error_of_tokens,
    predicted_error,
    read_json,
    read_npz,
)
from tasks.formats.structure import parse_structure
from tasks.records.prediction import PredictionSource

_SERVER_TERMS = "AlphaFold Server output terms of use (no commercial use)"
_ALPHAFOLD_2_TERMS = "weights of AlphaFold 2: CC-BY-4.0"
_SAME = 1e-3
_NO_PLDDT_SHARE = 0.5
"""Of residues whose atoms have B-factors of their own: engines before AlphaFold 3 give one value to a residue."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What an engine predicted, and where that comes from."""

    structure: PredictedStructure
    source: PredictionSource


@dataclass(frozen=True)
class _Files:
    """Files of one prediction, in a folder or a zip."""

    place: str
    content: Mapping[str, Callable[[], bytes]]
    """By name, without folders."""

    def read(self, name: str, digests: dict[str, str]) -> bytes:
        content = self.content[name]()
        digests[name] = sha256(content).hexdigest()
        return content

    def path(self, name: str) -> str:
        return f"{self.place}/{name}"


def read_predictions(path: Path | str, pae: Path | str | None = None) -> list[Prediction]:
    """All predictions of a file, a folder or a zip, the best first.

    Parameters
    ----------
    path
        A PDB or mmCIF file with pLDDT in place of B-factors; or a folder or zip as AlphaFold Server, AlphaFold 3,
        ColabFold or Boltz write it.
    pae
        JSON (AlphaFold DB, ColabFold, AlphaFold 3) or npz (Boltz) for a single file; beside a file of AlphaFold DB it
        is found by its name.

    Raises
    ------
    FormatError
        Where nothing is there that can be read, a file is cut short, B-factors are no pLDDT, or the PAE is of another
        length.
    """
    path = Path(path)
    if path.is_file() and not zipfile.is_zipfile(path):
        return [_single(path, None if pae is None else Path(pae))]
    if pae is not None:
        raise FormatError(
            f"{pae}: is given beside {path}, which holds PAE of its own; give it with a single model only"
        )
    files = _files(path)
    for pattern, read in _LAYOUTS:
        matches = sorted((m for name in files.content if (m := pattern.fullmatch(name))), key=lambda m: m.string)
        found = [prediction for match in matches if (prediction := read(files, match)) is not None]
        if found:
            found.sort(key=lambda p: (p.source.rank, -float(p.structure.plddt.mean())))
            return [replace(p, source=p.source.model_copy(update={"rank": rank})) for rank, p in enumerate(found)]
    raise FormatError(
        f"{path}: holds no predictions ({', '.join(sorted(files.content)[:5]) or 'no files'}); expected what AlphaFold"
        " Server (*_model_0.cif, *_full_data_0.json), AlphaFold 3 (*_model.cif, *_confidences.json), ColabFold"
        " (*_rank_001_*.pdb, *_scores_rank_001_*.json) or Boltz (*_model_0.cif, confidence_*_model_0.json) write; or"
        " give one model file"
    )


def _files(path: Path) -> _Files:
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file())
        return _Files(str(path), {p.name: p.read_bytes for p in found})
    if not path.exists():
        raise FormatError(f"{path}: is not there; give a model file, or the folder or zip of a prediction")
    archive = path.read_bytes()

    def reader(name: str) -> Callable[[], bytes]:
        def read() -> bytes:
            try:
                with zipfile.ZipFile(io.BytesIO(archive)) as held:
                    return held.read(name)
            except (zipfile.BadZipFile, OSError, EOFError) as error:
                raise FormatError(f"{path}/{name}: cannot be unpacked ({error}); fetch the zip again") from error

        return read

    with zipfile.ZipFile(io.BytesIO(archive)) as held:
        names = [name for name in held.namelist() if not name.endswith("/")]
    return _Files(str(path), {Path(name).name: reader(name) for name in names})


def _single(path: Path, pae: Path | None) -> Prediction:
    digests: dict[str, str] = {}
    content = path.read_bytes()
    digests[path.name] = sha256(content).hexdigest()
    engine, version, licence, is_declared = _declared(content, path)
    structure = _structure(content, str(path), is_declared)
    if pae is None:
        pae = next((p for p in _neighbours(path) if p.exists()), None)
    if pae is not None:
        held = pae.read_bytes()
        digests[pae.name] = sha256(held).hexdigest()
        values = (
            read_npz(held, str(pae), "pae")
            if pae.suffix == ".npz"
            else predicted_error(read_json(held, str(pae)), str(pae))
        )
        structure = _with_error(structure, values, str(pae), str(path))
    return Prediction(structure, PredictionSource(engine=engine, version=version, licence=licence, sha256=digests))


def _neighbours(path: Path) -> Iterator[Path]:
    """Where AlphaFold DB puts the PAE of a model."""
    entry = re.fullmatch(r"(AF-.+-F\d+)-model_(v\d+)\.(cif|pdb)", path.name)
    if entry:
        yield path.with_name(f"{entry[1]}-predicted_aligned_error_{entry[2]}.json")


def _declared(content: bytes, path: Path) -> tuple[str, str | None, str | None, bool]:
    """Engine, version and licence that a file tells, and whether it says that its B-factors are pLDDT."""
    if path.suffix.lower() not in (".cif", ".mmcif"):
        text = content[:4000].decode(errors="replace")
        for engine, mark in (
            ("AlphaFold DB", "ALPHAFOLD MONOMER"),
            ("ESMFold", "ESMFOLD"),
            ("RoseTTAFold", "ROSETTAFOLD"),
        ):
            if mark in text.upper():
                return engine, None, "CC-BY-4.0" if engine == "AlphaFold DB" else None, True
        return "unknown", None, None, False
    try:
        block = gemmi.cif.read_string(content.decode()).sole_block()
    except (RuntimeError, ValueError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: is no mmCIF that can be read ({error}); fetch the file again") from error
    metrics = [value.strip("'\"") for value in block.find_values("_ma_qa_metric.name")]
    licence = [gemmi.cif.as_string(v) for v in block.find_values("_pdbx_data_usage.name")]
    model = [gemmi.cif.as_string(v) for v in block.find_values("_ma_model_list.model_group_name")]
    engine = "AlphaFold DB" if block.name.startswith("AF-") else "unknown"
    return engine, model[0] if model else None, licence[0] if licence else None, "pLDDT" in metrics


def _structure(content: bytes, path: str, is_declared: bool) -> PredictedStructure:
    """Atoms and pLDDT of a model file."""
    model = parse_structure(content, path)
    value = model.b_factor_angstrom2.double()
    n_atoms = torch.bincount(model.residue, minlength=model.n_residues)
    if not is_declared:
        first = value[torch.searchsorted(model.residue, torch.arange(model.n_residues))]
        differs = (value - first[model.residue]).abs() > _SAME
        share = len(torch.unique(model.residue[differs])) / model.n_residues
        if share > _NO_PLDDT_SHARE:
            raise FormatError(
                f"{path}: B-factors differ between atoms of {share:.0%} of the residues, as those of an experiment do;"
                " expected pLDDT, one value for a residue; give the file that the engine wrote, with its folder or zip"
                " where it is of AlphaFold 3"
            )
        if float(value.max() - value.min()) < _SAME:
            raise FormatError(
                f"{path}: all B-factors are {float(value[0]):g}; expected pLDDT, which differs along a chain; give the"
                " file that the engine wrote"
            )
    low, high = float(value.min()), float(value.max())
    if not (low >= 0 and high <= 100):
        raise FormatError(
            f"{path}: B-factors are between {low:.1f} and {high:.1f}; expected pLDDT, from 0 to 100 (or to 1); give the"
            " file that the engine wrote"
        )
    plddt = value.new_zeros(model.n_residues).index_add_(0, model.residue, value) / n_atoms
    if high <= 1:
        plddt = 100 * plddt
    bare = replace(model, b_factor_angstrom2=torch.zeros_like(model.b_factor_angstrom2))
    return PredictedStructure(bare, plddt.float(), None)


def _with_error(structure: PredictedStructure, values: Tensor, path: str, model: str) -> PredictedStructure:
    n = structure.model.n_residues
    if tuple(values.shape) != (n, n):
        raise FormatError(
            f"{path}: PAE of {' x '.join(map(str, values.shape))} residues, but {model} has {n}; give the PAE of the"
            " same prediction"
        )
    return replace(structure, pae_angstrom=values)


def _of_alphafold_3(files: _Files, match: re.Match[str]) -> Prediction | None:
    """AlphaFold Server (numbered), or the program itself."""
    stem, number = match["stem"], match["number"]
    names = (
        (f"{stem}_confidences.json", f"{stem}_summary_confidences.json")
        if number is None
        else (f"{stem}_full_data_{number}.json", f"{stem}_summary_confidences_{number}.json")
    )
    if names[0] not in files.content:
        return None
    digests: dict[str, str] = {}
    structure = _structure(files.read(match.string, digests), files.path(match.string), True)
    full = read_json(files.read(names[0], digests), files.path(names[0]))
    structure = _with_error(
        structure, error_of_tokens(full, structure.model, files.path(names[0])), files.path(names[0]), match.string
    )
    summary = read_json(files.read(names[1], digests), files.path(names[1])) if names[1] in files.content else {}
    engine = "AlphaFold 3" if number is None else "AlphaFold Server"
    source = PredictionSource(engine=engine, licence=_SERVER_TERMS, rank=int(number or 0), sha256=digests)
    return Prediction(replace(structure, ptm=_number(summary, "ptm"), iptm=_number(summary, "iptm")), source)


def _of_colabfold(files: _Files, match: re.Match[str]) -> Prediction | None:
    scores = f"{match['stem']}_scores_rank_{match['rank']}_{match['model']}.json"
    if scores not in files.content:
        return None
    relaxed = f"{match['stem']}_relaxed_rank_{match['rank']}_{match['model']}.pdb"
    if match["kind"] == "unrelaxed" and relaxed in files.content:
        return None
    digests: dict[str, str] = {}
    structure = _structure(files.read(match.string, digests), files.path(match.string), True)
    told = read_json(files.read(scores, digests), files.path(scores))
    if "pae" in told:
        error = predicted_error(told, files.path(scores))
        structure = _with_error(structure, error, files.path(scores), match.string)
    source = PredictionSource(
        engine="ColabFold",
        version=match["model"],
        licence=_ALPHAFOLD_2_TERMS,
        rank=int(match["rank"]) - 1,
        sha256=digests,
    )
    return Prediction(replace(structure, ptm=_number(told, "ptm"), iptm=_number(told, "iptm")), source)


def _of_boltz(files: _Files, match: re.Match[str]) -> Prediction | None:
    name = f"{match['stem']}_model_{match['number']}"
    confidence, error = f"confidence_{name}.json", f"pae_{name}.npz"
    if confidence not in files.content:
        return None
    digests: dict[str, str] = {}
    structure = _structure(files.read(match.string, digests), files.path(match.string), True)
    told = read_json(files.read(confidence, digests), files.path(confidence))
    if error in files.content:
        values = read_npz(files.read(error, digests), files.path(error), "pae")
        structure = _with_error(structure, values, files.path(error), match.string)
    source = PredictionSource(engine="Boltz", licence="MIT", rank=int(match["number"]), sha256=digests)
    return Prediction(replace(structure, ptm=_number(told, "ptm"), iptm=_number(told, "iptm")), source)


def _number(told: Mapping[str, Any], name: str) -> float | None:
    value = told.get(name)
    return None if value is None else float(value)


_Reader = Callable[[_Files, "re.Match[str]"], "Prediction | None"]
_LAYOUTS: tuple[tuple[re.Pattern[str], _Reader], ...] = (
    (re.compile(r"(?P<stem>.+)_model(?:_(?P<number>\d+))?\.cif"), _of_alphafold_3),
    (
        re.compile(r"(?P<stem>.+)_(?P<kind>relaxed|unrelaxed)_rank_(?P<rank>\d+)_(?P<model>.+)\.pdb"),
        _of_colabfold,
    ),
    (re.compile(r"(?P<stem>.+)_model_(?P<number>\d+)\.(?:cif|pdb)"), _of_boltz),
)
