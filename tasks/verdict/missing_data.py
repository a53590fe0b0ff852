"""What more particles, and which views, a session lacks."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.particles.view_coverage import ViewCoverage, view_coverage
from tasks.records.verdict import MissingData, NeededParticles
from tasks.stores.commit import Figure
from tasks.stores.products.map_store import density_map
from tasks.stores.products.particle_store import read_particles
from tasks.stores.session_store import SessionStore

_MAP, _PARTICLES, _FORECAST = "refined", "particles/refined", "session/resolution_forecast"
EVEN_ENOUGH = 0.6
"""Of the evenness of views: below it maps are smeared along what is missing."""


def goal_of_forecast(store: SessionStore) -> float | None:
    """Resolution that the recipe of the session wants, in Å."""
    forecast = store.product(_FORECAST).record_if_done()
    return None if forecast is None else _number(forecast.figures.get("goal_angstrom"))


def missing_data(store: SessionStore, aim_angstrom: float | None) -> MissingData:
    """From the session's refined particles and the forecast of its resolution, as far as they are there.

    Parameters
    ----------
    aim_angstrom
        Resolution that particles are counted for.
    """
    particles, forecast = (store.product(address).record_if_done() for address in (_PARTICLES, _FORECAST))
    coverage = None
    n_particles, resolution = None, None
    if particles is not None:
        about = density_map(store, _MAP)
        rotations = torch.from_numpy(read_particles(store.product(_PARTICLES).read()).columns["rotation"])
        n_particles, resolution = len(rotations), about.resolution_angstrom
        coverage = view_coverage(rotations, about.symmetry)
    figures = {} if forecast is None else forecast.figures
    words, needed = figures.get("verdict"), None
    if forecast is not None and aim_angstrom is not None:
        per_exposure = _number(figures.get("particles_per_exposure")) or 1.0
        needed = particles_for(store.product(_FORECAST).read()["curve"], aim_angstrom, per_exposure)
    return MissingData(
        n_particles=n_particles,
        resolution_angstrom=resolution,
        forecast=None if words is None else str(words),
        evenness=None if coverage is None else round(coverage.evenness, 3),
        seldom_share=None if coverage is None else round(coverage.seldom_share, 3),
        weakest_direction=None if coverage is None else _triple(coverage.weakest),
        views=None if coverage is None else view_words(coverage),
        limit_angstrom=_number(figures.get("limit_angstrom")),
        needed=needed,
    )


def particles_for(curve: NDArray, resolution_angstrom: float, per_exposure: float) -> NeededParticles | None:
    """Where a forecast's curve crosses a resolution; None where it does not.

    Parameters
    ----------
    curve
        (point, 4) particles, resolution that is expected, and the finer and coarser end of its interval.
    """
    if not len(curve):
        return None
    expected, low, high = (_crossing(curve[:, 0], curve[:, k], resolution_angstrom) for k in (1, 2, 3))
    if expected is None:
        return None
    return NeededParticles(
        resolution_angstrom=resolution_angstrom,
        n_particles=expected,
        low=expected if low is None else low,
        high=high,
        n_exposures=math.ceil(expected / per_exposure),
    )


def particle_words(missing: MissingData) -> list[str]:
    """How many particles a goal takes, where the forecast does not say so itself, and what more exposures bring."""
    needed, told = missing.needed, []
    forecast = missing.forecast or ""
    is_lacking = needed is not None and needed.n_particles > (missing.n_particles or 0)
    if needed is not None and is_lacking and f"{needed.resolution_angstrom:g} Å needs" not in forecast:
        end = "more than a hundred times as many as there are" if needed.high is None else f"{needed.high:,}"
        told.append(
            f"{needed.resolution_angstrom:g} Å takes about {needed.n_particles:,} particles ({needed.low:,} to {end}),"
            f" from {needed.n_exposures:,} exposures like these"
        )
    return [*told, forecast] if forecast else told


def _crossing(particles: NDArray, resolution_angstrom: NDArray, wanted_angstrom: float) -> int | None:
    """Between points by the logarithm of the number; the first point where all of them are fine enough."""
    fine = np.flatnonzero(resolution_angstrom <= wanted_angstrom)
    if not len(fine):
        return None
    after = max(int(fine[0]), 1)
    near = slice(after - 1, after + 1)
    number = np.interp(-wanted_angstrom, -resolution_angstrom[near], np.log(particles[near]))
    return math.ceil(math.exp(float(number)))


def _number(value: Figure) -> float | None:
    return float(value) if isinstance(value, int | float) else None


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
