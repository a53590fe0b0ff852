"""Chapter one: movies become micrographs with a known CTF, and the bad ones are set aside."""

from __future__ import annotations

from prefect import flow

from flows.exposure_stages import preprocessing, run_each
from flows.recipe import Recipe
from tasks.records.session import StageReport


@flow(name="preprocess")
def preprocess(session_url: str, exposure_ids: list[str], recipe: Recipe) -> list[StageReport]:
    """Motion, CTF, curation and optics groups of one batch of exposures."""
    return list(run_each(preprocessing(recipe), session_url, exposure_ids))
