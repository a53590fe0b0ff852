"""Chapter two: particles are found on the accepted micrographs, cut out and classified."""

from __future__ import annotations

from prefect import flow

from flows.exposure_stages import particle_finding, run_each
from flows.recipe import Recipe
from tasks.classify_2d import classify_2d
from tasks.records.session import StageReport


@flow(name="find_particles")
def find_particles(session_url: str, exposure_ids: list[str], recipe: Recipe) -> list[StageReport]:
    """Picks, stacks and 2D classes of the session."""
    return [
        *run_each(particle_finding(recipe), session_url, exposure_ids),
        classify_2d(session_url, recipe.classify_2d),
    ]
