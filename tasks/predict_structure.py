"""Structures as an engine predicts them, or as files tell that one has."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, field_validator, model_validator

from tasks.building.sequences import told_kind
from tasks.formats import FormatError
from tasks.formats.content_digest import content_digest
from tasks.formats.prediction import Prediction, read_predictions
from tasks.prediction.boltz import Boltz
from tasks.prediction.colabfold import ColabFold
from tasks.prediction.engine import Engine, EnginePlace, predicted
from tasks.prediction.request import Request, chains_of, ligands_of
from tasks.prediction.templates import templates_of
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.model_store import read_model
from tasks.stores.products.prediction_store import write_predictions
from tasks.stores.products.validation_store import read_validation
from tasks.stores.session_store import SessionStore
from tasks.workers.device import device
from tasks.workers.stage import Stage, run_stage

_ENGINES: dict[str, Engine] = {"boltz": Boltz(), "colabfold": ColabFold()}
_PROGRAMS = {"boltz": "boltz", "colabfold": "colabfold_batch"}
_SAME_SHARE = 0.9
"""Of a sequence's letters in a prediction of the same protein: constructs differ by tags and a mutation."""


class PredictStructureParams(StageParams):
    """What is predicted, and by whom; or where a prediction lies."""

    name: str = Field(default="predicted", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Of the product."""
    file: str | None = None
    """A model, folder or zip that an engine wrote; without it the engine is run."""
    pae: str | None = None
    """Predicted aligned errors for a single model."""
    engine: Literal["boltz", "colabfold"] = "boltz"
    sequences: tuple[str, ...] = ()
    """One-letter codes; ``rna:`` or ``dna:`` in front says what it is. Beside a file, what it has to be a prediction
    of."""
    copies: tuple[int, ...] | None = None
    """Of each sequence; None for one each."""
    ligands: tuple[str, ...] = ()
    """Codes of the PDB's dictionary, or SMILES with ``smiles:`` in front."""
    alignments: tuple[str, ...] = ()
    """Paths of a3m files, for the first sequences."""
    program: str | None = None
    """Path of the engine's command, in an environment of its own; None for its usual name on the search path."""
    weights: str | None = None
    """Folder of its weights; None for the place that it takes itself."""
    is_server_asked: bool = False
    """Whether the engine may send sequences to a public server, which aligns them."""
    template: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Name of a model in the store that the engine is shown; of its residues those that its validation trusts."""
    most_from_template_angstrom: float | None = Field(default=None, gt=0)
    """How far the prediction may be from it, where the engine is Boltz; None for as far as it finds right."""
    n_samples: int = Field(default=5, ge=1, le=100)
    seed: int = Field(default=0, ge=0)
    seconds: float = Field(default=4 * 3600.0, gt=0)
    """Most that the engine may take."""

    @field_validator("alignments")
    @classmethod
    def _are_there(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            if path and not Path(path).is_file():
                raise ValueError(f"{path}: there is no such file; give an alignment in a3m format")
        return paths

    @model_validator(mode="after")
    def _is_asked(self) -> PredictStructureParams:
        if self.file is None:
            chains_of(self.sequences, self.copies, self.alignments)
            ligands_of(self.ligands)
        elif self.template is not None:
            raise ValueError(
                f"{self.file}: is a prediction that was made already, which cannot be shown models/{self.template};"
                " leave it out to have an engine run"
            )
        elif not Path(self.file).exists():
            raise ValueError(f"{self.file}: is not there; give a model file, or the folder or zip of a prediction")
        if self.most_from_template_angstrom is not None and self.template is None:
            raise ValueError("found `most_from_template_angstrom` without a `template`; name the model to be near to")
        return self


class _ContentParams(PredictStructureParams):
    """With what the files hold, so that another content under the same name is another input."""

    digests: tuple[str, ...]


@task(name="predict_structure", cache_policy=NO_CACHE)
def predict_structure(session_url: str, params: PredictStructureParams) -> StageReport:
    """``predictions/<name>``: structures with pLDDT from 0 to 100, PAE in Å, and where they come from.

    An engine runs as a program of its own in its own environment, with a GPU where the worker has one; its memory is
    that of its manual. With a template it is shown what was fitted to a map; ``template`` in the record says what of
    which chain. Reading files takes 10 bytes a pair of residues.
    """
    given = [Path(path) for path in (params.file, params.pae, *params.alignments) if path]
    digests = tuple(content_digest(*_files(path), remedy="give what an engine wrote") for path in given)
    content = _ContentParams(digests=digests, **params.model_dump())
    item = f"predictions/{params.name}" + (f"{_SHOWN}{params.template}" if params.template else "")
    return run_stage(session_url, _reading if params.file else _prediction, [item], content)


def _files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


_SHOWN = " with "
"""In an item, before the name of the template."""


def _inputs(_store: SessionStore, item: str) -> list[str]:
    template = item.partition(_SHOWN)[2]
    return [f"models/{template}", f"validations/{template}"] if template else []


def _address(item: str) -> str:
    return item.partition(_SHOWN)[0]


def _read(_store: SessionStore, _item: str, params: _ContentParams, attempt: Attempt) -> None:
    assert params.file is not None
    found = read_predictions(params.file, params.pae)
    _check_sequences(found[0], params)
    write_predictions(attempt, found)


def _predict(store: SessionStore, _item: str, params: _ContentParams, attempt: Attempt) -> None:
    request = Request(
        params.name,
        chains_of(params.sequences, params.copies, params.alignments),
        ligands_of(params.ligands),
        params.n_samples,
        params.seed,
        most_from_template_angstrom=params.most_from_template_angstrom,
    )
    if params.template is not None:
        request = _with_template(store, params.template, request, attempt)
    place = EnginePlace(
        params.program or _PROGRAMS[params.engine],
        None if params.weights is None else Path(params.weights),
        params.is_server_asked,
        device().type != "cpu",
        params.seconds,
    )
    with tempfile.TemporaryDirectory(prefix="prediction-") as folder:
        found = predicted(_ENGINES[params.engine], request, place, Path(folder))
    _check_sequences(found[0], params)
    told = {"template": params.template}
    write_predictions(attempt, [replace(one, source=one.source.model_copy(update=told)) for one in found])


def _with_template(store: SessionStore, name: str, request: Request, attempt: Attempt) -> Request:
    """The request with what is shown of a model, which goes into the record."""
    model, judged = read_model(store, name), read_validation(store, name)
    of = store.product(f"validations/{name}").done_record(f"validation of {name!r}").inputs.get(f"models/{name}")
    if of != store.product(f"models/{name}").done_record(f"model {name!r}").fingerprint:
        raise ValueError(f"validations/{name} is of an earlier models/{name}; run validate_model again")
    trusted = {(r.chain, r.number, r.insertion_code) for r in judged.residues if r.verdict == "trust"}
    is_trusted = torch.tensor([(r.chain, r.number, r.insertion_code) in trusted for r in model.residues])
    templates, sources = templates_of(model, is_trusted, request, f"models/{name}")
    attempt.details["template"] = {
        "model": name,
        "chains": [
            {"chain": one.name, "of": sources[one.name], "shown": one.model.n_residues, "residues": len(one.letters)}
            for one in templates
        ],
    }
    attempt.figures["template"] = name
    return replace(request, templates=templates)


def _check_sequences(prediction: Prediction, params: PredictStructureParams) -> None:
    """Raise FormatError where a sequence that was given is none of the prediction's."""
    chains = prediction.structure.model.sequences
    for number, given in enumerate(params.sequences, start=1):
        kind, letters = told_kind(given)
        told = letters if kind == "protein" else letters.replace("T", "U").lower()  # as `sequences` tells bases
        best = max((_shared(told, chain) for chain in chains.values()), default=0.0)
        if best < _SAME_SHARE:
            raise FormatError(
                f"sequence {number} ({letters[:12]}…, {len(letters)} residues) is none of the prediction's: the most"
                f" like one shares {best:.0%} of it, expected {_SAME_SHARE:.0%} (the prediction has "
                + ", ".join(f"{name}: {chain[:12]}…, {len(chain)}" for name, chain in list(chains.items())[:4])
                + "); give a prediction of this protein, or its sequence"
            )


def _shared(first: str, second: str) -> float:
    """Share of the letters that agree where two sequences are laid on each other without gaps, as well as they go."""
    short, long = sorted((first, second), key=len)
    if not short:
        return 0.0
    a = torch.tensor([ord(c) for c in short])
    b = torch.tensor([ord(c) for c in long])
    pad = len(short) - len(short) // 2  # either may hang over by half
    padded = torch.nn.functional.pad(b, (pad, pad), value=0)
    windows = padded.unfold(0, len(short), 1)
    overlap = (windows != 0).sum(1).clamp(min=1)
    return float(((windows == a).sum(1) / overlap).max())


_reading = Stage("predict_structure", 1, "CPU", _read, _inputs, _address)
_prediction = Stage("predict_structure", 1, "GPU", _predict, _inputs, _address)
