"""Rounds of rebuilding compared: the best of several validated models is the one to take."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from tasks.records.forecast import Need
from tasks.records.model import ModelValidation
from tasks.records.rounds import RoundsComparison
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.model_store import copy_model, n_residues_of
from tasks.stores.products.rounds_store import read_rounds, rounds_address
from tasks.stores.products.validation_store import read_validation, write_validation
from tasks.stores.session_store import SessionStore
from tasks.workers.stage import Stage, run_stage

_OF, _AND, _IN = " of ", ", ", " in "
"""Between what is made, the names of the models that it is chosen from, and that of their map, in an item."""
_SAME_FSC = 0.0005
"""Averages of models that differ in a few residues differ by more where one is better."""
_MOST_CLASHES_MORE, _MOST_OUTLIERS_MORE_PERCENT = 3.0, 0.5
"""Than in the first round, of a round that is taken."""
_STANDARD_ERRORS = 2.0
"""By which shares of outliers, often one or two residues, differ by chance."""


class ChooseModelParams(StageParams):
    """Parameters of `choose_model`."""

    models: tuple[str, ...] = Field(default=("refined",), min_length=1)
    """Names of the models in the store, round by round; each must have been validated, and all compared."""
    map: str = "sharpened"
    """Name of the map that they were compared in."""
    name: str = "chosen"
    """Of the model that is taken, and of its validation."""


@task(name="choose_model", cache_policy=NO_CACHE)
def choose_model(session_url: str, params: ChooseModelParams) -> StageReport:
    """``models/<name>``, with the history of the rounds, and ``validations/<name>``.

    The half map that nothing was built in decides, as the mean FSC of each model with it inside of one mask around all
    of them (`compare_rounds`); without half maps the mean probability of residues to be right, lost residues counted.
    Among equals the probability decides, and a round whose geometry is clearly worse than that of the first is not
    taken. A round whose prediction had a template is taken only where the half map says so: the prediction was made to
    be like the model, so that nothing else is a witness.
    """
    item = f"{params.name}{_OF}{_AND.join(params.models)}{_IN}{params.map}"
    report = run_stage(session_url, _choice, [item], params)
    if report.failed or report.skipped:
        return report
    judged = run_stage(session_url, _judgement, [item], params)
    return judged if judged.failed or judged.skipped else report


def _names(item: str) -> list[str]:
    return item.split(_IN)[0].split(_OF)[1].split(_AND)


def _inputs(store: SessionStore, item: str) -> list[str]:
    rebuilt = [f"models/rebuilt-{i}" for i in range(1, len(_names(item)))]
    return [
        *(f"{group}/{name}" for name in _names(item) for group in ("models", "validations")),
        rounds_address(_names(item)),
        *(address for address in rebuilt if store.product(address).record() is not None),
        f"maps/{item.split(_IN)[1]}",
    ]


def _choose(store: SessionStore, item: str, params: ChooseModelParams, attempt: Attempt) -> None:
    compared, found = read_rounds(store, params.models, params.map), _validations(store, params)
    name = params.models[_best(store, compared, found)]
    copy_model(store, attempt, name)
    attempt.details["rounds"] = [
        {
            "name": one.name,
            **_figures(told),
            "fsc_free_one_mask": one.fsc_free,
            "rebuilt": _done_before(store, number),
        }
        for number, (one, told) in enumerate(zip(compared.rounds, found))
    ]
    if len(found) > 1:
        attempt.details["compared"] = compared.words
    attempt.figures.update(best_round=name, n_rounds=len(found) - 1)


def best_of(session_url: str, params: ChooseModelParams) -> str:
    """Name of the model that would be chosen.

    Raises
    ------
    StoreError
        Where the models were not compared.
    """
    store = SessionStore.open(session_url)
    compared = read_rounds(store, params.models, params.map)
    return params.models[_best(store, compared, _validations(store, params))]


def _validations(store: SessionStore, params: ChooseModelParams) -> list[ModelValidation]:
    return [read_validation(store, name) for name in params.models]


def _best(store: SessionStore, compared: RoundsComparison, found: Sequence[ModelValidation]) -> int:
    templated = [number for number in range(1, len(found)) if _templates_of_round(store, number)]
    return best_round(found, [one.fsc_free for one in compared.rounds], templated)


def best_round(
    found: Sequence[ModelValidation], fsc_free: Sequence[float | None], templated: Container[int] = ()
) -> int:
    """Index of the round to take; the earliest among equals.

    Parameters
    ----------
    fsc_free
        Of each round, in one mask; None where that was not measured.
    templated
        Indices of rounds that only the half map can speak for.
    """
    first, best = found[0], 0
    most = max(len(told.residues) for told in found)
    for number, told in enumerate(found[1:], 1):
        is_sane = told.clashscore <= first.clashscore + _MOST_CLASHES_MORE and not _has_more_outliers(told, first)
        is_better = _agrees_better(fsc_free[number], fsc_free[best])
        if is_better is None and number not in templated:
            is_better = _mean_probability(told, most) > _mean_probability(found[best], most)
        if is_sane and is_better:
            best = number
    return best


def _has_more_outliers(told: ModelValidation, than: ModelValidation) -> bool:
    """Whether more of its residues are Ramachandran outliers, clearly so for as many as both have."""
    verdicts = [[row.ramachandran for row in one.residues if row.ramachandran] for one in (told, than)]
    (n, n_out), (n_than, n_out_than) = ((len(some), some.count("outlier")) for some in verdicts)
    if not n or not n_than:
        return False
    together = (n_out + n_out_than) / (n + n_than)
    error = 100 * math.sqrt(together * (1 - together) * (1 / n + 1 / n_than))
    more = 100 * (n_out / n - n_out_than / n_than)
    return more > _MOST_OUTLIERS_MORE_PERCENT + _STANDARD_ERRORS * error


def _agrees_better(fsc_free: float | None, than: float | None) -> bool | None:
    """Whether the half map that nothing was built in agrees better; None where it does not tell."""
    if fsc_free is None or than is None or abs(fsc_free - than) <= _SAME_FSC:
        return None
    return fsc_free > than


def _mean_probability(told: ModelValidation, n_residues: int) -> float:
    return sum(row.probability or 0.0 for row in told.residues) / n_residues


def _figures(told: ModelValidation) -> dict[str, Any]:
    known = [row.probability for row in told.residues if row.probability is not None]
    return {
        "residues": told.n_residues,
        "trusted_percent": told.trusted_percent,
        "not_supported": sum(row.verdict == "not supported" for row in told.residues),
        "mean_probability": round(sum(known) / len(known), 4) if known else None,
        "q_score": told.q_score,
        "ramachandran_favoured_percent": told.ramachandran_favoured_percent,
        "clashscore": told.clashscore,
        "fsc_free": told.fsc_free,
    }


def _done_before(store: SessionStore, number: int) -> str:
    """What was built anew for a round, in words."""
    record = store.product(f"models/rebuilt-{number}").record() if number else None
    if record is None or record.state != "done":
        return ""
    if record.stage == "build_model":
        return f"what lies in {record.params['mask'] or 'the map'}, in maps/{record.params['map']}"
    told = []
    for window in record.details.get("windows", []):
        ways = [] if window["taken"] == "kept" else [str(window["taken"])]
        if window["shift"] is not None:
            ways.append("register")
        if ways:
            told.append(f"{window['chain']} {window['first']}–{window['last']}: {' and '.join(ways)}")
    n_predicted = sum(row["source"] != "traced" for row in record.details.get("residues", []))
    if n_predicted:
        shown = _templates_of_round(store, number)
        told.append(
            f"{n_predicted} residues of predictions" + (f" that were shown {', '.join(shown)}" if shown else "")
        )
    return "; ".join(told)


def _templates_of_round(store: SessionStore, number: int) -> list[str]:
    """Models that engines were shown for the predictions that a round merged."""
    address = f"models/rebuilt-{number}"
    record = store.product(address).record()
    return _templates(store, address) if record is not None and record.stage == "merge_models" else []


def _templates(store: SessionStore, address: str) -> list[str]:
    """The same for a merged or placed model, or a prediction."""
    record = store.product(address).record()
    if record is None:
        return []
    if record.stage == "predict_structure":
        template = record.params.get("template")
        return [template] if template else []
    sources = [a for a in record.inputs if a.startswith(("models/", "predictions/"))]
    found = [_templates(store, a) for a in sources if a != f"models/{record.params.get('traced')}"]
    return list(dict.fromkeys(name for names in found for name in names))


def _judgement_inputs(_store: SessionStore, item: str) -> list[str]:
    return [_model_address(item), *(f"validations/{name}" for name in _names(item))]


def _judge(store: SessionStore, item: str, _params: ChooseModelParams, attempt: Attempt) -> None:
    name = str(store.product(_model_address(item)).done_record("the chosen model").figures["best_round"])
    write_validation(attempt, read_validation(store, name))


def _model_address(item: str) -> str:
    return f"models/{item.split(_OF)[0]}"


def _validation_address(item: str) -> str:
    return f"validations/{item.split(_OF)[0]}"


def _needs(store: SessionStore, _items: Sequence[str], params: ChooseModelParams) -> Need:
    n_residues = max(n_residues_of(store, name) or 0 for name in params.models)
    return Need(
        stage=_choice.name,
        n_items=1,
        memory_bytes=5_000_000 + 20_000 * n_residues * len(params.models),
        disk_bytes=20_000 + 400 * n_residues,
        cpu_seconds=0.1,
        told_from=f"{len(params.models)} models of up to {n_residues} residues",
        remedy="free memory on the workers",
    )


_choice = Stage("choose_model", 3, "CPU", _choose, _inputs, _model_address, _needs)
_judgement = Stage("choose_model", 3, "CPU", _judge, _judgement_inputs, _validation_address, _needs)
