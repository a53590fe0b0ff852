"""What a verdict says, done at once: one round of rebuilding, or a local refinement and a model of its map."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flows.model_recipe import ModelRecipe
from flows.model_rounds import is_made, refined_and_judged
from tasks.build_model import build_model
from tasks.flip_map import FLIPPED
from tasks.join_maps import JOINED, JoinMapsParams, join_maps
from tasks.merge_models import MergeModelsParams, merge_models
from tasks.rebuild_model import rebuild_model
from tasks.records.session import StageReport
from tasks.records.verdict import ActionTaken, SessionVerdict
from tasks.refine_part import refine_part
from tasks.stores.products.map_store import density_map, has_map
from tasks.stores.products.verdict_store import read_verdict
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError
from tasks.verdict.action import chosen_round, own_stretches, part_told, predicted_stretches, reasons_against
from tasks.workers.room import DoesNotFitError

FIRST = "first"
"""Name of the model, and of the verdict on it, that is acted on."""


@dataclass(frozen=True)
class Acted:
    """What was done about a verdict."""

    taken: ActionTaken
    reports: list[StageReport]
    map: str
    """Name of the map that the model of the action lies in; that of the verdict where there is none."""

    @property
    def models(self) -> tuple[str, ...]:
        """Name of the model that was made, or nothing."""
        return (self.taken.model,) if self.taken.model else ()


def act_on_verdict(session_url: str, recipe: ModelRecipe, on_map: dict[str, str], number: int) -> Acted:
    """Follow ``verdicts/first`` where the recipe gives leave; ``number`` is that of the round that is added.

    Nothing that is there is changed: whether what is made is taken is decided where models are chosen.
    """
    store = SessionStore.open(session_url)
    try:
        verdict = read_verdict(store, FIRST)
    except StoreError as error:
        taken = ActionTaken(verdict=FIRST, decision="collect more data", what=f"nothing was done: {error}")
        return Acted(taken, [], on_map["map"])
    nothing = Acted(ActionTaken(verdict=FIRST, decision=verdict.decision, what=""), [], on_map["map"])
    if verdict.decision == "rebuild here" and recipe.act_on_verdict in ("rebuild", "all"):
        return _rebuilt(session_url, recipe, on_map, number, verdict, nothing)
    if verdict.decision == "refine the map here" and recipe.act_on_verdict in ("refine", "all"):
        return _refined(session_url, recipe, number, verdict, nothing)
    return _told(nothing, f"nothing was done: leave is given for {recipe.act_on_verdict!r}")


def outcome(session_url: str, acted: Acted) -> ActionTaken:
    """With whether the model of the action was taken, once one was chosen."""
    is_kept = acted.taken.model is not None and chosen_round(session_url) == acted.taken.model
    return acted.taken.model_copy(update={"is_kept": is_kept})


def _rebuilt(
    session_url: str, recipe: ModelRecipe, on_map: dict[str, str], number: int, verdict: SessionVerdict, nothing: Acted
) -> Acted:
    """The stretches that the verdict names, from the prediction where the map speaks for it, else built anew."""
    own, predicted = own_stretches(verdict), predicted_stretches(verdict)
    if predicted:
        source = MergeModelsParams(
            traced=FIRST, placed=f"predictions/{verdict.prediction}", map=on_map["map"], round=number,
            resolution_angstrom=recipe.refine_model.resolution_angstrom,
        )  # fmt: skip
        made = merge_models(session_url, source)
        what = f"merged with predictions/{verdict.prediction}, for {', '.join(predicted)}"
    elif own:
        made = _anew(session_url, recipe, on_map, number, own)
        what = f"built anew: {', '.join(own)}"
    else:
        return _told(nothing, "nothing was done: the verdict names no stretch of the model")
    return _followed(session_url, recipe, on_map, number, replace(nothing, reports=[made]), what)


def _refined(session_url: str, recipe: ModelRecipe, number: int, verdict: SessionVerdict, nothing: Acted) -> Acted:
    """The map of the largest weak part by itself, and the part built anew in the map that holds it.

    Where a map is blurred little is built, so that there are few residues to start from. In a symmetric map another
    unit could come to be built than the one that is kept: there the stretches of the part are built anew.
    """
    store, part, is_mirrored = SessionStore.open(session_url), verdict.weak_parts[0], verdict.map == FLIPPED
    if verdict.map == "imported" or not has_map(store, "refined"):
        return _told(
            nothing,
            "nothing was done: the map is of another program, and a local refinement needs the particles that it was"
            " made from; process the session they come from (`vitriflow process`)",
        )
    mask = {"mask": f"verdicts/{FIRST}/{part.mask}", "is_mask_mirrored": is_mirrored}
    params = recipe.refine_part.model_copy(update=mask)
    try:
        refined = refine_part(session_url, params)
    except (ValueError, StoreError, DoesNotFitError) as error:
        return _told(nothing, f"nothing was done: refine_part: {error}")
    done = replace(nothing, reports=[refined])
    is_better, told = part_told(store, params.name)
    if not is_better:
        return _told(done, told)
    joined = join_maps(session_url, JoinMapsParams(part=params.name, is_mirrored=is_mirrored))
    done = replace(done, reports=[refined, joined])
    if not is_made(joined):
        return _told(done, f"{told}; {reasons_against(joined)}")
    if density_map(store, JOINED).symmetry == "C1":
        source = {"map": JOINED, "round": number, "kept": FIRST, "mask": mask["mask"]}
        made = build_model(session_url, recipe.build_model.model_copy(update=source))
    else:
        made = _anew(session_url, recipe, {"map": JOINED}, number, part.residues)
    done = replace(done, reports=[*done.reports, made])
    return _followed(session_url, recipe, {"map": JOINED}, number, done, told)


def _anew(
    session_url: str, recipe: ModelRecipe, on_map: dict[str, str], number: int, residues: tuple[str, ...]
) -> StageReport:
    source = {
        **on_map, "round": number, "model": FIRST, "residues": residues, "sequences": recipe.build_model.sequences
    }  # fmt: skip
    return rebuild_model(session_url, recipe.rebuild_model.model_copy(update=source))


def _followed(
    session_url: str, recipe: ModelRecipe, on_map: dict[str, str], number: int, done: Acted, what: str
) -> Acted:
    """What was built anew refined and judged, and what came of it in words."""
    if not is_made(done.reports[-1]):
        return _told(done, f"{what}; nothing came of it: {reasons_against(done.reports[-1])}")
    reports = refined_and_judged(session_url, recipe, on_map, number)
    done = replace(done, reports=[*done.reports, *reports])
    if not is_made(reports[-1]):
        return _told(done, f"{what}; nothing came of it: {reasons_against(reports[-1])}")
    taken = done.taken.model_copy(update={"what": what, "model": f"refined-{number}"})
    return replace(done, taken=taken, map=on_map["map"])


def _told(done: Acted, what: str) -> Acted:
    return replace(done, taken=done.taken.model_copy(update={"what": what}))
