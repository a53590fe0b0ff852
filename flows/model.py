"""Chapter four: an atomic model, built into the map, refined and judged."""

from __future__ import annotations

from prefect import flow
from pydantic import Field

from flows.sole_use import MODELS, sole_use
from tasks.build_model import BuildModelParams, build_model
from tasks.check_hand import CheckHandParams, check_hand, is_wrong_hand
from tasks.choose_model import ChooseModelParams, choose_model
from tasks.flip_map import FLIPPED, FlipMapParams, flip_map
from tasks.import_map import ImportMapParams, import_map
from tasks.judge_session import JudgeSessionParams, judge_session
from tasks.ligands.params import PlaceLigandsParams
from tasks.ligands.requested import require_readable
from tasks.merge_models import MergeModelsParams, merge_models
from tasks.model_refinement.params import RefineModelParams
from tasks.place_ligands import place_ligands
from tasks.rebuild_model import RebuildModelParams, rebuild_model
from tasks.records.session import StageParams, StageReport
from tasks.refine_model import missing_for_refinement, refine_model
from tasks.report_session import ReportSessionParams, report_session
from tasks.stores.session_store import SessionStore
from tasks.validate_model import ValidateModelParams, validate_model


class StageFailedError(RuntimeError):
    """A stage made nothing for the next one to start from."""


class ModelRecipe(StageParams):
    """How a model is built into a map."""

    import_map: ImportMapParams | None = None
    """Files of a map that another program made; without them the session's sharpened map is used."""
    build_model: BuildModelParams = Field(default_factory=BuildModelParams)
    refine_model: RefineModelParams = Field(default_factory=RefineModelParams)
    validate_model: ValidateModelParams = Field(default_factory=lambda: ValidateModelParams(is_network_asked=True))
    rebuild_model: RebuildModelParams = Field(default_factory=RebuildModelParams)
    n_rounds: int = Field(default=2, ge=0, le=10)
    """Most rounds in which what is not trusted is built anew, refined and judged again."""
    merge_models: MergeModelsParams | None = None
    """Placed predictions that the model is merged with, in a round of its own after those; None for none."""
    place_ligands: PlaceLigandsParams = Field(default_factory=PlaceLigandsParams)
    judge_session: JudgeSessionParams = Field(default_factory=JudgeSessionParams)
    """What the model is compared with, and the resolution that is to be reached, for the decision at the end."""


@flow(name="model", flow_run_name="model {session_url}")
def model(session_url: str, recipe: ModelRecipe) -> list[StageReport]:
    """From a map in the store, or from files, to a refined model and a judgement of each of its residues.

    What is not trusted is built anew, round by round, until nothing is left to do or the rounds are over; every round
    is kept, and ``models/chosen`` is the best of them. With ligands, ions and waters, where the map supports them, it
    becomes ``models/placed``, which is judged once more. ``verdicts/chosen`` says what is to be done next, and the
    session's report shows it all.

    Returns
    -------
    One report a stage.

    Raises
    ------
    StageFailedError
        With the reason, where there is no map, no chain in it, or no refined model; before anything is built where the
        refinement would lack its monomer library or the resolution of the map.
    FormatError
        For a ligand that cannot be read, before anything else.
    """
    require_readable(recipe.place_ligands)
    SessionStore.create(session_url)
    with sole_use(session_url, MODELS):
        reports = []
        if recipe.import_map is not None:
            reports.append(_needed(import_map(session_url, recipe.import_map)))
        given = {"map": "sharpened" if recipe.import_map is None else "imported"}
        missing = missing_for_refinement(session_url, recipe.refine_model.model_copy(update=given))
        if missing is not None:
            raise StageFailedError(f"refine_model: {missing}")
        on_map = {"map": _map_of_right_hand(session_url, recipe, reports)}
        reports.append(_needed(build_model(session_url, recipe.build_model.model_copy(update=on_map))))
        reports.append(_needed(refine_model(session_url, recipe.refine_model.model_copy(update=on_map))))
        reports.append(validate_model(session_url, recipe.validate_model.model_copy(update=on_map)))
        if _is_made(reports[-1]):
            models = ["refined"]
            for number in range(1, recipe.n_rounds + 1):
                made = _round_of_rebuilding(session_url, recipe, on_map, models[-1], number)
                reports += made
                if not _is_made(made[-1]):
                    break
                models.append(f"refined-{number}")
            if recipe.merge_models is not None:
                made = _round_of_merging(session_url, recipe, on_map, models)
                reports += made
                if _is_made(made[-1]):
                    models.append(f"refined-{len(models)}")
            choice = ChooseModelParams(models=tuple(models), map=on_map["map"])
            reports.append(_needed(choose_model(session_url, choice)))
            reports.append(judge_session(session_url, recipe.judge_session.model_copy(update=on_map)))
            reports.append(place_ligands(session_url, recipe.place_ligands.model_copy(update=on_map)))
            if _is_made(reports[-1]):
                judged = {**on_map, "model": "placed"}
                reports.append(validate_model(session_url, recipe.validate_model.model_copy(update=judged)))
    report_session(session_url, ReportSessionParams())
    return reports


def _map_of_right_hand(session_url: str, recipe: ModelRecipe, reports: list[StageReport]) -> str:
    """Name of the map to build into; particles do not tell the hand, so a session's own map is flipped where needed."""
    name = "sharpened" if recipe.import_map is None else "imported"
    reports.append(_needed(check_hand(session_url, CheckHandParams(map=name, weights=recipe.build_model.weights))))
    is_wrong, evidence = is_wrong_hand(SessionStore.open(session_url), name)
    if not is_wrong:
        return name
    if recipe.import_map is not None:
        raise StageFailedError(
            f"{recipe.import_map.map}: the map is of the wrong hand ({evidence}, those of proteins wind to the right);"
            " model its mirror image with `--flip`, and flip what else is to lie in its frame"
        )
    reports.append(_needed(flip_map(session_url, FlipMapParams(map=name))))
    return FLIPPED


def _round_of_rebuilding(
    session_url: str, recipe: ModelRecipe, on_map: dict[str, str], model: str, number: int
) -> list[StageReport]:
    """What one round's stages report, up to the one that had nothing to do or came to nothing."""
    source = {**on_map, "round": number, "model": model, "sequences": recipe.build_model.sequences}
    made = rebuild_model(session_url, recipe.rebuild_model.model_copy(update=source))
    return [made, *(_refined_and_judged(session_url, recipe, on_map, number) if _is_made(made) else [])]


def _round_of_merging(
    session_url: str, recipe: ModelRecipe, on_map: dict[str, str], models: list[str]
) -> list[StageReport]:
    """The newest model merged with placed predictions, refined and judged as a round after those that were made."""
    assert recipe.merge_models is not None
    source = {**on_map, "round": len(models), "traced": models[-1]}
    made = merge_models(session_url, recipe.merge_models.model_copy(update=source))
    return [made, *(_refined_and_judged(session_url, recipe, on_map, len(models)) if _is_made(made) else [])]


def _refined_and_judged(
    session_url: str, recipe: ModelRecipe, on_map: dict[str, str], number: int
) -> list[StageReport]:
    reports = [refine_model(session_url, recipe.refine_model.model_copy(update={**on_map, "round": number}))]
    if _is_made(reports[-1]):
        judged = {**on_map, "model": f"refined-{number}"}
        reports.append(validate_model(session_url, recipe.validate_model.model_copy(update=judged)))
    return reports


def _is_made(report: StageReport) -> bool:
    return not report.failed and not report.skipped


def _needed(report: StageReport) -> StageReport:
    for reason in (*report.failed.values(), *report.skipped.values()):
        raise StageFailedError(f"{report.stage}: {reason}")
    return report
