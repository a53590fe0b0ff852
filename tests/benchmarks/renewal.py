"""A refinement renewed as its particles double twice against one from nothing, and noise that is added to a good map.

``python -m tests.benchmarks.renewal`` prints both tables. Particles are Gaussians of one width, so that the map, its
B-factor and the poses are known exactly.
"""

from __future__ import annotations

import logging
import math
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from distributed import Client, LocalCluster

from kernels import fourier
from kernels.ctf import Defocus
from kernels.maps.fsc import crossing_shell, fsc, resolution_angstrom
from kernels.maps.refinement import low_pass
from kernels.rotations import angular_distance_rad, random_rotations
from tasks.forecast_resolution import ForecastResolutionParams, forecast_resolution
from tasks.records.density_map import DensityMap
from tasks.records.session import StageParams
from tasks.refine_map import RefineMapParams, refine_map
from tasks.stores.products.map_store import describe, read_map
from tasks.stores.products.particle_store import read_particles
from tasks.stores.session_store import SessionStore
from tests.truth.extracted_session import write_extracted
from tests.truth.gaussian_particles import Imaged, cage_points, gaussian_map, gaussian_projections, imaged

PIXEL, N, WIDTH, SYMMETRY = 2.0, 72, 2.0, "O"
B_FACTOR = 8 * math.pi**2 * WIDTH**2
PER_EXPOSURE = 50
PARAMS = RefineMapParams(diameter_angstrom=125, symmetry=SYMMETRY, particles_per_block=500)


class Truth:
    """Particles of one map, then images of nothing, each with its own noise."""

    def __init__(self, n_particles: int, n_noise: int, signal_to_noise: float, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.points = cage_points(SYMMETRY, 12, 48.0, 3)
        self.rotation = random_rotations(n_particles, generator)
        shift = 1.5 * torch.randn(n_particles, 2, generator=generator)
        projections = gaussian_projections(self.points, self.rotation, shift, N, PIXEL, WIDTH)
        scale = (n_particles + n_noise) / n_particles  # the ratio is that of all images
        self.imaged = imaged(
            torch.cat([projections, torch.zeros(n_noise, N, N)]), PIXEL, signal_to_noise / scale, seed
        )  # fmt: skip
        self.map = gaussian_map(self.points, N, PIXEL, WIDTH)

    def first(self, rows: slice) -> Imaged:
        defocus = Defocus(*(getattr(self.imaged.defocus, field.name)[rows] for field in fields(Defocus)))
        return Imaged(self.imaged.images[rows], defocus, self.imaged.optics, self.imaged.transfer[rows])


def session(folder: str, truth: Truth) -> SessionStore:
    """A store with the truth at 25 Å as its initial map."""
    store = SessionStore.create(str(Path(folder) / "session.zarr"), "renewal")
    blurred = fourier.inverse(fourier.transform(truth.map, 3) * low_pass(N, PIXEL, 25.0, "cpu"), (N,) * 3)
    with store.product("maps/initial").write("build_initial_map", 1, StageParams(), {}) as attempt:
        attempt.write("map", blurred.numpy())
        describe(attempt, DensityMap(name="initial", kind="initial", pixel_size_angstrom=PIXEL, symmetry=SYMMETRY))
    return store


def refined(store: SessionStore, truth: Truth, n: int, params: RefineMapParams) -> dict[str, float]:
    """Add particles up to ``n``, refine, and compare with the truth."""
    write_extracted(store, truth.first(slice(0, n)), n // PER_EXPOSURE)
    report = refine_map.fn(store.url, params)
    reader = read_map(store, "refined")
    density, mask = torch.from_numpy(reader["map"]), torch.from_numpy(reader["mask"])
    curves = torch.from_numpy(reader["fsc_curves"])
    particles = read_particles(store.product("particles/refined").read())
    of_particle = min(n, len(truth.rotation))
    turn = angular_distance_rad(
        torch.from_numpy(particles["rotation"][:of_particle]), truth.rotation[:of_particle], "O"
    )
    return {
        "particles": n,
        "generation": int(reader.record.figures["generation"] or 0),
        "iterations": int(reader.record.figures["n_iterations"] or 0),
        "FSC 0.143": resolution_angstrom(curves[4], N, PIXEL, 0.143),
        "to truth 0.5": resolution_angstrom(fsc(density * mask, truth.map * mask), N, PIXEL, 0.5),
        "beyond": float(curves[4][math.ceil(crossing_shell(curves[4], 0.143)) + 3 :].abs().mean()),
        "turn_deg": math.degrees(float(turn.median())),
        "off": float((turn > math.radians(5)).float().mean()),
        "CPU-s": report.cpu_seconds,
    }


def foreseen(store: SessionStore, n_particles: int) -> str:
    """What is forecast for a number of particles, in words."""
    planned = ForecastResolutionParams(n_planned_exposures=n_particles // PER_EXPOSURE)
    forecast_resolution.fn(store.url, planned)
    record = store.product("session/resolution_forecast").record()
    assert record is not None
    f = record.figures
    return (
        f"from {f['n_particles']}: {f['verdict']}; B {f['b_factor_angstrom2']} ({f['b_factor_low']} to "
        f"{f['b_factor_high']}) Å²; points {[[int(n), round(d, 2)] for n, d, _ in record.details['points']]}"
    )


def show(rows: list[tuple[str, dict[str, float]]]) -> None:
    names = list(rows[0][1])
    print(f"{'':<22}" + "".join(f"{name:>14}" for name in names))
    for title, values in rows:
        print(f"{title:<22}" + "".join(f"{values[name]:>14.4g}" for name in names), flush=True)


def compare(n: int, signal_to_noise: float, seed: int = 11) -> None:
    truth = Truth(4 * n, 0, signal_to_noise, seed)
    rows, said = [], []
    with tempfile.TemporaryDirectory() as folder:
        store = session(folder, truth)
        for factor in (1, 2, 4):
            rows.append((f"renewed, {factor}x", refined(store, truth, factor * n, PARAMS)))
            said.append(foreseen(store, 4 * n))
    with tempfile.TemporaryDirectory() as folder:
        store = session(folder, truth)
        nothing = PARAMS.model_copy(update={"start": "initial"})
        rows.append(("from nothing, 4x", refined(store, truth, 4 * n, nothing)))
    show(rows)
    print(f"true B-factor {B_FACTOR:.0f} Å²; forecasts of {4 * n} particles:", *said, sep="\n  ")


def add_noise(n: int, signal_to_noise: float, seed: int = 12) -> None:
    truth = Truth(n, n, signal_to_noise, seed)
    with tempfile.TemporaryDirectory() as folder:
        store = session(folder, truth)
        rows = [("particles", refined(store, truth, n, PARAMS))]
        rows.append(("and as much noise", refined(store, truth, 2 * n, PARAMS)))
    show(rows)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    n_first = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    ratio = float(sys.argv[2]) if len(sys.argv) > 2 else 0.02
    np.set_printoptions(precision=3)
    cluster = LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, resources={"CPU": 1, "GPU": 1}, dashboard_address=None
    )
    with cluster, Client(cluster, set_as_default=True):
        compare(n_first, ratio)
        add_noise(n_first, ratio)
