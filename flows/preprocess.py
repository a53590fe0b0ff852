"""Chapter one: movies become micrographs with a known CTF, and the bad ones are set aside."""

from __future__ import annotations

from prefect import flow

from flows.recipe import Recipe
from tasks.correct_motion import correct_motion
from tasks.curate_exposures import curate_exposures
from tasks.estimate_ctf import estimate_ctf
from tasks.group_optics import group_optics
from tasks.records.session import StageReport


@flow(name="preprocess")
def preprocess(session_url: str, exposure_ids: list[str], recipe: Recipe) -> list[StageReport]:
    """Motion, CTF, curation and optics groups of one batch of exposures."""
    return [
        correct_motion(session_url, exposure_ids, recipe.correct_motion),
        estimate_ctf(session_url, exposure_ids, recipe.estimate_ctf),
        curate_exposures(session_url, exposure_ids, recipe.curate_exposures),
        group_optics(session_url, exposure_ids, recipe.group_optics),
    ]
