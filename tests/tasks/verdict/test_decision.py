"""Which of several things that could be done comes first."""

import pytest
import torch

from tasks.records.verdict import Disagreement, MissingData, NeededParticles, WeakPart
from tasks.verdict.decision import decided, decided_on_map, to_rebuild
from tests.truth.modelled_session import Modelled, two_helices, validation_of

NOTHING = MissingData(
    n_particles=None, resolution_angstrom=None, forecast=None, evenness=None, seldom_share=None,
    weakest_direction=None, views=None,
)  # fmt: skip
UNEVEN = NOTHING.model_copy(update={"evenness": 0.2, "views": "views are uneven", "forecast": "4,000 more reach 3 Å"})
PART = WeakPart(mask="mask_1", residues=("A/1-40",), n_residues=40, resolution_angstrom=5.0, rest_angstrom=3.0)


def disagreement(side: str, n: int) -> Disagreement:
    return Disagreement(
        chain="A", first="5", last=str(4 + n), n_residues=n, side=side, why="", lddt=None, plddt=90.0,
        built_probability=None, predicted_probability=0.9,
    )  # fmt: skip


@pytest.fixture
def found():
    model = two_helices()
    told = validation_of(Modelled(model, torch.full((model.n_residues,), 0.95)))
    return told.model_copy(update={"decision": "deposit", "decision_reason": "all is well", "regions": ()})


def test_a_good_model_without_a_better_prediction_is_deposited(found):
    told = [disagreement("map", 8), disagreement("not seen", 5)]
    assert decided(found, told, [PART], NOTHING, None) == ("deposit", "all is well")
    assert to_rebuild(found, told) == []


def test_a_prediction_that_the_map_speaks_for_comes_first(found):
    told = [disagreement("not built", 9)]
    decision, reason = decided(found, told, [PART], UNEVEN, 1.0)
    assert decision == "rebuild here" and "9 residues: A/5-13" in reason
    assert to_rebuild(found, told) == ["A/5-13 of the prediction"]
    assert decided(found, [disagreement("not built", 1)], [], NOTHING, None)[0] == "deposit"  # too few to hold it up


def test_a_weak_part_is_refined_where_the_goal_is_missed(found):
    decision, reason = decided(found, [], [PART], UNEVEN, found.resolution_angstrom - 0.5)
    assert decision == "refine the map here" and "mask_1" in reason and "A/1-40" in reason


def test_a_map_is_refined_before_what_it_does_not_show_is_built_again(found):
    """The model is doubted where the map is weak: there building anew finds no more than building did."""
    doubted = found.model_copy(update={"decision": "rebuild", "decision_reason": "70 % are trusted, expected 90"})
    rows = [
        row.model_copy(update={"verdict": "rebuild" if i < 12 else "trust"}) for i, row in enumerate(found.residues)
    ]
    doubted = doubted.model_copy(update={"residues": tuple(rows)})
    particles = NOTHING.model_copy(update={"n_particles": 4000})
    for told, decision in (
        ({"n_doubted": 7}, "refine the map here"),
        ({"n_doubted": 6}, "rebuild here"),  # as much elsewhere
        ({"n_doubted": 2, "n_unbuilt": 30}, "refine the map here"),
    ):
        part = PART.model_copy(update=told)
        assert decided(doubted, [], [part], particles, None)[0] == decision
        assert decided(doubted, [], [part], NOTHING, None)[0] == "rebuild here"  # there are no particles to do it with
    assert "density for 30 more" in decided(doubted, [], [part], particles, None)[1]


def test_missing_views_and_a_missed_goal_ask_for_more_data(found):
    decision, reason = decided(found, [], [], UNEVEN, found.resolution_angstrom - 0.5)
    assert decision == "collect more data"
    assert "the goal is" in reason and "views are uneven" in reason and "4,000 more reach 3 Å" in reason


EVEN = NOTHING.model_copy(
    update={"evenness": 0.9, "views": "views are even enough", "n_particles": 4000, "limit_angstrom": 2.0}
)


def test_a_map_that_a_chain_can_be_traced_in_asks_for_a_model():
    assert decided_on_map(3.5, EVEN, None)[0] == "build a model"
    decision, reason = decided_on_map(3.5, EVEN, 3.6)
    assert decision == "build a model" and "the goal of 3.6 Å is reached" in reason


def test_a_map_short_of_the_goal_asks_for_particles_and_says_how_many():
    needed = NeededParticles(resolution_angstrom=3.0, n_particles=52_000, low=31_000, high=None, n_exposures=640)
    decision, reason = decided_on_map(3.5, EVEN.model_copy(update={"needed": needed}), 3.0)
    assert decision == "collect more data"
    assert "3.50 Å, the goal is 3 Å" in reason
    assert "3 Å takes about 52,000 particles (31,000 to more than a hundred times" in reason
    assert "from 640 exposures like these" in reason
    coarse, why = decided_on_map(7.9, EVEN, None)
    assert coarse == "collect more data" and "chains can be traced from 4 Å on" in why


def test_missing_views_are_collected_though_the_goal_is_reached():
    decision, reason = decided_on_map(2.8, UNEVEN, 3.0)
    assert decision == "collect more data" and "views are uneven" in reason and "the goal" not in reason


def test_sampling_that_keeps_a_map_from_its_goal_is_not_cured_by_particles():
    coarse = EVEN.model_copy(update={"limit_angstrom": 5.0})
    decision, reason = decided_on_map(5.1, coarse, None)
    assert decision == "refine the map here" and "extract_particles.output_box_px" in reason
    assert decided_on_map(8.0, coarse, None)[0] == "collect more data"  # the limit is far


def test_half_maps_that_do_not_agree_ask_for_more_data():
    assert decided_on_map(None, EVEN, None) == ("collect more data", "half maps agree to no resolution")
