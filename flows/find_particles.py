"""Chapter two: particles are found on the accepted micrographs, cut out and classified."""

from __future__ import annotations

from prefect import flow

from flows.recipe import Recipe
from tasks.classify_2d import classify_2d
from tasks.extract_particles import extract_particles
from tasks.pick_particles import pick_particles
from tasks.records.session import StageReport


@flow(name="find_particles")
def find_particles(session_url: str, exposure_ids: list[str], recipe: Recipe) -> list[StageReport]:
    """Picks, stacks and 2D classes of the session."""
    return [
        pick_particles(session_url, exposure_ids, recipe.pick_particles),
        extract_particles(session_url, exposure_ids, recipe.extract_particles),
        classify_2d(session_url, recipe.classify_2d),
    ]
