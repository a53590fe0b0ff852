"""A copy that the search has not found is placed where the others say, if the density agrees."""

import torch

from kernels.models.atomic_model import joined
from kernels.models.mates import Mates, copies
from kernels.models.residue_places import places_of_residues
from kernels.models.superposition import rmsd
from kernels.rotations import symmetry_group
from tasks.docking.hits import Hit, Scene
from tasks.docking.symmetry import completed, confirmed
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
                0.2,
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


def test_hits_that_obey_one_symmetry_with_a_believed_one_confirm_each_other():
    unit = cage_subunit(45)
    centred = unit.at(unit.coordinates_angstrom - unit.coordinates_angstrom.mean(0) + torch.tensor([0.0, 10.0, 40.0]))
    mates = Mates(symmetry_group("C5"), torch.zeros(3, dtype=torch.float64))
    target, zero = target_of_model("unit", centred, None), torch.zeros(3, dtype=torch.float64)

    def hit(turn, shift, correlation):
        places = places_of_residues(centred) @ turn.T + shift
        return Hit(None, turn, shift, correlation, 0.2, 6.0, 0.1, 0.6, 0.3, (correlation,), places)

    ring = [hit(turn, zero, 0.5) for turn in mates.rotation]
    stray = hit(mates.rotation[1], torch.tensor([90.0, 3.0, 0.0], dtype=torch.float64), 0.5)
    poor = hit(mates.rotation[4], zero, 0.3)
    found = confirmed(target, [(ring[0],)], [*ring[1:4], stray, poor])
    assert len(found) == 3 and all(one.is_from_symmetry for one in found)
    assert confirmed(target, [(ring[0],)], [stray]) == []
    assert confirmed(target_of_model("unit", centred, 1), [(ring[0],)], ring[1:]) == []
