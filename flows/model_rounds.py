"""Rounds in which a model is built anew in places, refined and judged again."""

from __future__ import annotations

from collections.abc import Sequence

from flows.model_recipe import ModelRecipe
from tasks.choose_model import ChooseModelParams, choose_model
from tasks.compare_rounds import CompareRoundsParams, compare_rounds
from tasks.merge_models import merge_models
from tasks.rebuild_model import rebuild_model
from tasks.records.session import StageReport
from tasks.refine_model import refine_model
from tasks.validate_model import validate_model


class StageFailedError(RuntimeError):
    """A stage made nothing for the next one to start from."""


def round_of_rebuilding(
    session_url: str, recipe: ModelRecipe, on_map: dict[str, str], model: str, number: int
) -> list[StageReport]:
    """What one round's stages report, up to the one that had nothing to do or came to nothing."""
    source = {**on_map, "round": number, "model": model, "sequences": recipe.build_model.sequences}
    made = rebuild_model(session_url, recipe.rebuild_model.model_copy(update=source))
    return [made, *(refined_and_judged(session_url, recipe, on_map, number) if is_made(made) else [])]


def round_of_merging(
    session_url: str, recipe: ModelRecipe, on_map: dict[str, str], models: list[str]
) -> list[StageReport]:
    """The newest model merged with placed predictions, refined and judged as a round after those that were made."""
    assert recipe.merge_models is not None
    source = {**on_map, "round": len(models), "traced": models[-1]}
    made = merge_models(session_url, recipe.merge_models.model_copy(update=source))
    return [made, *(refined_and_judged(session_url, recipe, on_map, len(models)) if is_made(made) else [])]


def refined_and_judged(session_url: str, recipe: ModelRecipe, on_map: dict[str, str], number: int) -> list[StageReport]:
    reports = [refine_model(session_url, recipe.refine_model.model_copy(update={**on_map, "round": number}))]
    if is_made(reports[-1]):
        judged = {**on_map, "model": f"refined-{number}"}
        reports.append(validate_model(session_url, recipe.validate_model.model_copy(update=judged)))
    return reports


def chosen(session_url: str, models: Sequence[str], density: str, name: str = "chosen") -> list[StageReport]:
    """Rounds compared in one mask, and the best of them taken as ``models/<name>``."""
    names = tuple(models)
    compared = needed(compare_rounds(session_url, CompareRoundsParams(models=names, map=density)))
    choice = ChooseModelParams(models=names, map=density, name=name)
    return [compared, needed(choose_model(session_url, choice))]


def is_made(report: StageReport) -> bool:
    return not report.failed and not report.skipped


def needed(report: StageReport) -> StageReport:
    for reason in (*report.failed.values(), *report.skipped.values()):
        raise StageFailedError(f"{report.stage}: {reason}")
    return report
