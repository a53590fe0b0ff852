"""Chapter four: an atomic model, built into the map, refined and judged."""

from __future__ import annotations

from functools import partial

from prefect import flow

from flows.act_on_verdict import FIRST, act_on_verdict, outcome
from flows.model_recipe import ModelRecipe
from flows.model_rounds import (
    StageFailedError,
    chosen,
    is_made,
    needed,
    refined_and_judged,
    round_of_merging,
    round_of_rebuilding,
)
from flows.sole_use import MAPS, MODELS, sole_use
from flows.template_rounds import rounds_with_template, why_no_template
from tasks.build_model import build_model
from tasks.check_hand import CheckHandParams, check_hand, is_wrong_hand
from tasks.flip_map import FLIPPED, FlipMapParams, flip_map
from tasks.import_map import import_map
from tasks.judge_session import judge_session
from tasks.ligands.requested import require_readable
from tasks.place_ligands import place_ligands
from tasks.records.session import StageReport
from tasks.refine_model import missing_for_refinement, refine_model
from tasks.report_session import ReportSessionParams, report_session
from tasks.stores.session_store import SessionStore
from tasks.validate_model import validate_model


@flow(name="model", flow_run_name="model {session_url}")
def model(session_url: str, recipe: ModelRecipe) -> list[StageReport]:
    """From a map in the store, or from files, to a refined model and a judgement of each of its residues.

    What is not trusted is built anew, round by round, until nothing is left to do or the rounds are over. With placed
    predictions one more round merges them, and in others their engine is shown the best model and predicts anew. Every
    round is kept, and ``models/chosen`` is the best of them. With ligands, ions and waters, where the map supports
    them, it becomes ``models/placed``, which is judged once more. ``verdicts/chosen`` says what is to be done next, and
    the session's report shows it all. Where the recipe gives leave, what a first verdict says is done at once, for one
    round (`act_on_verdict`).

    Parameters
    ----------
    session_url
        Store of the session: a folder, or ``s3://bucket/prefix``; made where the recipe names the files of a map.
    recipe
        Parameters of all stages, the sequences among those of `build_model`.

    Returns
    -------
    One report a stage.

    Raises
    ------
    StageFailedError
        With the reason, where there is no map, no chain in it, or no refined model; before anything is built where the
        refinement would lack its monomer library or the resolution of the map, or rounds with a template their engine
        or half maps.
    FormatError
        For a ligand that cannot be read, before anything else.
    """
    require_readable(recipe.place_ligands)
    SessionStore.create(session_url)
    are_maps_made = recipe.import_map is None and recipe.act_on_verdict in ("refine", "all")
    with sole_use(session_url, *((MAPS,) if are_maps_made else ()), MODELS):
        reports = []
        if recipe.import_map is not None:
            reports.append(needed(import_map(session_url, recipe.import_map)))
        given = {"map": "sharpened" if recipe.import_map is None else "imported"}
        missing = missing_for_refinement(session_url, recipe.refine_model.model_copy(update=given))
        if missing is not None:
            raise StageFailedError(f"refine_model: {missing}")
        on_map = {"map": _map_of_right_hand(session_url, recipe, reports)}
        n_template_rounds = _n_template_rounds(session_url, recipe, on_map["map"], reports)
        reports.append(needed(build_model(session_url, recipe.build_model.model_copy(update=on_map))))
        reports.append(needed(refine_model(session_url, recipe.refine_model.model_copy(update=on_map))))
        reports.append(validate_model(session_url, recipe.validate_model.model_copy(update=on_map)))
        if is_made(reports[-1]):
            models = ["refined"]
            for number in range(1, recipe.n_rounds + 1):
                made = round_of_rebuilding(session_url, recipe, on_map, models[-1], number)
                reports += made
                if not is_made(made[-1]):
                    break
                models.append(f"refined-{number}")
            if recipe.merge_models is not None:
                made = round_of_merging(session_url, recipe, on_map, models)
                reports += made
                if is_made(made[-1]):
                    models.append(f"refined-{len(models)}")
                made, names = rounds_with_template(
                    session_url,
                    recipe.merge_models.model_copy(update=on_map),
                    models,
                    n_template_rounds,
                    partial(refined_and_judged, session_url, recipe, on_map),
                )
                reports += made
                models += names
            judging = recipe.judge_session.model_copy(update=on_map)
            if recipe.act_on_verdict != "none":
                reports += chosen(session_url, models, on_map["map"], FIRST)
                reports.append(judge_session(session_url, judging.model_copy(update={"model": FIRST})))
                acted = act_on_verdict(session_url, recipe, on_map, len(models))
                reports += acted.reports
                reports += chosen(session_url, [*models, *acted.models], acted.map)
                action = outcome(session_url, acted)
                on_map = {"map": acted.map} if action.is_kept else on_map
                judging = judging.model_copy(update={**on_map, "action": action})
            else:
                reports += chosen(session_url, models, on_map["map"])
            reports.append(judge_session(session_url, judging))
            reports.append(place_ligands(session_url, recipe.place_ligands.model_copy(update=on_map)))
            if is_made(reports[-1]):
                judged = {**on_map, "model": "placed"}
                reports.append(validate_model(session_url, recipe.validate_model.model_copy(update=judged)))
    report_session(session_url, ReportSessionParams())
    return reports


def _n_template_rounds(session_url: str, recipe: ModelRecipe, density: str, reports: list[StageReport]) -> int:
    """How many rounds with a template are tried; why there are none is said."""
    if recipe.n_template_rounds == 0 or (recipe.merge_models is None and recipe.n_template_rounds is None):
        return 0
    if recipe.merge_models is None:
        raise StageFailedError("a round with a template starts from placed predictions; name them (`--placed`)")
    placed = recipe.merge_models.placed
    reason = why_no_template(session_url, placed, density)
    if reason is None:
        return 1 if recipe.n_template_rounds is None else recipe.n_template_rounds
    if recipe.n_template_rounds is not None:
        raise StageFailedError(f"no round with a template can be made: {reason}")
    reports.append(StageReport(stage="predict_structure", skipped={placed: f"no round with a template: {reason}"}))
    return 0


def _map_of_right_hand(session_url: str, recipe: ModelRecipe, reports: list[StageReport]) -> str:
    """Name of the map to build into; particles do not tell the hand, so a session's own map is flipped where needed."""
    name = "sharpened" if recipe.import_map is None else "imported"
    reports.append(needed(check_hand(session_url, CheckHandParams(map=name, weights=recipe.build_model.weights))))
    is_wrong, evidence = is_wrong_hand(SessionStore.open(session_url), name)
    if not is_wrong:
        return name
    if recipe.import_map is not None:
        raise StageFailedError(
            f"{recipe.import_map.map}: the map is of the wrong hand ({evidence}, those of proteins wind to the right);"
            " model its mirror image with `--flip`, and flip what else is to lie in its frame"
        )
    reports.append(needed(flip_map(session_url, FlipMapParams(map=name))))
    return FLIPPED
