"""Rounds of a model in which an engine is shown what was fitted so far, and predicts anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from flows.model_rounds import is_made
from tasks.choose_model import ChooseModelParams, best_of
from tasks.compare_rounds import CompareRoundsParams, compare_rounds
from tasks.dock_model import DockModelParams, dock_model
from tasks.flex_model import FlexModelParams, flex_model
from tasks.merge_models import MergeModelsParams, merge_models
from tasks.predict_structure import PredictStructureParams, predict_structure
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Record
from tasks.stores.products.map_store import halves_of
from tasks.stores.session_store import SessionStore

Params = TypeVar("Params", bound=StageParams)
_PREDICTIONS = "predictions/"


def why_no_template(session_url: str, placed: str, density: str) -> str | None:
    """Why a placed model cannot be predicted anew with a template, and what to do; None where it can."""
    store = SessionStore.open(session_url)
    if store.product(_address(placed)).record_if_done() is None:
        return f"{_address(placed)} is not there; place a prediction with `vitriflow dock`, or name one"
    if not _by_engines(store, placed):
        return (
            f"{_address(placed)} comes from files, so no engine is known that could be shown a template; predict with"
            " an engine that is installed (`vitriflow predict --sequence …`), with `--template chosen` where a model is"
            " there already, and place that"
        )
    if halves_of(store, density) is None:
        return (
            f"maps/{density} has no half maps, and a round with a template is kept only where the half map that nothing"
            " was built in agrees better; give both (`--half1` and `--half2`)"
        )
    return None


def rounds_with_template(
    session_url: str,
    merging: MergeModelsParams,
    models: list[str],
    n_rounds: int,
    refined_and_judged: Callable[[int], list[StageReport]],
) -> tuple[list[StageReport], list[str]]:
    """Up to ``n_rounds``, each from the best model so far, until one is not better or comes to nothing.

    Parameters
    ----------
    merging
        How placed predictions are merged, and which.
    models
        Names of those of earlier rounds.
    refined_and_judged
        Refines and validates the model of a round of this number.

    Returns
    -------
    Reports, and names of the models that were made.
    """
    reports: list[StageReport] = []
    made: list[str] = []
    best = _best(session_url, models, merging.map, reports) if n_rounds else None
    for number in range(len(models), len(models) + n_rounds):
        if best is None:
            break
        placed = placed_anew(session_url, merging.placed, best, number, reports)
        if placed is None:
            break
        source = {"round": number, "traced": best, "placed": placed}
        reports.append(merge_models(session_url, merging.model_copy(update=source)))
        if not is_made(reports[-1]):
            break
        reports += refined_and_judged(number)
        if not is_made(reports[-1]):
            break
        made.append(f"refined-{number}")
        best = _best(session_url, [*models, *made], merging.map, reports)
        if best != made[-1]:
            break
    return reports, made


def _best(session_url: str, models: Sequence[str], density: str, reports: list[StageReport]) -> str | None:
    """Name of the best model so far; None where they cannot be compared."""
    names = tuple(models)
    reports.append(compare_rounds(session_url, CompareRoundsParams(models=names, map=density)))
    return best_of(session_url, ChooseModelParams(models=names, map=density)) if is_made(reports[-1]) else None


def placed_anew(session_url: str, placed: str, template: str, number: int, reports: list[StageReport]) -> str | None:
    """A placed model as it was made, of predictions that were shown a template.

    Parameters
    ----------
    placed, template
        Names of the placed model, or ``predictions/<name>``, and of the model that engines are shown.
    number
        Behind the names of what is made.
    reports
        Of its stages are put here.

    Returns
    -------
    Its name; None where a stage came to nothing.
    """
    store = SessionStore.open(session_url)
    record = store.product(_address(placed)).done_record(_address(placed))
    named = {"name": f"{placed.removeprefix(_PREDICTIONS)}-{number}"}
    try:
        if record.stage == "predict_structure":
            if not _is_by_engine(record):
                return placed
            asked = _as_before(PredictStructureParams, record, {**named, "template": template})
            reports.append(predict_structure(session_url, asked))
            named["name"] = f"{_PREDICTIONS}{named['name']}"
        elif record.stage == "dock_model":
            sources = [
                placed_anew(session_url, f"{_PREDICTIONS}{name}", template, number, reports)
                for name in record.params["predictions"]
            ]
            if None in sources:
                return None
            predictions = tuple(str(name).removeprefix(_PREDICTIONS) for name in sources)
            docking = _as_before(DockModelParams, record, {**named, "predictions": predictions})
            reports.append(dock_model(session_url, docking))
        else:
            docked = placed_anew(session_url, record.params["model"], template, number, reports)
            if docked is None:
                return None
            bending = _as_before(FlexModelParams, record, {**named, "model": docked})
            reports.append(flex_model(session_url, bending))
    except ValidationError as error:  # a file that the earlier run was given is gone
        why = "; ".join(one["msg"] for one in error.errors())
        reports.append(StageReport(stage=record.stage, failed={named["name"]: why}))
    return named["name"] if is_made(reports[-1]) else None


def _by_engines(store: SessionStore, placed: str) -> list[str]:
    """Names of the predictions in a placed model that an engine made."""
    record = store.product(_address(placed)).record()
    if record is None:
        return []
    if record.stage == "predict_structure":
        return [placed] if _is_by_engine(record) else []
    if record.stage == "flex_model":
        return _by_engines(store, record.params["model"])
    names = record.params["predictions"] if record.stage == "dock_model" else []
    return [one for name in names for one in _by_engines(store, f"{_PREDICTIONS}{name}")]


def _as_before(kind: type[Params], record: Record, changes: Mapping[str, Any]) -> Params:
    """Parameters of an earlier run with some changes."""
    told = {name: record.params[name] for name in kind.model_fields if name in record.params}
    return kind.model_validate({**told, **changes})


def _is_by_engine(record: Record) -> bool:
    return record.params.get("file", "") is None


def _address(placed: str) -> str:
    return placed if placed.startswith(_PREDICTIONS) else f"models/{placed}"
