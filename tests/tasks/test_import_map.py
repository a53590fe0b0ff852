"""Maps of other programs come in with their frame, and go out with it."""

import numpy as np
import pytest
import torch

from kernels.maps.grid import DensityGrid
from tasks.export_session import ExportSessionParams, export_session
from tasks.formats import FormatError
from tasks.formats.map_file import read_map, write_map
from tasks.import_map import ImportMapParams, import_map
from tasks.stores.products.map_store import density_grid, density_map
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps

ORIGIN = torch.tensor([-12.5, 3.0, 40.0], dtype=torch.float64)


@pytest.fixture
def files(tmp_path):
    generator = torch.Generator().manual_seed(1)
    paths = {}
    for name in ("map", "half_1", "half_2"):
        grid = DensityGrid(torch.randn(12, 16, 20, generator=generator), 1.3, ORIGIN)
        paths[name] = str(tmp_path / f"{name}.mrc")
        write_map(paths[name], grid)
    return paths


def test_a_map_keeps_its_frame_and_its_halves(store, workers, files, tmp_path):
    params = ImportMapParams(**files, resolution_angstrom=3.1)
    assert import_map.fn(store.url, params).done == ["maps/imported"]
    found = density_grid(store, "imported")
    torch.testing.assert_close(found.origin_angstrom, ORIGIN, atol=1e-4, rtol=0)
    assert density_map(store, "imported").resolution_angstrom == 3.1
    for name, array in (("map", "map"), ("half_1", "half_1"), ("half_2", "half_2")):
        torch.testing.assert_close(density_grid(store, "imported", array).voxels, read_map(files[name]).voxels)
    assert import_map.fn(store.url, params).kept == ["maps/imported"]
    export_session.fn(store.url, str(tmp_path / "out"), ExportSessionParams())
    again = read_map(tmp_path / "out" / "maps" / "imported.mrc")
    torch.testing.assert_close(again.origin_angstrom, ORIGIN, atol=1e-4, rtol=0)
    np.testing.assert_array_equal(again.voxels, found.voxels)


def test_another_content_under_the_same_name_is_taken_anew(store, workers, files):
    params = ImportMapParams(map=files["map"])
    import_map.fn(store.url, params)
    write_map(files["map"], DensityGrid(torch.arange(64.0).reshape(4, 4, 4), 1.0, ORIGIN))
    assert import_map.fn(store.url, params).done == ["maps/imported"]
    assert density_grid(store, "imported").voxels.shape == (4, 4, 4)


def test_halves_of_another_box_are_refused(store, workers, files):
    write_map(files["half_2"], DensityGrid(torch.randn(12, 16, 18), 1.3, ORIGIN))
    report = import_map.fn(store.url, ImportMapParams(**files))
    (reason,) = report.failed.values()
    assert "half_2.mrc" in reason and "in the frame of the map" in reason


def test_one_half_alone_and_a_missing_file_are_refused(store, workers, files):
    with pytest.raises(FormatError, match="both halves or none"):
        import_map.fn(store.url, ImportMapParams(map=files["map"], half_1=files["half_1"]))
    with pytest.raises(FormatError, match="no such file"):
        import_map.fn(store.url, ImportMapParams(map=files["map"] + "x"))
    with pytest.raises(FormatError, match="hold the same"):
        import_map.fn(store.url, ImportMapParams(map=files["map"], half_1=files["half_1"], half_2=files["half_1"]))
    assert store.product("maps/imported").record() is None


def test_half_maps_tell_the_resolution_that_nobody_told(store, workers, tmp_path):
    maps = simulated_maps(cage_subunit(30), 4.0, padding_angstrom=8)
    halves = {"half_1": maps.half_1, "half_2": maps.half_2}
    for name, grid in {"map": maps.sharpened, **halves}.items():
        write_map(tmp_path / f"{name}.mrc", grid)
    import_map.fn(store.url, ImportMapParams(**{n: str(tmp_path / f"{n}.mrc") for n in ("map", *halves)}))
    found = density_map(store, "imported").resolution_angstrom
    assert 2.8 < found < 4.0  # inside of its mask a map shows more than its whole box, which was made to 4 Å
    import_map.fn(store.url, ImportMapParams(map=str(tmp_path / "map.mrc")))
    assert density_map(store, "imported").resolution_angstrom is None
