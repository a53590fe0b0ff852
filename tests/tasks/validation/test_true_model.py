"""A model against the truth: what is built, of which type, and where."""

from dataclasses import replace

import pytest
import torch

from kernels.rotations import random_rotations
from tasks.validation.true_model import in_frame_of, model_figures
from tests.truth.cage_model import cage_subunit


def test_shares_count_what_is_there_and_of_the_right_type():
    truth = cage_subunit(60)
    kept = torch.arange(60) >= 15
    part = truth.take_residues(kept)
    changed = tuple(replace(r, name="TRP") if i < 9 else r for i, r in enumerate(part.residues))
    right = sum(r.name == "TRP" for r in part.residues[:9])
    found = model_figures(replace(part, residues=changed).at(part.coordinates_angstrom + 0.2), truth)
    assert found.built_share == pytest.approx(0.75)
    assert found.right_type_share == pytest.approx((45 - 9 + right) / 60)
    assert found.alpha_rmsd_angstrom == pytest.approx(0.2 * 3**0.5)
    assert found.wrong_share == 0
    far = model_figures(truth.at(truth.coordinates_angstrom + 60), truth)
    assert (far.built_share, far.wrong_share) == (0, 1)


@pytest.mark.parametrize("is_mirrored", [False, True])
def test_a_model_follows_its_map(is_mirrored):
    truth = cage_subunit(20)
    rotation = random_rotations(1, torch.Generator().manual_seed(4))[0].double()
    centre, own = (torch.tensor(v, dtype=torch.float64) for v in ([50.0, 60.0, 70.0], [10.0, 0.0, -5.0]))
    shift = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64)
    back = (truth.coordinates_angstrom - centre - shift) @ rotation
    model = truth.at((-back if is_mirrored else back) + own)
    moved = in_frame_of(model, own, rotation, shift, centre, is_mirrored)
    assert model_figures(moved, truth).alpha_rmsd_angstrom < 1e-5
