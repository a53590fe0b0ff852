"""A map of the wrong hand is recognised by its helices, and flipped with all that belongs to it."""

import numpy as np
import pytest

from kernels.maps.alignment import inverted
from tasks.check_hand import CheckHandParams, check_hand, is_wrong_hand
from tasks.flip_map import FlipMapParams, flip_map
from tasks.formats.map_file import write_map
from tasks.import_map import ImportMapParams, import_map
from tasks.stores.products.map_store import density_map, read_map
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps


@pytest.fixture(scope="module")
def maps():
    """Of the cage's subunit, five helices."""
    return simulated_maps(cage_subunit(80), 3.0)


@pytest.fixture(scope="module")
def files(maps, tmp_path_factory) -> ImportMapParams:
    """Mirror images of the map and of its halves."""
    folder = tmp_path_factory.mktemp("maps")
    for name, grid in (("map", maps.sharpened), ("half_1", maps.half_1), ("half_2", maps.half_2)):
        write_map(folder / f"{name}.mrc", grid.with_voxels(inverted(grid.voxels)))
    return ImportMapParams(**{name: str(folder / f"{name}.mrc") for name in ("map", "half_1", "half_2")})


def hand_of(url: str, store, name: str) -> bool:
    report = check_hand.fn(url, CheckHandParams(map=name))
    assert report.done == [name], (report.failed, report.skipped)
    return is_wrong_hand(store, name)[0]


def test_a_mirror_image_is_recognised_and_flipped_with_its_halves(store, workers, files, maps, place):
    import_map.fn(store.url, files)
    assert hand_of(store.url, store, "imported")
    flip_map.fn(store.url, FlipMapParams(map="imported"))
    assert not hand_of(store.url, store, "flipped")
    flipped = read_map(store, "flipped")
    for name, grid in (("map", maps.sharpened), ("half_1", maps.half_1), ("half_2", maps.half_2)):
        assert np.array_equal(flipped[name], grid.voxels.numpy().astype(np.float32))
    about, before = density_map(store, "flipped"), density_map(store, "imported")
    assert (about.pixel_size_angstrom, about.origin_angstrom) == (before.pixel_size_angstrom, before.origin_angstrom)


def test_files_that_are_flipped_on_import_are_of_the_right_hand(store, workers, files):
    import_map.fn(store.url, files.model_copy(update={"is_flipped": True}))
    assert not hand_of(store.url, store, "imported")
