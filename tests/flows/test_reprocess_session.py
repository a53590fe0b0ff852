"""A session once more: what failed, and versions that pay only for what depends on their changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.process_session import process_session
from flows.recipe import changed_recipe
from flows.reprocess_session import import_again, reprocess_session
from flows.session_recipe import recall_recipe
from flows.sole_use import EXPOSURES, sole_use
from tasks.records.session import StageParams, StageReport
from tasks.records.source_folder import SourceFolder
from tasks.simulate_session import simulate_session
from tasks.stores import ledger
from tasks.stores.session_store import SessionStore
from tasks.workers.connection import connect
from tests.truth.tiny_session import TINY, tiny_recipe

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def session(tmp_path_factory, connected) -> SessionStore:
    """A tiny session, processed once."""
    folder = tmp_path_factory.mktemp("tiny")
    with connect(connected.dask_address):
        simulate_session.fn(str(folder / "movies"), TINY)
    process_session(str(folder / "tiny.zarr"), str(folder / "movies"), tiny_recipe(folder / "movies"))
    return SessionStore.open(str(folder / "tiny.zarr"))


def counts(reports: list[StageReport]) -> dict[str, tuple[int, int]]:
    """Stage -> items done and kept."""
    return {report.stage: (len(report.done), len(report.kept)) for report in reports}


KEPT = {
    "diagnose_gain": (0, 3), "correct_motion": (0, 3), "estimate_ctf": (0, 3), "curate_exposures": (0, 3),
    "group_optics": (0, 3),
    "pick_particles": (0, 3), "extract_particles": (0, 3), "classify_2d": (0, 2), "build_initial_map": (0, 1),
    "refine_map": (0, 2), "sharpen_map": (0, 1), "forecast_resolution": (0, 1),
    "judge_session": (0, 1),
}  # fmt: skip


def test_a_version_pays_only_for_what_depends_on_the_change(session):
    before = session.product("maps/sharpened").record()
    reports = reprocess_session(session.url, "sharp", {"sharpen_map.b_factor_angstrom2": -150.0})
    assert counts(reports) == {**KEPT, "sharpen_map": (1, 0), "judge_session": (1, 0)}
    version = SessionStore.open(session.version_location("sharp").url)
    assert session.product("maps/sharpened").record() == before
    assert version.product("maps/sharpened").record().details["density_map"]["b_factor_angstrom2"] == -150
    assert recall_recipe(version.url).sharpen_map.b_factor_angstrom2 == -150
    assert recall_recipe(session.url).sharpen_map.b_factor_angstrom2 is None
    again = reprocess_session(session.url, "sharp")
    assert counts(again) == KEPT


def test_versions_are_compared_on_the_command_line(session):
    reprocess_session(session.url, "sharper", {"sharpen_map": {"b_factor_angstrom2": -200.0}})
    shown = CliRunner().invoke(app, ["compare", session.url], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    (changed,) = [line for line in shown.output.splitlines() if "sharpen_map.b_factor_angstrom2" in line]
    assert "-200" in changed
    (measured,) = [line for line in shown.output.splitlines() if "B-factor" in line]
    assert "-200" in measured


def test_only_what_failed_is_tried_again(session):
    failed = session.exposure_ids()[0]
    product = session.exposure_product(failed, "pick_particles")
    product.put_outcome("failed", "the disk was full", "pick_particles", 1, StageParams(), {})
    ledger.rebuild(session)
    assert ledger.read_ledger(session).counts()["failed"] == 1
    reports = reprocess_session(session.url, only_failed=True)
    of_all = (
        "classify_2d", "build_initial_map", "refine_map", "sharpen_map", "forecast_resolution", "judge_session",
    )  # fmt: skip
    whole_session = {stage: KEPT[stage] for stage in of_all}
    of_one = dict.fromkeys(
        ("diagnose_gain", "correct_motion", "estimate_ctf", "curate_exposures", "group_optics"), (0, 1)
    )
    # its picks are those that its particles were cut out at before
    assert counts(reports) == {**of_one, "pick_particles": (1, 0), "extract_particles": (0, 1)} | whole_session
    assert ledger.read_ledger(session).counts() == {"done": 3, "failed": 0, "skipped": 0, "quarantined": 1}


def test_a_followed_session_keeps_the_gain_of_its_folder_when_files_are_read_again(session, tmp_path):
    """Its recipe names none: the gain lies in the folder, and a wave takes it from there."""
    imported = session.exposure_product(session.exposure_ids()[0], "import_session").record()
    movies = Path(imported.details["exposure"]["source"]).parents[1]  # whose own folder lies below
    copy = tmp_path / "stores" / "movies.zarr"
    shutil.copytree(session.url, copy)
    with SessionStore.open(str(copy)).product("session/source").write("scan_folders", 1, StageParams(), {}) as attempt:
        attempt.details = SourceFolder(
            folder=str(movies), layout="plain", gain=str(movies / "gain.mrc"), defects=str(movies / "defects.txt")
        ).model_dump()
    store = SessionStore.open(str(copy))
    before = store.product("session/gain").record()
    recipe = recall_recipe(store.url)
    bare = recipe.import_session.model_copy(update={"gain": None, "defects": None})
    with sole_use(store.url, EXPOSURES):
        report = import_again(store, "", recipe.model_copy(update={"import_session": bare}))
    assert (len(report.kept), report.done) == (3, [])
    assert store.product("session/gain").record() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"changes": {"refine_map.symmetry": "C2"}}, "no version; name one"),
        ({"version": "x", "changes": {"refine_map.symetry": "C2"}}, "did you mean refine_map.symmetry"),
        ({"version": "x", "changes": {"refine_map.max_iterations": 0}}, "refine_map.max_iterations"),
        ({"version": "x", "changes": {"refine_map.symmetry": "C2"}, "only_failed": True}, "leave one out"),
        ({"version": "never-made"}, "would be new, and no changes are given"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words_and_nothing_is_written(session, arguments, words):
    known = session.versions()
    with pytest.raises(ValueError, match=words):
        reprocess_session(session.url, **arguments)
    assert session.versions() == known


def test_a_change_reaches_the_recipe_dotted_or_nested(tmp_path):
    recipe = tiny_recipe(tmp_path)
    assert changed_recipe(recipe, {"refine_map.symmetry": "D2"}).refine_map.symmetry == "D2"
    assert changed_recipe(recipe, {"refine_map": {"symmetry": "D2"}, "batch_size": 7}).batch_size == 7
    assert changed_recipe(recipe, {}) == recipe
