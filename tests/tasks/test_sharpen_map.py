"""Half maps of atoms with a known B-factor through the stage."""

import numpy as np
import pytest
import torch

from kernels import fourier
from kernels.maps.fsc import corrected_fsc, resolution_angstrom
from kernels.masks import soft_sphere
from tasks.records.density_map import DensityMap
from tasks.records.session import StageParams
from tasks.sharpen_map import SharpenMapParams, sharpen_map
from tasks.stores.products.map_store import density_map, describe, read_map

N, PIXEL, B_FACTOR = 72, 1.2, 60.0


def write_refined(store, noise: float, resolution: float | None = None) -> None:
    generator = torch.Generator().manual_seed(3)
    ball = soft_sphere(N, 24, 3)
    atoms = (torch.rand(N, N, N, generator=generator) < 0.05).float() * ball
    blur = torch.exp(-B_FACTOR * fourier.frequency_length((N,) * 3, PIXEL) ** 2 / 4)
    clean = fourier.inverse(fourier.transform(atoms, 3) * blur, (N,) * 3)
    half_1, half_2 = (clean + noise * torch.randn(N, N, N, generator=generator) for _ in range(2))
    curves = corrected_fsc(half_1, half_2, ball, generator)
    frequency = torch.arange(N // 2 + 1) / (N * PIXEL)
    rows = torch.stack([frequency, curves.unmasked, curves.masked, curves.randomised, curves.corrected])
    found = resolution or resolution_angstrom(curves.corrected, N, PIXEL)
    with store.product("maps/refined").write("refine_map", 1, StageParams(), {}) as attempt:
        for name, values in {"half_1": half_1, "half_2": half_2, "mask": ball, "fsc_curves": rows}.items():
            attempt.write(name, values.numpy().astype(np.float32))
        describe(attempt, DensityMap(
            name="refined", kind="refined", pixel_size_angstrom=PIXEL, symmetry="C1",
            resolution_angstrom=found if np.isfinite(found) else None, n_particles=7,
        ))  # fmt: skip


def test_a_map_gets_the_b_factor_it_was_blurred_with(store, workers):
    write_refined(store, 0.002)
    assert sharpen_map.fn(store.url, SharpenMapParams(resolution_angstrom=3.0)).done == ["maps/sharpened"]
    found, reader = density_map(store, "sharpened"), read_map(store, "sharpened")
    assert found.b_factor_angstrom2 == pytest.approx(-B_FACTOR, abs=10)
    assert found.n_particles == 7
    assert reader["map"].shape == reader["mask"].shape == reader["local_resolution"].shape == (N, N, N)
    inside = reader["local_resolution"][reader["local_resolution"] > 0]
    assert 2 * PIXEL <= np.median(inside) < 4.5
    assert sharpen_map.fn(store.url, SharpenMapParams(resolution_angstrom=3.0)).kept == ["maps/sharpened"]


def test_a_given_b_factor_is_used_and_a_coarse_map_is_not_sharpened(store, workers):
    write_refined(store, 0.02)
    sharpen_map.fn(store.url, SharpenMapParams(b_factor_angstrom2=-25, local_step_angstrom=15))
    assert density_map(store, "sharpened").b_factor_angstrom2 == -25
    write_refined(store, 0.02, resolution=14.0)
    assert sharpen_map.fn(store.url, SharpenMapParams(resolution_angstrom=14.0, local_step_angstrom=15)).done == [
        "maps/sharpened"
    ]
    record = store.product("maps/sharpened").record()
    assert record.figures["b_factor_angstrom2"] == 0
    assert "too coarse for a Guinier plot" in record.figures["b_factor_source"]


def test_halves_without_resolution_are_skipped_with_the_reason(store, workers):
    write_refined(store, 50.0, resolution=float("inf"))
    report = sharpen_map.fn(store.url, SharpenMapParams())
    assert "agree at no resolution" in report.skipped["maps/sharpened"]


def test_without_a_refined_map_the_missing_stage_is_named(store, workers):
    assert "maps/refined: has not run" in sharpen_map.fn(store.url, SharpenMapParams()).skipped["maps/sharpened"]
