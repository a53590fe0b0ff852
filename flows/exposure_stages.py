"""What is done with single exposures, in order: the one list for sessions that are complete and that still grow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from prefect import Task

from flows.recipe import Recipe
from tasks.correct_motion import correct_motion
from tasks.curate_exposures import curate_exposures
from tasks.estimate_ctf import estimate_ctf
from tasks.extract_particles import extract_particles
from tasks.group_optics import group_optics
from tasks.pick_particles import pick_particles
from tasks.records.session import StageParams, StageReport

Stages: TypeAlias = Iterable[tuple[Task[..., StageReport], StageParams]]


def preprocessing(recipe: Recipe) -> Stages:
    """From a movie to a micrograph that is accepted or set aside."""
    return (
        (correct_motion, recipe.correct_motion),
        (estimate_ctf, recipe.estimate_ctf),
        (curate_exposures, recipe.curate_exposures),
        (group_optics, recipe.group_optics),
    )


def particle_finding(recipe: Recipe) -> Stages:
    """From a micrograph to its particles."""
    return (
        (pick_particles, recipe.pick_particles),
        (extract_particles, recipe.extract_particles),
    )


def run_each(stages: Stages, session_url: str, exposure_ids: Sequence[str]) -> Iterator[StageReport]:
    """One task run a stage, over all the exposures."""
    for stage, params in stages:
        yield stage(session_url, list(exposure_ids), params)


def run_within(stages: Stages, session_url: str, exposure_ids: Sequence[str]) -> Iterator[StageReport]:
    """The stages as part of the task run that calls; a wave of many small batches has one task run."""
    for stage, params in stages:
        yield stage.fn(session_url, list(exposure_ids), params)
