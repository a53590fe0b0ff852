"""A cavity that one state has is told as opened or closed, with its volume and the residues around it."""

import math

import pytest
import torch

from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.pockets import Probes
from kernels.models.rigid_domains import RigidDomains
from tasks.states.pocket_changes import pocket_changes
from tasks.states.same_residues import SameResidues
from tests.kernels.models.test_pockets import block

RADIUS = 4.0
VOLUME = 4 / 3 * math.pi * RADIUS**3


def model_of(atoms: torch.Tensor) -> AtomicModel:
    """Residues in slabs along x, of 4 Å."""
    slab = ((atoms[:, 2] - atoms[:, 2].min()) / 4).long()
    order = slab.argsort(stable=True)
    slab, n = slab[order], len(atoms)
    return AtomicModel(
        tuple(Residue("A", "ALA", i + 1) for i in range(int(slab.max()) + 1)), slab,
        tuple(f"C{i}" for i in order.tolist()), ("C",) * n, atoms[order], torch.ones(n), torch.ones(n),
    )  # fmt: skip


def changes(before: AtomicModel, after: AtomicModel):
    rows = torch.arange(before.n_residues)
    still = torch.eye(3, dtype=torch.float64)[None], torch.zeros(1, 1, 3, dtype=torch.float64)
    domains = RigidDomains(torch.zeros(len(rows), dtype=torch.int64), *still, 1.0, 0.0)
    return pocket_changes(before, after, SameResidues(rows, rows), domains, Probes())


def squeezed(model: AtomicModel, radius: float) -> AtomicModel:
    """The atoms around the middle moved inwards, so that the ball in it becomes smaller."""
    place = model.coordinates_angstrom
    length = place.norm(dim=1, keepdim=True)
    nearest = float(length.min())
    shorter = torch.where(length < nearest + 0.01, (radius + 1.7) / length, 1.0)
    return model.at(place * shorter)


def test_pockets_open_and_close_with_their_volume():
    wide = model_of(block(9.6, [((0, 0, 0), RADIUS)]))
    filled = squeezed(wide, 0.5)
    (closed,) = changes(wide, filled)
    assert closed.change == "closed"
    assert closed.volumes_angstrom3 == (pytest.approx(VOLUME, rel=0.04), 0.0)
    assert closed.lining[0].startswith("A/ALA") and len(closed.lining) >= 2
    assert math.dist(closed.centre_angstrom, (0, 0, 0)) < 0.3
    (opened,) = changes(filled, wide)
    assert opened.change == "opened" and opened.volumes_angstrom3[1] == closed.volumes_angstrom3[0]


def test_a_change_within_the_error_is_none():
    wide = model_of(block(9.6, [((0, 0, 0), RADIUS)]))
    (same,) = changes(wide, wide.at(wide.coordinates_angstrom + 0.31))
    assert same.change == "same"
    (smaller,) = changes(wide, squeezed(wide, 3.2))
    assert smaller.change == "smaller"
