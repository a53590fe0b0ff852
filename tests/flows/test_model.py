"""The flow from a map to a model: what it refuses."""

import pytest

from flows.model import ModelRecipe, StageFailedError, model
from kernels.maps.alignment import inverted
from tasks.formats.map_file import write_map
from tasks.import_map import ImportMapParams
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps


@pytest.mark.server
def test_a_model_is_not_built_into_a_mirror_image_that_another_program_made(connected, tmp_path):
    grid = simulated_maps(cage_subunit(80), 3.0).sharpened
    write_map(tmp_path / "map.mrc", grid.with_voxels(inverted(grid.voxels)))
    recipe = ModelRecipe(import_map=ImportMapParams(map=str(tmp_path / "map.mrc")))
    with pytest.raises(StageFailedError, match=r"map.mrc: the map is of the wrong hand .* `--flip`"):
        model(str(tmp_path / "session.zarr"), recipe)
