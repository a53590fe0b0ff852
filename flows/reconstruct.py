"""Chapter three: a first map from nothing, a gold-standard refinement, a sharpened map, and what is to be done next."""

from __future__ import annotations

from prefect import flow

from flows.recipe import Recipe
from tasks.build_initial_map import build_initial_map
from tasks.forecast_resolution import forecast_resolution
from tasks.judge_session import JudgeSessionParams, judge_session
from tasks.records.session import StageReport
from tasks.refine_map import refine_map
from tasks.sharpen_map import sharpen_map


@flow(name="reconstruct")
def reconstruct(session_url: str, recipe: Recipe) -> list[StageReport]:
    """From the selected particles to the final map, what more data would give, and the verdict on it."""
    return [
        build_initial_map(session_url, recipe.build_initial_map),
        refine_map(session_url, recipe.refine_map),
        sharpen_map(session_url, recipe.sharpen_map),
        forecast_resolution(session_url, recipe.forecast_resolution),
        judge_session(session_url, JudgeSessionParams(model=None)),
    ]
