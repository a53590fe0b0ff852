"""A model that is built anew inside of a mask, and wherever it is not trusted, as a trace."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel, Residue, joined
from kernels.models.neighbours import pairs_within
from kernels.models.residue_places import representatives
from kernels.models.residues import PROTEIN_BACKBONE
from tasks.formats.structure import chain_name

_SAME_ANGSTROM, _FEWEST_SAME = 3.0, 6
"""Residues of one number that stand where those of a chain do make two chains one."""
_OVERLAP_ANGSTROM = 2.5
_SURE = 100.0
"""B-factor that a trace has where it is sure."""


def part_anew(kept: AtomicModel, is_trusted: Tensor, made: AtomicModel, mask: DensityGrid) -> AtomicModel:
    """What is trusted of a model outside of a mask, amino acids without side chains, and another model around it.

    What is not trusted there stays where the other model has nothing. Chains of the other model that are chains of the
    first one go on with their names and numbers; all others get new names.

    Parameters
    ----------
    is_trusted
        (residue,) of the model that is kept.
    """
    names, is_outside = _names(kept, made), ~_is_inside(kept, mask)
    sure = kept.take_residues(is_outside & is_trusted)
    renamed = replace(made, residues=tuple(replace(residue, chain=names[residue.chain]) for residue in made.residues))
    renamed = renamed.take_residues(_has_room(renamed, sure))
    unsure = kept.take_residues(is_outside & ~is_trusted)
    unsure = unsure.take_residues(_has_room(unsure, renamed))
    whole = joined([_trace(sure), renamed, _trace(unsure)])
    order = sorted(range(whole.n_residues), key=lambda i: _key(whole.residues[i]))
    return whole.in_order(torch.tensor(order))


def _trace(model: AtomicModel) -> AtomicModel:
    """Without side chains, as sure as a trace can be."""
    atoms = [
        model.amino_acid[residue] < 0 or name in PROTEIN_BACKBONE
        for residue, name in zip(model.residue.tolist(), model.names)
    ]
    found = model.take(torch.tensor(atoms, dtype=torch.bool))
    return replace(found, b_factor_angstrom2=torch.full_like(found.b_factor_angstrom2, _SURE))


def _has_room(model: AtomicModel, other: AtomicModel) -> Tensor:
    """(residue,) whether it stands on no residue of the other model, and has a number that none of these has."""
    found = torch.ones(model.n_residues, dtype=torch.bool)
    found[_near(model, other, _OVERLAP_ANGSTROM)[0]] = False
    taken = {_key(residue) for residue in other.residues}
    return found & torch.tensor([_key(residue) not in taken for residue in model.residues], dtype=torch.bool)


def _near(model: AtomicModel, other: AtomicModel, radius_angstrom: float) -> tuple[Tensor, Tensor]:
    """(pair,) residues of both that are near to each other."""
    places = (representatives(model), representatives(other))
    known = [torch.nonzero(place.isfinite().all(-1)).squeeze(1) for place in places]
    i, j, _ = pairs_within(places[0][known[0]], places[1][known[1]], radius_angstrom)
    return known[0][i], known[1][j]


def _key(residue: Residue) -> tuple[int, str, int, str]:
    return len(residue.chain), residue.chain, residue.number, residue.insertion_code


def _is_inside(model: AtomicModel, mask: DensityGrid) -> Tensor:
    return mask.values_at(representatives(model).nan_to_num()) > 0.5


def _names(kept: AtomicModel, made: AtomicModel) -> dict[str, str]:
    """Chain of the other model -> that of the first one that it is, or a name that nothing has."""
    i, j = _near(made, kept, _SAME_ANGSTROM)
    votes = Counter(
        (made.residues[a].chain, kept.residues[b].chain)
        for a, b in zip(i.tolist(), j.tolist())
        if made.residues[a].number == kept.residues[b].number and made.residues[a].name == kept.residues[b].name
    )
    twin: dict[str, str] = {}
    for (name, known), n in votes.most_common():
        if n >= _FEWEST_SAME and name not in twin and known not in twin.values():
            twin[name] = known
    used = {residue.chain for residue in kept.residues}
    free = (name for name in map(chain_name, range(10**6)) if name not in used)
    return {name: twin.get(name) or next(free) for name in dict.fromkeys(r.chain for r in made.residues)}
