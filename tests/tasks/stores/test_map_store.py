"""What stages that work in a map ask of it: its resolution, and its half maps."""

import numpy as np
import pytest

from tasks.records.density_map import DensityMap
from tasks.records.session import StageParams
from tasks.stores.products.map_store import describe, half_grids, known_resolution


def put(store, name, resolution, arrays):
    about = DensityMap(
        name=name, kind="imported", pixel_size_angstrom=1.5, symmetry="C1", resolution_angstrom=resolution
    )
    with store.product(f"maps/{name}").write("import_map", 1, StageParams(), {}) as attempt:
        describe(attempt, about)
        for number, array in enumerate(arrays):
            attempt.write(array, np.full((4, 4, 4), number, np.float32))


def test_what_is_given_comes_before_what_a_map_says(store):
    put(store, "imported", 4.2, ["map"])
    assert known_resolution(store, "imported", None, "dock_model") == 4.2
    assert known_resolution(store, "imported", 6.0, "dock_model") == 6.0


def test_a_map_without_a_resolution_says_what_to_do(store):
    put(store, "imported", None, ["map"])
    assert known_resolution(store, "imported", 6.0, "dock_model") == 6.0
    words = "maps/imported is not known; give it in Å .* of dock_model"
    with pytest.raises(ValueError, match=words):
        known_resolution(store, "imported", None, "dock_model")


def test_halves_are_those_of_the_first_map_that_has_them(store):
    put(store, "sharpened", 4.2, ["map"])
    assert half_grids(store, "sharpened", "refined", None) is None
    put(store, "refined", 4.2, ["map", "half_1", "half_2"])
    halves = half_grids(store, None, "sharpened", "refined")
    assert [float(half.voxels.mean()) for half in halves] == [1, 2]
    assert [half.voxel_size_angstrom for half in halves] == [1.5, 1.5]
