"""Models that are wrong in one known way each."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from kernels.models.all_atoms import bare_model
from kernels.models.atomic_model import AtomicModel
from kernels.models.real_space import density_target
from kernels.models.residues import AMINO_ACIDS, PROTEIN_BACKBONE
from kernels.models.side_chains import with_side_chains
from kernels.models.torsions import backbone_torsions, conformation
from tests.truth.model_maps import SimulatedMaps


def with_flipped_peptide(model: AtomicModel, residue: int) -> AtomicModel:
    """C and O of a residue and N of the next turned half about the line between both Cα."""
    place = model.coordinates_angstrom.clone()
    first, second = (model.positions("CA")[residue + step, 0] for step in (0, 1))
    axis = torch.nn.functional.normalize(second - first, dim=0)
    for row, name in ((residue, "C"), (residue, "O"), (residue + 1, "N")):
        atom = int(model.atom(name)[row, 0])
        arm = place[atom] - first
        place[atom] = first + 2 * (arm @ axis) * axis - arm
    return model.at(place)


def with_shifted_sequence(maps: SimulatedMaps, first: int, end: int, shift: int) -> AtomicModel:
    """The types of residues further on in a stretch, their side chains as the density likes them best."""
    truth = maps.model
    source = torch.arange(truth.n_residues)
    source[first:end] += shift
    types = truth.amino_acid[source]
    residues = tuple(replace(r, name=AMINO_ACIDS[t]) for r, t in zip(truth.residues, types.tolist()))
    backbone = truth.positions(*PROTEIN_BACKBONE)
    turned = conformation(backbone_torsions(bare_model(backbone, residues)))
    density = density_target(maps.sharpened, backbone[:, 1])
    return with_side_chains(backbone, residues, types, turned, density)


def doubtful_about(model: AtomicModel, *rows: int) -> Tensor:
    """(residue,) whether it is one of these."""
    found = torch.zeros(model.n_residues, dtype=torch.bool)
    found[list(rows)] = True
    return found
