"""What residues of two models are compared by: their chain and number, their kind, and one place each."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel

_FIRST_BASE = 100


def chains_and_numbers(model: AtomicModel) -> tuple[Tensor, Tensor]:
    """(residue,) index of the chain, in the order of the file, and number."""
    index = {chain: i for i, chain in enumerate(dict.fromkeys(residue.chain for residue in model.residues))}
    told = [(index[residue.chain], residue.number) for residue in model.residues]
    return torch.tensor(told, dtype=torch.int64).reshape(-1, 2).unbind(1)  # type: ignore[return-value]


def residue_kinds(model: AtomicModel) -> Tensor:
    """(residue,) a number for each amino acid and base, -1 for what is neither."""
    base = torch.where(model.base >= 0, _FIRST_BASE + model.base, -1)
    return torch.where(model.amino_acid >= 0, model.amino_acid, base)


def representatives(model: AtomicModel) -> Tensor:
    """(residue, 3) CA, or C4' of nucleotides; NaN where a residue has neither."""
    own = model.positions("CA", "C4'")
    return torch.where(own[:, 0].isfinite(), own[:, 0], own[:, 1])


def places_of_residues(model: AtomicModel) -> Tensor:
    """(residue, 3) float64 `representatives`, the mean of its atoms where a residue has none."""
    own = representatives(model).double()
    total = torch.zeros_like(own).index_add_(0, model.residue, model.coordinates_angstrom.double())
    count = torch.bincount(model.residue, minlength=model.n_residues).clamp(min=1)
    return torch.where(own.isfinite(), own, total / count[:, None])


def registers(
    votes: tuple[Tensor, Tensor], first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """How chains of two models may be numbered alike, and how many pairs of residues speak for it.

    Parameters
    ----------
    votes
        (pair,) residues of the first model, and residues of the second that they may stand for.
    first, second
        `chains_and_numbers` of the models.

    Returns
    -------
    (register, 3) chain of the first model, chain of the second, and what is added to the first one's numbers to have
    the second one's, in rising order; and (register,) votes.
    """
    i, j = votes
    told = torch.stack([first[0][i], second[0][j], second[1][j] - first[1][i]], 1)
    return torch.unique(told, dim=0, return_counts=True)  # type: ignore[return-value]
