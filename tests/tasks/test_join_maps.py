"""A part and the map of the whole, each with halves of its own noise, through the stage."""

import numpy as np
import pytest
import torch

from kernels.maps.alignment import inverted
from kernels.maps.fsc import corrected_fsc
from tasks.join_maps import JoinMapsParams, join_maps
from tasks.records.density_map import DensityMap
from tasks.records.session import StageParams
from tasks.stores.products.map_store import density_map, describe, read_map, with_halves
from tests.truth.gaussian_particles import gaussian_map
from tests.truth.moving_domain import PIXEL, WIDTH, N, moving_domain

ARRAYS = ("half_1", "half_2", "mask")


@pytest.fixture
def halves(store):
    """A domain that is blurred in the whole and sharp by itself."""
    truth = moving_domain(2, 0.0, 0.0, 1.0)
    body, blurred = gaussian_map(truth.body, N, PIXEL, WIDTH), gaussian_map(truth.domain, N, PIXEL, 3 * WIDTH)
    noise = 0.02 * torch.randn(4, N, N, N, generator=torch.Generator().manual_seed(1)) * body.max()
    everywhere = torch.ones(N, N, N)
    arrays = {
        "refined": (body + blurred + noise[0], body + blurred + noise[1], everywhere),
        "part": (truth.domain_density + noise[2], truth.domain_density + noise[3], truth.mask),
    }
    for name, values in {**arrays, "sharpened": ()}.items():
        with store.product(f"maps/{name}").write("refine_map", 1, StageParams(), {}) as attempt:
            mean = (sum(values[:2]) / 2,) if values else ()
            for array, density in zip((*ARRAYS, "map"), (*values, *mean)):
                attempt.write(array, density.numpy().astype(np.float32))
            describe(attempt, DensityMap(
                name=name, kind="sharpened", pixel_size_angstrom=PIXEL, symmetry="C1", resolution_angstrom=9.0,
                b_factor_angstrom2=-30.0, n_particles=2,
            ))  # fmt: skip
    return truth, arrays


def test_the_part_stands_in_its_mask_and_halves_stay_apart(store, workers, halves):
    truth, arrays = halves
    report = join_maps.fn(store.url, JoinMapsParams())
    assert report.done == ["part"], report
    reader = read_map(store, "joined")
    inside, outside = truth.mask == 1, truth.mask == 0
    found = [torch.from_numpy(reader[name]) for name in ("half_1", "half_2")]
    for number, half in enumerate(found):
        assert torch.equal(half[inside], arrays["part"][number][inside])
        assert torch.equal(half[outside], arrays["refined"][number][outside])
    assert with_halves(store, "joined", "refined") == "joined"
    generator = torch.Generator().manual_seed(0)
    before, after = (
        corrected_fsc(*pair, truth.mask, generator).corrected[8:18].mean() for pair in (arrays["refined"][:2], found)
    )
    assert after > before + 0.1
    about = density_map(store, "joined")
    assert (about.name, about.b_factor_angstrom2, about.n_particles) == ("joined", -30.0, 2)
    assert about.resolution_angstrom < 9.0
    assert join_maps.fn(store.url, JoinMapsParams()).kept == ["part"]


def test_the_joined_map_is_of_the_other_hand_where_models_are(store, workers, halves):
    join_maps.fn(store.url, JoinMapsParams())
    plain = {name: torch.from_numpy(read_map(store, "joined")[name]) for name in ("map", *ARRAYS)}
    join_maps.fn(store.url, JoinMapsParams(is_mirrored=True))
    for name, density in plain.items():
        assert torch.equal(torch.from_numpy(read_map(store, "joined")[name]), inverted(density))
