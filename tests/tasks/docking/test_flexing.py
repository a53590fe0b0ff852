"""A hinge is closed where the map shows it closed; a right model, and one of another protein, stay as they are."""

import math
from dataclasses import replace

import pytest
import torch

from kernels.models.atomic_model import joined
from kernels.models.geometry import backbone_deviations
from kernels.rotations import from_rotation_vector
from tasks.docking import flexing
from tasks.docking.flexing import flexed
from tests.truth.bent_models import hinge_moved
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps

RESOLUTION = 7.0


@pytest.fixture(scope="module")
def case():
    """A subunit in noisy half maps, and the same with its hinge turned by 5 Å RMSD."""
    maps = simulated_maps(cage_subunit(110), RESOLUTION, 2.3, padding_angstrom=18.0, seed=3)
    return maps, hinge_moved(maps.model, 5.0, torch.Generator().manual_seed(1))


def rmsd(a, b) -> float:
    return float((a.positions("CA") - b.positions("CA")).square().sum(-1).mean().sqrt())


@pytest.mark.parametrize("is_halved", [True, False])
def test_a_hinge_is_closed(case, is_halved):
    maps, bent = case
    assert rmsd(bent, maps.model) == pytest.approx(5.0, abs=0.5)
    found = flexed(bent, maps.sharpened, RESOLUTION, halves=(maps.half_1, maps.half_2) if is_halved else None)
    assert found.is_kept
    assert rmsd(found.model, maps.model) < 1.0
    assert found.correlation > found.correlation_before + 0.1
    assert found.free_correlation > found.free_correlation_before + 0.2
    bonds, angles = backbone_deviations(found.model)
    assert float(bonds[torch.isfinite(bonds)].square().mean().sqrt()) < 1
    assert float(angles[torch.isfinite(angles)].square().mean().sqrt()) < 1.5


def test_what_could_be_chance_is_told_by_the_mirror_image(case, monkeypatch):
    """As of a structure that is built otherwise in the map: its share is as small as that of a wrong one."""
    maps, bent = case
    monkeypatch.setattr(flexing, "_CLEAR_SHARE", 1.1)
    found = flexed(bent, maps.sharpened, RESOLUTION, halves=(maps.half_1, maps.half_2))
    assert found.is_kept and "for its mirror image" in found.reason
    assert found.explained_share > found.explained_share_mirrored + 0.2
    assert rmsd(found.model, maps.model) < 1.0


def test_a_right_model_stays_where_it_is(case):
    maps, _ = case
    found = flexed(maps.model, maps.sharpened, RESOLUTION, halves=(maps.half_1, maps.half_2))
    assert not found.is_kept and "left as it was" in found.reason
    assert found.model is maps.model
    assert found.moved_angstrom < 0.5


def test_a_structure_that_the_map_does_not_show_stays_as_it_was(case):
    maps, _ = case
    middle = maps.model.coordinates_angstrom.mean(0)
    quarter = from_rotation_vector(torch.tensor([0.0, math.pi / 2, 0.0], dtype=torch.float64))
    turned = maps.model.at((maps.model.coordinates_angstrom - middle) @ quarter.T + middle)
    found = flexed(turned, maps.sharpened, RESOLUTION, halves=(maps.half_1, maps.half_2))
    assert not found.is_kept and "does not show this structure" in found.reason
    assert found.model is turned
    assert abs(found.explained_share - found.explained_share_mirrored) < 0.1


def test_a_pae_of_another_model_is_refused(case):
    maps, bent = case
    with pytest.raises(ValueError, match="PAE has shape"):
        flexed(bent, maps.sharpened, RESOLUTION, predicted_error=torch.zeros(10, 10))


def test_a_model_that_lies_elsewhere_is_refused(case):
    maps, bent = case
    away = replace(bent, coordinates_angstrom=bent.coordinates_angstrom + 500)
    with pytest.raises(ValueError, match="outside of"):
        flexed(away, maps.sharpened, RESOLUTION)


def test_a_right_model_is_not_drawn_into_its_neighbour():
    model = cage_subunit(110)
    beside = model.at(model.coordinates_angstrom + torch.tensor([0.0, 34.0, 0.0]))
    maps = simulated_maps(joined([model, beside]), RESOLUTION, 2.3, padding_angstrom=18.0, seed=4)
    found = flexed(model, maps.sharpened, RESOLUTION, halves=(maps.half_1, maps.half_2), others=beside)
    assert found.model is model
    assert found.moved_angstrom < 1.0
