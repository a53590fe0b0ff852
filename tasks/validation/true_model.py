"""A model compared, residue by residue, with the structure that its map was simulated from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.scores import matched_points

_REACH_ANGSTROM = 3.0


@dataclass(frozen=True)
class ModelFigures:
    """How much of the true structure a model has."""

    built_share: float
    """Of the true residues: with a residue of the model, one-to-one, its Cα within 3 Å."""
    right_type_share: float
    """Of the true residues: with one of the same amino acid there."""
    alpha_rmsd_angstrom: float
    """Over those that are built."""
    wrong_share: float
    """Of the model's residues: with no true residue within 3 Å."""


def model_figures(model: AtomicModel, truth: AtomicModel) -> ModelFigures:
    """Both in one frame, all copies of each."""
    is_protein, is_true = model.amino_acid >= 0, truth.amino_acid >= 0
    found, true = model.positions("CA")[is_protein, 0], truth.positions("CA")[is_true, 0]
    match = matched_points(found, true, _REACH_ANGSTROM)
    matched = match >= 0
    same = model.amino_acid[is_protein][matched] == truth.amino_acid[is_true][match[matched]]
    apart = (found[matched] - true[match[matched]]).norm(dim=-1)
    return ModelFigures(
        built_share=_share(matched.sum(), len(true)),
        right_type_share=_share(same.sum(), len(true)),
        alpha_rmsd_angstrom=float(apart.square().mean().sqrt()) if len(apart) else float("nan"),
        wrong_share=_share((~matched).sum(), len(found)),
    )


def _share(count: Tensor, total: int) -> float:
    return float(count) / max(1, total)


def in_frame_of(
    model: AtomicModel,
    own_centre: Tensor,
    rotation: Tensor,
    shift_angstrom: Tensor,
    centre: Tensor,
    is_mirrored: bool = False,
) -> AtomicModel:
    """A model moved as its map was to lie over another one: about both maps' centres (3,), in Å.

    A map that had to be mirrored for it mirrors the model as well.
    """
    from_centre = model.coordinates_angstrom - own_centre
    turned = (-from_centre if is_mirrored else from_centre) @ rotation.double().T
    return model.at(turned + shift_angstrom.double() + centre)
