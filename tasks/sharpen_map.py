"""The final map: sharpened by its B-factor, weighted by FSC, with its mask and its resolution from place to place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from kernels.fourier import fast_size
from kernels.maps.sharpening import (
    guinier_fit,
    local_resolution,
    local_resolution_memory_bytes,
    n_windows,
    sharpened,
)
from tasks.records.density_map import DensityMap
from tasks.records.forecast import Need, Outline
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import density_map, describe, read_map
from tasks.stores.session_store import SessionStore
from tasks.workers.device import device
from tasks.workers.stage import SkipItem, Stage, run_stage

_PRODUCT = "maps/sharpened"
_COARSEST_GUINIER_ANGSTROM = 7.0
_LIKELY_ANGSTROM = 5.0
"""Of a map that is not there yet."""


class SharpenMapParams(StageParams):
    """Parameters of `sharpen_map`."""

    b_factor_angstrom2: float | None = Field(default=None, ge=-1000, le=1000)
    """Negative to sharpen; None for the slope of the Guinier plot."""
    resolution_angstrom: float | None = Field(default=None, gt=0)
    """Where the map ends; None for the resolution of the halves."""
    local_window_resolutions: float = Field(default=8.0, ge=3, le=30)
    """Side of the windows of local resolution, in units of the resolution."""
    local_step_angstrom: float = Field(default=6.0, gt=0)


@task(name="sharpen_map", cache_policy=NO_CACHE)
def sharpen_map(session_url: str, params: SharpenMapParams) -> StageReport:
    """``maps/sharpened`` from the halves of ``maps/refined``. Memory: see `need`."""
    return run_stage(session_url, _sharpening, [_PRODUCT], params)


def _inputs(_store: SessionStore, _item: str) -> list[str]:
    return ["maps/refined"]


def _address(item: str) -> str:
    return item


def _sharpen(store: SessionStore, _item: str, params: SharpenMapParams, attempt: Attempt) -> None:
    refined, reader = density_map(store, "refined"), read_map(store, "refined")
    pixel_size, box = refined.pixel_size_angstrom, reader.shape("half_1")[-1]
    resolution = params.resolution_angstrom or refined.resolution_angstrom
    if resolution is None:
        raise SkipItem("the halves of maps/refined agree at no resolution; look at the particles and the initial map")
    resolution = max(resolution, 2 * pixel_size)
    half_1, half_2, mask, curve = (
        torch.from_numpy(values).to(device())
        for values in (reader["half_1"], reader["half_2"], reader["mask"], reader["fsc_curves"][4])
    )
    mean = (half_1 + half_2) / 2
    b_factor, source = params.b_factor_angstrom2, "given"
    if b_factor is None and resolution > _COARSEST_GUINIER_ANGSTROM:
        # amplitudes coarser than this follow the fold, not the B-factor
        b_factor, source = 0.0, f"none: {resolution:.1f} Å is too coarse for a Guinier plot"
    if b_factor is None:
        fit = guinier_fit(mean * mask, curve, pixel_size, resolution)
        b_factor, source = min(fit.b_factor_angstrom2, 0.0), f"Guinier plot, {fit.n_shells} shells"
        is_signal = fit.frequency_squared <= 1 / resolution**2
        attempt.details["guinier"] = {
            "frequency_squared": fit.frequency_squared[is_signal].tolist(),
            "log_amplitude": fit.log_amplitude[is_signal].tolist(),
        }
    final = sharpened(mean, pixel_size, b_factor, curve, resolution)
    window, step = _window_and_step(box, pixel_size, resolution, params)
    local = local_resolution(half_1, half_2, mask, pixel_size, window, step)
    for name, values in {"map": final, "mask": mask, "local_resolution": local}.items():
        attempt.write(name, values.cpu().numpy().astype(np.float32))
    inside = local[local > 0]
    record = DensityMap(
        name="sharpened",
        kind="sharpened",
        pixel_size_angstrom=pixel_size,
        symmetry=refined.symmetry,
        resolution_angstrom=resolution,
        b_factor_angstrom2=round(b_factor, 2),
        n_particles=refined.n_particles,
    )
    describe(attempt, record)
    attempt.figures.update(
        resolution_angstrom=round(resolution, 3),
        b_factor_angstrom2=round(b_factor, 2),
        b_factor_source=source,
        local_resolution_median_angstrom=round(float(inside.median()), 2) if len(inside) else None,
        local_resolution_best_angstrom=round(float(inside.quantile(0.05)), 2) if 0 < len(inside) < 16_000_000 else None,
    )


def _window_and_step(
    box: int, pixel_size_angstrom: float, resolution_angstrom: float, params: SharpenMapParams
) -> tuple[int, int]:
    """Side of the windows of local resolution and their distance, px."""
    side = math.ceil(params.local_window_resolutions * resolution_angstrom / pixel_size_angstrom)
    return min(fast_size(side), box), max(1, round(params.local_step_angstrom / pixel_size_angstrom))


def need(about: Outline, params: SharpenMapParams, resolution_angstrom: float | None = None) -> Need:
    """What sharpening needs: the maps and their transforms, padded for windows, and the windows at work."""
    pixel_size = about.particle_pixel_size_angstrom
    resolution = max(params.resolution_angstrom or resolution_angstrom or _LIKELY_ANGSTROM, 2 * pixel_size)
    window, step = _window_and_step(about.box, pixel_size, resolution, params)
    memory = local_resolution_memory_bytes(about.box, window, step)
    return Need(
        stage=_sharpening.name,
        n_items=1,
        memory_bytes=memory,
        disk_bytes=12 * about.box**3,
        cpu_seconds=0.5 + 1.6e-8 * n_windows(about.box, step) * window**3,
        told_from=f"a map of {about.box} px, windows of {window} px",
        remedy="lower `sharpen_map.local_window_resolutions`, or refine smaller images "
        "(`extract_particles.output_box_px`)",
    )


def _needs(store: SessionStore, _items: Sequence[str], params: SharpenMapParams) -> Need:
    refined = density_map(store, "refined")
    box = read_map(store, "refined").shape("half_1")[-1]
    about = Outline(n_exposures=0, box=box, particle_pixel_size_angstrom=refined.pixel_size_angstrom)
    return need(about, params, refined.resolution_angstrom)


_sharpening = Stage("sharpen_map", 2, "CPU", _sharpen, _inputs, _address, needs=_needs)
