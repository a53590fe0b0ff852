"""A copy that the search has not found is placed where the others say, if the density agrees."""

import torch

from kernels.models.atomic_model import joined
from kernels.models.mates import Mates, copies
from kernels.models.rigid_body import places_of_residues
from kernels.models.superposition import rmsd
from kernels.rotations import symmetry_group
from tasks.docking.hits import Hit, Scene
from tasks.docking.symmetry import completed
from tasks.docking.targets import target_of_model
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps


def test_the_third_of_a_ring_is_completed_and_a_fourth_copy_is_not_asked_for():
    unit = cage_subunit(45)
    away = torch.tensor([0.0, 10.0, 16.0], dtype=torch.float64)
    unit = unit.at(unit.coordinates_angstrom - unit.coordinates_angstrom.mean(0) + away)
    mates = Mates(symmetry_group("C3"), torch.zeros(3, dtype=torch.float64))
    ring = copies(unit, mates)
    scene = Scene(simulated_maps(joined(ring), 6.0, 2.0, 8.0).sharpened, None, 6.0)
    target = target_of_model("unit", unit, None)
    known = [
        (
            Hit(
                None,
                turn,
                torch.zeros(3, dtype=torch.float64),
                0.8,
                0.3,
                8.0,
                1.0,
                1.0,
                (0.8,),
                places_of_residues(one),
            ),
        )
        for turn, one in zip(mates.rotation[:2], ring)
    ]
    found = completed(scene, target, known, 0.5)
    assert found.symmetry is not None and found.symmetry.name == "C3"
    assert (found.symmetry.n_copies, found.symmetry.n_completed) == (3, 1)
    (third,) = found.copies[2]
    assert third.is_from_symmetry and rmsd(third.places, places_of_residues(ring[2])) < 1.0
    limited = completed(scene, target_of_model("unit", unit, 2), known, 0.5)
    assert len(limited.copies) == 2 and limited.symmetry.name == "C3"
    empty = Scene(simulated_maps(joined(ring[:2]), 6.0, 2.0, 8.0).sharpened, None, 6.0)
    assert len(completed(empty, target, known, 0.5).copies) == 2
