"""What a verdict says is done at once: a round limited to its residues, or the reason why nothing is."""

import pytest
import torch

from flows.act_on_verdict import FIRST, act_on_verdict, outcome
from flows.model_recipe import ModelRecipe
from flows.model_rounds import chosen
from flows.sole_use import MAPS, MODELS, sole_use
from tasks.formats.map_file import write_map
from tasks.import_map import ImportMapParams, import_map
from tasks.judge_session import JudgeSessionParams, judge_session
from tasks.model_refinement.params import RefineModelParams
from tasks.part_refinement.params import RefinePartParams
from tasks.rebuild_model import RebuildModelParams
from tasks.records.session import StageParams
from tasks.records.verdict import Decision, MissingData, SessionVerdict, WeakPart
from tasks.sharpen_map import SharpenMapParams, sharpen_map
from tasks.stores.products.model_store import read_model, write_model
from tasks.stores.products.rounds_store import read_rounds
from tasks.stores.products.validation_store import write_validation
from tasks.stores.products.verdict_store import read_verdict, write_verdict
from tasks.stores.session_store import SessionStore
from tasks.validate_model import ValidateModelParams, validate_model
from tests.truth.cage_model import cage_subunit
from tests.truth.model_maps import simulated_maps
from tests.truth.modelled_session import DOUBTFUL, Modelled, two_helices, validation_of
from tests.truth.moving_domain import PIXEL, N, moving_domain, write_consensus
from tests.truth.wrong_models import with_flipped_peptide

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]

ON_MAP = {"map": "imported"}
RECIPE = ModelRecipe(
    refine_model=RefineModelParams(without_library="real space", resolution_angstrom=2.8),
    validate_model=ValidateModelParams(resolution_angstrom=2.8),
    rebuild_model=RebuildModelParams(is_network_asked=False),
    act_on_verdict="all",
)
NOTHING = MissingData(
    n_particles=None, resolution_angstrom=None, forecast=None, evenness=None, seldom_share=None, weakest_direction=None,
    views=None,
)  # fmt: skip
FLIPPED_PEPTIDES = (12, 22)


def put_verdict(store: SessionStore, decision: Decision, **told) -> None:
    found = SessionVerdict(
        model=FIRST, map=told.get("map", "imported"), prediction=None, decision=decision, reason="",
        rebuild=told.get("rebuild", ()), weak_parts=told.get("weak_parts", ()), disagreements=(), missing=NOTHING,
    )  # fmt: skip
    with store.product(f"verdicts/{FIRST}").write("judge_session", 1, StageParams(), {}) as attempt:
        write_verdict(attempt, found)
        for name, mask in told.get("masks", {}).items():
            attempt.write(name, mask.numpy())


@pytest.fixture
def modelled(connected, store, tmp_path) -> SessionStore:
    """A map with halves, and a model with two peptides turned over, validated and chosen."""
    maps = simulated_maps(cage_subunit(36), 2.8, padding_angstrom=7)
    for name, grid in {"map": maps.sharpened, "half_1": maps.half_1, "half_2": maps.half_2}.items():
        write_map(tmp_path / f"{name}.mrc", grid)
    paths = {name: str(tmp_path / f"{name}.mrc") for name in ("map", "half_1", "half_2")}
    wrong = maps.model
    for residue in FLIPPED_PEPTIDES:
        wrong = with_flipped_peptide(wrong, residue)
    with sole_use(store.url, MODELS):
        import_map(store.url, ImportMapParams(**paths, resolution_angstrom=2.8))
        with store.product("models/refined").write("refine_model", 1, StageParams(), {}) as attempt:
            write_model(attempt, wrong, "refined")
        validate_model(store.url, RECIPE.validate_model.model_copy(update={**ON_MAP, "model": "refined"}))
        chosen(store.url, ["refined"], "imported", FIRST)
    return store


def oxygens_moved(store: SessionStore, name: str) -> list[float]:
    """Å, of the peptides that were turned over, from where they were put."""
    moved = read_model(store, name).positions("O") - read_model(store, "refined").positions("O")
    return moved[list(FLIPPED_PEPTIDES), 0].norm(dim=-1).tolist()


def test_a_round_of_rebuilding_is_limited_to_the_residues_that_a_verdict_names(modelled):
    number = read_model(modelled, "refined").residues[FLIPPED_PEPTIDES[0]].number
    put_verdict(modelled, "rebuild here", rebuild=(f"A/{number - 3}-{number + 3}",))
    with sole_use(modelled.url, MODELS):
        acted = act_on_verdict(modelled.url, RECIPE, ON_MAP, number=1)
        assert acted.models == ("refined-1",), acted.taken.what
        chosen(modelled.url, ["refined", *acted.models], "imported")
        action = outcome(modelled.url, acted)
        judge_session(modelled.url, JudgeSessionParams(**ON_MAP, action=action))
    named, other = oxygens_moved(modelled, "rebuilt-1")
    assert named > 2.5
    assert other == 0
    first, second = (one.fsc_free for one in read_rounds(modelled, ("refined", "refined-1"), "imported").rounds)
    assert action.is_kept and second > first
    told = read_verdict(modelled, "chosen").action
    assert told == action
    assert told.what == f"built anew: A/{number - 3}-{number + 3}"
    # the way back: the chosen model, the round, what was built anew, the model that was acted on
    parents = modelled.product("models/rebuilt-1").record().inputs
    assert parents[f"models/{FIRST}"] == modelled.product(f"models/{FIRST}").record().fingerprint
    # done twice, nothing is made twice
    with sole_use(modelled.url, MODELS):
        again = act_on_verdict(modelled.url, RECIPE, ON_MAP, number=1)
    assert all(report.kept and not report.done for report in again.reports)


def test_why_nothing_is_done_is_said(modelled):
    def told(leave: str) -> str:
        recipe = RECIPE.model_copy(update={"act_on_verdict": leave})
        with sole_use(modelled.url, MODELS):
            acted = act_on_verdict(modelled.url, recipe, ON_MAP, number=1)
        assert acted.models == ()
        assert acted.map == "imported"
        return acted.taken.what

    assert "read" not in told("all") and "verdict of 'first'" in told("all")
    part = WeakPart(mask="mask_1", residues=("A/1-20",), n_residues=20, resolution_angstrom=6.0, rest_angstrom=3.0)
    put_verdict(modelled, "refine the map here", weak_parts=(part,))
    assert "needs the particles that it was made from" in told("all")
    assert told("rebuild") == "nothing was done: leave is given for 'rebuild'"
    put_verdict(modelled, "rebuild here")
    assert told("all") == "nothing was done: the verdict names no stretch of the model"
    put_verdict(modelled, "deposit")
    assert told("all").startswith("nothing was done")


@pytest.mark.parametrize("symmetry, way", [("C1", "build_model"), ("C2", "rebuild_model")])
def test_the_part_that_moves_is_refined_by_itself_and_a_model_is_built_in_the_map_that_holds_it(
    connected, store, symmetry, way
):
    """The model is two helices in a domain of Gaussians: what is made of it is not asked, but what is done is."""
    truth = moving_domain(120, turn_deg=12, move_angstrom=3, signal_to_noise=0.5, symmetry=symmetry)
    write_consensus(store, truth)
    found = two_helices()
    place = truth.middle.double() + N // 2 * PIXEL - found.coordinates_angstrom.mean(0)
    modelled = Modelled(found.at(found.coordinates_angstrom + place), torch.full((found.n_residues,), 0.9))
    modelled.confidence[DOUBTFUL] = 0.2
    for name in ("refined", FIRST):
        with store.product(f"models/{name}").write("refine_model", 1, StageParams(), {}) as attempt:
            write_model(attempt, modelled.model, name)
    rows = validation_of(modelled)
    end = modelled.model.residues[-1]
    last = rows.residues[-1].model_copy(update={"number": end.number, "name": end.name})
    whole = rows.model_copy(update={"residues": (*rows.residues, last), "resolution_angstrom": 8.0})
    with store.product(f"validations/{FIRST}").write("validate_model", 1, StageParams(), {}) as attempt:
        write_validation(attempt, whole)
    part = WeakPart(mask="mask_1", residues=("A/1-30",), n_residues=30, resolution_angstrom=9.0, rest_angstrom=7.0)
    put_verdict(store, "refine the map here", weak_parts=(part,), map="sharpened", masks={"mask_1": truth.mask})
    quick = RefinePartParams(shift_step_angstrom=3, n_candidates=4, max_iterations=3)
    recipe = RECIPE.model_copy(update={"refine_part": quick, "act_on_verdict": "refine"})
    with sole_use(store.url, MAPS, MODELS):
        sharpen_map(store.url, SharpenMapParams())
        acted = act_on_verdict(store.url, recipe, {"map": "sharpened"}, number=1)
    assert [report.stage for report in acted.reports[:3]] == ["refine_part", "join_maps", way]
    assert acted.taken.what.startswith("maps/part: the part reaches")
    figures = store.product("maps/part").record().figures
    assert figures["is_better"] is True
    # the way back from the map that the model is looked at in: the part, the verdict that asked for it, the particles
    assert {"maps/part", "maps/refined"} <= store.product("maps/joined").record().inputs.keys()
    parents = store.product("maps/part").record().inputs
    assert parents.keys() == {"particles/refined", "maps/refined", f"verdicts/{FIRST}"}
    assert parents[f"verdicts/{FIRST}"] == store.product(f"verdicts/{FIRST}").record().fingerprint
    made = store.product("models/rebuilt-1").record()
    assert "maps/joined" in made.inputs
    assert (made.state == "done") == (len(acted.reports) > 3)
