"""What is due when: decisions by counting, from a session's first particle to its last."""

import json
import time

import pytest
import torch

from flows.recipe import read_recipe
from flows.renew import anything_due, renew
from flows.renewal_policy import RenewalParams, classes_due, first_map_due, refinement_due
from flows.session_recipe import remember_recipe
from kernels.rotations import random_rotations
from tasks.records.session import StageParams
from tasks.stores.upkeep.counts import SessionCounts, count_session
from tests.truth.extracted_session import write_extracted
from tests.truth.gaussian_particles import cage_points, gaussian_projections, imaged

POLICY = RenewalParams()
RECIPE = read_recipe(
    "default",
    {
        f"{stage}.diameter_angstrom": "130"
        for stage in ("pick_particles", "extract_particles", "classify_2d", "build_initial_map", "refine_map")
    },
)


def test_a_session_that_grows_is_classified_mapped_and_refined_in_time():
    """Exposures with 100 particles, of which 80 are selected, one after the other: what happens at which."""
    counts, log = SessionCounts(), []
    for n in range(1, 401):
        counts = counts.model_copy(update={"n_exposures": n, "n_extracted": 100 * n})
        if classes_due(counts, POLICY).is_due:
            log.append(("classes", n))
            counts = counts.model_copy(update={"n_classified": 100 * n, "n_selected": 80 * n})
        if first_map_due(counts, POLICY).is_due:
            # the first one does not convince
            log.append(("map", n))
            counts = counts.model_copy(update={"n_mapped": 80 * n, "is_map_convincing": len(log) > 2})
        if refinement_due(counts, POLICY).is_due:
            log.append(("refinement", n))
            counts = counts.model_copy(update={"n_refined": 80 * n})
    assert log == [
        ("classes", 20), ("map", 20), ("classes", 40), ("map", 40), ("classes", 80), ("refinement", 80),
        ("classes", 160), ("refinement", 160), ("classes", 320), ("refinement", 320),
    ]  # fmt: skip
    assert not classes_due(counts, POLICY).is_due
    for due in (classes_due, first_map_due, refinement_due):
        assert due(counts, POLICY, is_final=True).is_due


def test_decisions_are_said_in_words():
    few = SessionCounts(n_extracted=1_999)
    assert classes_due(few, POLICY).reason == "1,999 particles extracted, the first at 2,000"
    grown = SessionCounts(n_extracted=9_000, n_classified=4_400)
    assert classes_due(grown, POLICY).reason == "9,000 particles extracted, 4,400 at the last, again at 8,800"
    assert refinement_due(grown, POLICY).reason == "there is no first map"
    poor = SessionCounts(n_selected=9_000, n_mapped=2_000)
    assert "not convincing" in refinement_due(poor, POLICY).reason
    assert refinement_due(poor, POLICY, is_final=True).is_due
    ended = classes_due(SessionCounts(n_extracted=12), POLICY, is_final=True)
    assert (ended.is_due, ended.reason) == (False, "12 particles extracted, expected at least 20")


def test_a_session_is_counted_from_records_and_the_index(store):
    assert count_session(store) == SessionCounts()
    store.index("extract_particles").append({
        **{f"e{i}": ("done", None, {"n_particles": 30 + i}) for i in range(3)},
        "empty": ("skipped", "no particles were picked", {}),
    })  # fmt: skip
    for address, figures in {
        "classes/2d": {"n_particles": 60}, "particles/selected": {"n_particles": 50},
        "maps/initial": {"n_particles": 40, "n_available": 50, "is_convincing": True},
        "maps/refined": {"n_particles": 50, "resolution_angstrom": 7.5},
    }.items():  # fmt: skip
        with store.product(address).write("stage", 1, StageParams(), {}) as attempt:
            attempt.figures.update(figures)
    assert count_session(store) == SessionCounts(
        n_exposures=3, n_extracted=93, n_classified=60, n_selected=50, n_mapped=50, is_map_convincing=True,
        n_refined=50, resolution_angstrom=7.5,
    )  # fmt: skip


def test_a_session_of_10000_exposures_is_counted_quickly(store):
    entries = {f"FoilHole_{i:05d}_fractions-0123abcd": ("done", None, {"n_particles": 300}) for i in range(10_000)}
    store.index("extract_particles").append(json.loads(json.dumps(entries)))
    started = time.process_time()
    assert count_session(store).n_extracted == 3_000_000
    assert time.process_time() - started < 2.0


def test_where_nothing_is_due_no_worker_is_needed_and_nothing_is_done(store, caplog):
    remember_recipe(store.url, RECIPE)
    assert not anything_due(store.url, RECIPE)
    assert renew.fn(store.url) == []
    with caplog.at_level("INFO"):
        renew.fn(store.url, is_final=True)
    assert "classes: not due: 0 particles extracted, expected at least 20" in caplog.text


def test_a_policy_of_no_growth_is_refused():
    with pytest.raises(ValueError, match="greater than 1"):
        RenewalParams(refinement_growth=1.0)


@pytest.mark.server
def test_a_session_that_ended_is_brought_up_to_date_through_prefect_and_dask(store, connected):
    rotation = random_rotations(60, torch.Generator().manual_seed(3))
    points = cage_points("O", 6, 46.0, 5)
    images = imaged(gaussian_projections(points, rotation, torch.zeros(60, 2), 40, 4.5, 5.0), 4.5, 0.5, 3)
    write_extracted(store, images, 2)
    store.index("extract_particles").append({f"exposure_0{i}": ("done", None, {"n_particles": 30}) for i in range(2)})
    quick = {
        "classify_2d": {"n_classes": 2, "n_iterations": 3, "resolution_angstrom": 20.0, "keep": "all"},
        "build_initial_map": {
            "symmetry": "O", "n_restarts": 2, "n_iterations": 2, "n_final_iterations": 1,
            "first_resolution_angstrom": 30.0, "restart_resolution_angstrom": 22.0, "resolution_angstrom": 18.0,
        },
        "refine_map": {"symmetry": "O", "max_iterations": 2, "initial_low_pass_angstrom": 30.0},
    }  # fmt: skip
    recipe = RECIPE.model_copy(
        update={name: getattr(RECIPE, name).model_copy(update=changes) for name, changes in quick.items()}
    )
    assert renew(store.url, recipe) == []
    reports = renew(store.url, recipe, is_final=True)
    stages = ["classify_2d", "build_initial_map", "refine_map", "sharpen_map", "forecast_resolution", "judge_session"]
    assert [report.stage for report in reports] == stages
    assert all(report.done for report in reports if report.stage not in ("sharpen_map", "judge_session"))
    counts = count_session(store)
    assert (counts.n_classified, counts.n_selected, counts.n_mapped, counts.n_refined) == (60, 60, 60, 60)
    assert all(report.kept or report.skipped for report in renew(store.url, recipe, is_final=True))
