"""Predicted aligned errors in the files of the engines, as matrices over residues."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from tasks.formats import FormatError


def read_json(content: bytes, path: str) -> Any:
    """What a JSON file says.

    Raises
    ------
    FormatError
        Where it cannot be read.
    """
    try:
        return json.loads(content)
    except (ValueError, UnicodeDecodeError) as error:
        raise FormatError(f"{path}: is no JSON that can be read ({error}); fetch the file again") from error


def read_npz(content: bytes, path: str, name: str) -> Tensor:
    """One array of an npz file, as float32.

    Raises
    ------
    FormatError
        Where it cannot be read, or holds no such array.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as held:
            return torch.from_numpy(np.asarray(held[name], dtype=np.float32))
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise FormatError(f"{path}: holds no array {name!r} that can be read ({error}); predict again") from error


def predicted_error(told: Any, path: str) -> Tensor:
    """(residue, residue) Å of a JSON of AlphaFold DB, new or old, or of ColabFold.

    Raises
    ------
    FormatError
        Where it holds no square matrix of errors.
    """
    if isinstance(told, list) and len(told) == 1:
        told = told[0]
    if not isinstance(told, dict):
        raise _no_error(path, f"a JSON {type(told).__name__}")
    for name in ("predicted_aligned_error", "pae"):
        if name in told:
            return _square(told[name], path)
    if {"residue1", "residue2", "distance"} <= told.keys():
        n = math.isqrt(len(told["distance"]))
        if n * n != len(told["distance"]):
            raise _no_error(path, f"{len(told['distance'])} distances, which is no square number")
        values = torch.zeros(n, n)
        first, second = (torch.tensor(told[name]) - 1 for name in ("residue1", "residue2"))
        if min(int(first.min()), int(second.min())) < 0 or max(int(first.max()), int(second.max())) >= n:
            raise _no_error(path, f"{n * n} distances of residues up to {max(int(first.max()), int(second.max())) + 1}")
        values[first, second] = torch.tensor(told["distance"], dtype=torch.float32)
        return values
    raise _no_error(path, f"the names {', '.join(sorted(map(str, told))[:6])}")


def error_of_tokens(told: Any, model: AtomicModel, path: str) -> Tensor:
    """(residue, residue) Å of AlphaFold 3, whose tokens are residues, but atoms of ligands and of modified residues.

    Several tokens of a residue count by their mean.

    Raises
    ------
    FormatError
        Where tokens and residues of the model are not the same.
    """
    names = ("pae", "token_chain_ids", "token_res_ids")
    if not isinstance(told, dict) or any(name not in told for name in names):
        raise FormatError(
            f"{path}: found {', '.join(sorted(map(str, told))[:6])}; expected {', '.join(names)} as AlphaFold 3 writes"
            " them; fetch the zip again"
        )
    values = _square(told["pae"], path)
    tokens = list(zip(told["token_chain_ids"], told["token_res_ids"]))
    numbers = {(r.chain, r.number): i for i, r in enumerate(model.residues)}
    unknown = sorted({f"{chain}/{number}" for chain, number in tokens if (chain, number) not in numbers})
    if unknown or len(set(tokens)) != model.n_residues or len(tokens) != len(values):
        raise FormatError(
            f"{path}: PAE of {len(values)} tokens in {len(set(tokens))} residues"
            + (f" ({', '.join(unknown[:3])} are not in the model)" if unknown else "")
            + f", but the model has {model.n_residues}; give the files of one prediction"
        )
    residue = torch.tensor([numbers[token] for token in tokens])
    shares = torch.zeros(model.n_residues, len(tokens))
    shares[residue, torch.arange(len(tokens))] = 1.0
    shares = shares / shares.sum(1, keepdim=True)
    return shares @ values @ shares.T


def _square(rows: Any, path: str) -> Tensor:
    try:
        values = torch.tensor(np.asarray(rows, dtype=np.float32))
    except (ValueError, TypeError) as error:
        raise _no_error(path, "rows of different lengths") from error
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise _no_error(path, f"an array of {' x '.join(map(str, values.shape))}")
    if not bool(torch.isfinite(values).all()) or float(values.min()) < 0:
        raise _no_error(path, "values that are no distances")
    return values


def _no_error(path: str, found: str) -> FormatError:
    return FormatError(
        f"{path}: found {found}; expected a square matrix of predicted aligned errors (AlphaFold DB, ColabFold or"
        " AlphaFold 3); give the PAE that came with the model"
    )
