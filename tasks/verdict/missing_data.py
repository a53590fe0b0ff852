"""What more particles, and which views, a session lacks."""

from __future__ import annotations

import math

import torch

from kernels.particles.view_coverage import ViewCoverage, view_coverage
from tasks.records.verdict import MissingData
from tasks.stores.products.map_store import density_map
from tasks.stores.products.particle_store import read_particles
from tasks.stores.session_store import SessionStore

_MAP, _PARTICLES, _FORECAST = "refined", "particles/refined", "session/resolution_forecast"
EVEN_ENOUGH = 0.6
"""Of the evenness of views: below it maps are smeared along what is missing."""


def missing_data(store: SessionStore) -> MissingData:
    """From the session's refined particles and the forecast of its resolution, as far as they are there."""
    particles, forecast = store.product(_PARTICLES).record(), store.product(_FORECAST).record()
    coverage = None
    n_particles, resolution = None, None
    if particles is not None and particles.state == "done":
        about = density_map(store, _MAP)
        rotations = torch.from_numpy(read_particles(store.product(_PARTICLES).read()).columns["rotation"])
        n_particles, resolution = len(rotations), about.resolution_angstrom
        coverage = view_coverage(rotations, about.symmetry)
    words = forecast.figures.get("verdict") if forecast is not None and forecast.state == "done" else None
    return MissingData(
        n_particles=n_particles,
        resolution_angstrom=resolution,
        forecast=None if words is None else str(words),
        evenness=None if coverage is None else round(coverage.evenness, 3),
        seldom_share=None if coverage is None else round(coverage.seldom_share, 3),
        weakest_direction=None if coverage is None else _triple(coverage.weakest),
        views=None if coverage is None else view_words(coverage),
    )


def _triple(values: torch.Tensor) -> tuple[float, float, float]:
    z, y, x = (round(v, 3) for v in values.tolist())
    return z, y, x


def view_words(found: ViewCoverage) -> str:
    """Whether views are even, and what to do about those that are missing."""
    if found.evenness >= EVEN_ENOUGH:
        return f"views are even enough ({found.evenness:.2f} of 1)"
    from_preferred = math.degrees(math.acos(min(1.0, abs(float(found.weakest @ found.preferred)))))
    x, y, z = _triple(found.weakest.flip(0))
    share = f"{found.seldom_share:.0%} of the directions have less than a quarter of the mean"
    if found.preferred_share > 0.5 and from_preferred < 45:
        way = (
            f"{found.preferred_share:.0%} of the particles look along one axis; collect with the stage tilted by 30 to"
            " 40 degrees, or change the grid's support"
        )
    else:
        way = f"views at right angles to ({x:.2f}, {y:.2f}, {z:.2f}) (x, y, z) are missing"
    return f"views are uneven ({found.evenness:.2f} of 1): {share}; {way}"
