"""Docking runs where its map is."""

import pytest
import torch
from torch.testing import assert_close

from tasks.docking.dock import dock
from tasks.docking.hits import Scene
from tasks.docking.targets import target_of_model
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps
from tests.truth.pretended_device import pretended_device

RESOLUTION = 10.0


def docked(grid):
    target = target_of_model("subunit", cage_subunit(60), 1)
    return dock(Scene(grid, None, RESOLUTION), [target], "simulated", 0.5)


def test_an_accelerator_is_given_all_that_it_needs():
    grid = simulated_maps(cage_subunit(60), RESOLUTION, 3.5, 8.0).sharpened
    here = docked(grid)
    with pretended_device() as device:
        there = docked(grid.to(device))
    assert_close(there.model.coordinates_angstrom, here.model.coordinates_angstrom, atol=0.05, rtol=0)
    assert there.record.placed[0].probability == pytest.approx(here.record.placed[0].probability, abs=0.01)


def test_the_pretended_device_refuses_what_an_accelerator_would():
    with pretended_device() as device:
        there = torch.ones(3, device=device)
        assert_close((there * 2).to("cpu"), torch.full((3,), 2.0))
        with pytest.raises(RuntimeError, match="mixes devices"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="mixes devices"):
            torch.ones(3)[there.long() - 1]
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()
