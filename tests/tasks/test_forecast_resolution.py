"""Particles of a known B-factor at their true poses through the forecast, and the session's figures that come of it."""

import math
from dataclasses import fields

import numpy as np
import pytest
import torch

from kernels.ctf import Defocus
from kernels.maps.resolution_forecast import ResolutionPoint, forecast
from kernels.masks import soft_sphere
from kernels.rotations import random_rotations
from tasks import forecast_resolution as stage
from tasks.forecast_resolution import ForecastResolutionParams, forecast_resolution
from tasks.plots.maps import resolution_forecast
from tasks.plots.style import png
from tasks.records.density_map import DensityMap
from tasks.records.particle_identity import half_sets
from tasks.records.session import StageParams
from tasks.stores.products.map_store import describe
from tasks.stores.products.particle_store import write_particles
from tests.truth.extracted_session import write_extracted
from tests.truth.gaussian_particles import Imaged, cage_points, gaussian_projections, imaged

PIXEL, N, WIDTH, SYMMETRY = 2.5, 40, 2.4, "D2"
B_FACTOR = 8 * math.pi**2 * WIDTH**2
N_PARTICLES, PER_EXPOSURE = 1600, 200
PARAMS = ForecastResolutionParams(particles_at_once=2000, fewest_views=400)


class _Truth:
    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(6)
        self.rotation = random_rotations(N_PARTICLES, generator)
        self.shift = 1.5 * torch.randn(N_PARTICLES, 2, generator=generator)
        points = cage_points(SYMMETRY, 40, 34.0, 3)
        projections = gaussian_projections(points, self.rotation, self.shift, N, PIXEL, WIDTH)
        self.imaged = imaged(projections, PIXEL, 0.05, 7)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Small images are slower on several threads where others want the cores, too."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def truth(_one_thread) -> _Truth:
    return _Truth()


def write_refined(store, truth: _Truth, n: int) -> None:
    """A refinement that found the true poses."""
    defocus = Defocus(*(getattr(truth.imaged.defocus, field.name)[:n] for field in fields(Defocus)))
    some = Imaged(truth.imaged.images[:n], defocus, truth.imaged.optics, truth.imaged.transfer[:n])
    particles = write_extracted(store, some, n // PER_EXPOSURE)
    refined = particles.with_columns(
        rotation=truth.rotation[:n].numpy(), shift_angstrom=truth.shift[:n].numpy(), half_set=half_sets(particles, 1)
    )
    inputs = store.fingerprints(["particles/extracted"])
    with store.product("particles/refined").write("refine_map", 2, StageParams(), inputs) as attempt:
        write_particles(attempt, refined)
    with store.product("maps/refined").write("refine_map", 2, StageParams(), inputs) as attempt:
        attempt.write("mask", soft_sphere(N, 42 / PIXEL, 3).numpy())
        # what matters of the curve is how far to look
        attempt.write("fsc_curves", np.tile(np.linspace(1, 0, N // 2 + 1, dtype=np.float32), (5, 1)))
        record = DensityMap(
            name="refined", kind="refined", pixel_size_angstrom=PIXEL, symmetry=SYMMETRY, n_particles=n
        )  # fmt: skip
        describe(attempt, record)


def test_a_quarter_of_the_particles_foretells_what_all_of_them_reach(store, workers, truth):
    write_refined(store, truth, N_PARTICLES // 4)
    params = PARAMS.model_copy(update={"n_planned_exposures": N_PARTICLES // PER_EXPOSURE})
    assert forecast_resolution.fn(store.url, params).done == ["session/resolution_forecast"]
    said = store.product("session/resolution_forecast").record()
    assert said.figures["n_exposures"] == 2
    assert said.figures["particles_per_exposure"] == 200
    assert forecast_resolution.fn(store.url, params).kept == ["session/resolution_forecast"]
    write_refined(store, truth, N_PARTICLES)
    forecast_resolution.fn(store.url, params)
    record = store.product("session/resolution_forecast").record()
    reached = record.figures["resolution_angstrom"]
    assert said.figures["reachable_angstrom"] == pytest.approx(reached, rel=0.1)
    assert said.figures["reachable_low"] < 1.02 * reached
    assert said.figures["reachable_high"] > 0.98 * reached
    # the shells of so few Gaussians scatter about their B-factor by tens of percent
    assert record.figures["b_factor_angstrom2"] == pytest.approx(B_FACTOR, rel=0.4)
    history = record.details["history"]
    assert [point["n_particles"] for point in history] == [N_PARTICLES // 4, N_PARTICLES]
    assert history[0]["reachable_angstrom"] == said.figures["reachable_angstrom"]


def test_without_a_refined_map_the_missing_stage_is_named(store, workers):
    skipped = forecast_resolution.fn(store.url, PARAMS).skipped["session/resolution_forecast"]
    assert "maps/refined: has not run" in skipped


def judged(points: list[ResolutionPoint], **params) -> tuple[dict, str]:
    """Figures and words for a session with 100 particles in each of 40 exposures, 3 Å at best."""
    return stage._figures(forecast(points, 3.0), ForecastResolutionParams(**params), 4000, 100.0, points)


def line(numbers: tuple[int, ...]) -> list[ResolutionPoint]:
    """B = 150 Å², 1000 particles reach 7 Å; the leading terms of a line are solved for by a fixed point."""
    points = []
    for n in numbers:
        k = 1 / 7
        for _ in range(200):
            k = math.sqrt(1 / 49 + 2 / 150 * (math.log(n / 1000) - math.log(7 * k)))
        points.append(ResolutionPoint(n, 1 / k, 5e-4))
    return points


def test_a_goal_is_answered_in_exposures():
    points = line((500, 1000, 2000, 4000))
    figures, words = judged(points, goal_angstrom=4.5)
    # ln N is 75 k² + ln k and a constant
    expected = 1000 * math.exp(75 * (1 / 4.5**2 - 1 / 49)) * 7 / 4.5 / 100
    assert figures["exposures_for_goal_low"] <= expected <= figures["exposures_for_goal_high"] + 1
    assert figures["exposures_for_goal"] == pytest.approx(expected, rel=0.15)
    assert f"needs {figures['exposures_for_goal'] - 40} more exposures" in words
    assert figures["n_planned_exposures"] == 160
    assert "is reached" in judged(points, goal_angstrom=8.0)[1]
    beyond = judged(points, goal_angstrom=2.5)
    assert "beyond the pixel size" in beyond[1]
    assert beyond[0]["exposures_for_goal"] is None
    assert "pixel size limits at 3.0 Å" in judged(points, n_planned_exposures=10_000_000)[1]


def test_too_little_evidence_gives_no_figures_and_its_reason_stands_in_the_plot():
    points = line((2000, 4000))
    figures, words = judged(points, goal_angstrom=4.5)
    assert words == "not enough evidence: 2 numbers of particles with a resolution, expected at least 3"
    assert figures["verdict"] == words
    assert figures["reachable_angstrom"] is figures["exposures_for_goal"] is figures["b_factor_angstrom2"] is None
    table = np.array([[p.n_particles, p.resolution_angstrom, p.frequency_error_per_angstrom] for p in points])
    figure = resolution_forecast(table, np.zeros((0, 4)), [], 3.0, reason="2 numbers of particles")
    assert "2 numbers of particles" in figure.axes[0].get_title(loc="left")
    assert len(png(figure)) > 1000


def test_the_plot_shows_parts_history_goal_and_what_is_expected():
    curve = np.array([[500, 8.0, 7.8, 8.3], [50_000, 5.0, 4.6, 5.6]])
    figure = resolution_forecast(np.array([[500, 8.1, 1e-3]]), curve, [(300, 9.0)], 3.0, 4.5, 100.0)
    labels = set(figure.axes[0].get_legend_handles_labels()[1])
    assert labels == {"90 %", "expected", "parts of the last refinement", "earlier refinements", "goal, 4.5 Å"}
    # finer is higher
    expected = next(line for line in figure.axes[0].lines if line.get_label() == "expected")
    np.testing.assert_allclose(expected.get_ydata(), [1 / 64, 1 / 25])
