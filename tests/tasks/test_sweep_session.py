"""What a retention policy removes, what it never does, and what is left of a session afterwards."""

from __future__ import annotations

import os
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pydantic import ValidationError

from flows.sweep_sessions import POLICY, read_policy
from tasks.import_session import ImportSessionParams, import_session
from tasks.records.retention import RetentionPolicy
from tasks.stores.commit import ExpiredProductError
from tasks.stores.ledger import read_ledger, rebuild
from tasks.stores.storage.lease import LeaseTimes, hold
from tasks.stores.storage.location import StoreError
from tasks.stores.upkeep.retention import expired_products, plan_sweep, restore
from tasks.stores.upkeep.survey import find_sessions, survey
from tasks.sweep_session import sweep_session
from tasks.workers.stage import Stage, run_stage
from tests.truth.retained_session import STAGES, VariedParams, put_exposure_stage, put_scratch, put_session, put_set

NOW = dict.fromkeys(("imported_movies", "micrographs", "particle_stacks", "leftover_attempts"), "0 days")
RAW = RetentionPolicy(imported_movies="0 days")


def sweep(store, policy, is_dry_run=False):
    return sweep_session.fn(store.url, policy, is_dry_run)


def file_bytes(folder: str, without: str = "commit.json") -> int:
    """Bytes of all files of a folder as `du` counts them."""
    found = subprocess.run(
        f"find {folder} -type f ! -name {without} -print0 | du --bytes --total --files0-from=- | tail -1",
        shell=True, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(found.stdout.split()[0])


def age(store, address: str, days: float) -> None:
    """Make every file of a product's attempts look older."""
    then = time.time() - days * 86400
    for path in (Path(store.url) / address / "attempts").rglob("*"):
        os.utime(path, (then, then))


def abandon(store, address: str) -> str:
    """An attempt as a stage that was killed leaves it; returns its name."""
    folder = Path(store.url) / address / "attempts" / "f00d"
    folder.mkdir(parents=True)
    (folder / "zarr.json").write_text("{}")
    (folder / "half").write_bytes(b"0" * 1234)
    return folder.name


def test_the_dry_run_counts_the_bytes_that_the_sweep_frees(store):
    put_session(store, ["a", "b"])
    abandon(store, "exposures/a/estimate_ctf")
    before = file_bytes(store.url)
    policy = RetentionPolicy(**NOW)
    told = sweep(store, policy, is_dry_run=True)
    assert file_bytes(store.url) == before
    done = sweep(store, policy)
    assert done.removed == told.removed
    assert before - file_bytes(store.url) == told.n_bytes == sum(done.bytes_by_class().values()) > 0
    assert set(done.bytes_by_class()) == set(NOW)
    assert sweep(store, policy).removed == []


def test_what_was_made_from_an_expired_product_stays_current(store):
    put_session(store, ["a"])
    rebuild(store)
    ledger, fingerprints = read_ledger(store), store.fingerprints([f"exposures/a/{stage}" for stage in STAGES])
    sweep(store, RAW)
    assert store.fingerprints(list(fingerprints)) == fingerprints
    rebuild(store)
    assert read_ledger(store) == ledger
    record = store.exposure_product("a", "import_session").record()
    assert record.is_current(record.fingerprint)
    assert record.expired.rule == "imported_movies: 0 days"
    assert sweep(store, RAW).n_already_expired == 1


def test_a_reader_of_an_expired_product_learns_how_to_get_it_back(store):
    put_session(store, ["a"])
    sweep(store, RAW)
    with pytest.raises(ExpiredProductError, match=r"removed on 20.*imported_movies: 0 days.*vitriflow restore"):
        store.exposure_product("a", "import_session").read()


def test_nothing_goes_before_its_days_are_over(store):
    put_session(store, ["a"])
    policy = RetentionPolicy(imported_movies="30 days")
    found = survey(store)
    assert plan_sweep(found, policy, datetime.now(UTC) + timedelta(days=29)).removals == []
    assert [r.item.address for r in plan_sweep(found, policy, datetime.now(UTC) + timedelta(days=31)).removals] == [
        "exposures/a/import_session"
    ]


@pytest.mark.parametrize("state", ["failed", "out of date", "not there yet"])
def test_frames_stay_until_their_motion_is_corrected_from_them(store, state):
    put_exposure_stage(store, "a", "import_session")
    if state == "failed":
        inputs = store.fingerprints(["exposures/a/import_session"])
        store.exposure_product("a", "correct_motion").put_outcome(
            "failed", "too few frames", "correct_motion", 1, VariedParams(), inputs
        )
    if state == "out of date":
        put_exposure_stage(store, "a", "correct_motion")
        put_exposure_stage(store, "a", "import_session", variant=1)
    policy = RetentionPolicy(imported_movies="until used")
    assert sweep(store, policy).removed == []
    put_exposure_stage(store, "a", "correct_motion")
    assert [item.address for item in sweep(store, policy).removed] == ["exposures/a/import_session"]


def test_what_a_failed_item_is_made_from_is_held_and_reported(store):
    put_session(store, ["a"])
    product = store.exposure_product("a", "correct_motion")
    product.put_outcome("failed", "lightning", "correct_motion", 1, VariedParams(), product.record().inputs)
    report = sweep(store, RAW)
    assert report.removed == []
    assert [item.address for item in report.held] == ["exposures/a/import_session"]
    assert "correct_motion failed" in report.held[0].reason
    assert len(sweep(store, RetentionPolicy(imported_movies="0 days", is_kept_for_failed=False)).removed) == 1


def test_a_map_that_is_out_of_date_holds_the_stacks_of_its_particles(store):
    put_session(store, ["a"])
    policy = RetentionPolicy(particle_stacks="0 days", micrographs="0 days", particle_sets="0 days")
    put_set(store, "particles/selected", variant=1)
    report = sweep(store, policy)
    assert {item.address for item in report.held} == {
        "particles/selected", "particles/extracted", "exposures/a/extract_particles"
    }  # fmt: skip
    assert [item.address for item in report.removed] == ["exposures/a/correct_motion"]
    for address in ("maps/initial", "maps/refined", "maps/sharpened"):
        put_set(store, address)
    assert len(sweep(store, policy).removed) >= 3


def test_a_micrograph_is_used_when_its_exposure_is_rejected(store):
    for stage in ("import_session", "correct_motion", "estimate_ctf"):
        put_exposure_stage(store, "a", stage)
    policy = RetentionPolicy(micrographs="until used")
    assert sweep(store, policy).removed == []
    inputs = store.fingerprints(["exposures/a/estimate_ctf", "exposures/a/correct_motion"])
    store.exposure_product("a", "curate_exposures").put_outcome(
        "skipped", "drift", "curate_exposures", 1, VariedParams(), inputs
    )
    assert [item.address for item in sweep(store, policy).removed] == ["exposures/a/correct_motion"]


def test_an_imported_micrograph_is_no_movie(store):
    put_exposure_stage(store, "a", "import_session", kind="micrograph")
    assert sweep(store, RAW).removed == []
    report = sweep(store, RetentionPolicy(micrographs="0 days"))
    assert report.bytes_by_class().keys() == {"micrographs"}


def test_the_attempt_of_a_running_stage_is_never_removed(store):
    put_exposure_stage(store, "a", "import_session")
    name = abandon(store, "exposures/a/correct_motion")
    policy = RetentionPolicy(leftover_attempts="2 days")
    age(store, "exposures/a/correct_motion", days=1)
    assert sweep(store, policy).removed == []
    age(store, "exposures/a/correct_motion", days=3)
    (Path(store.url) / "exposures/a/correct_motion/attempts" / name / "half").touch()  # it still writes
    assert sweep(store, policy).removed == []
    age(store, "exposures/a/correct_motion", days=3)
    assert [item.attempt for item in sweep(store, policy).removed] == [name]


def test_superseded_attempts_and_records_half_written_go_with_the_leftovers(store):
    put_exposure_stage(store, "a", "import_session")
    put_exposure_stage(store, "a", "import_session", variant=1)
    partial = Path(store.url) / "exposures/a/import_session/.commit.json.0123.partial"
    partial.write_bytes(b"{")
    report = sweep(store, RetentionPolicy(leftover_attempts="0 days"))
    assert len(report.removed) == 2
    assert not partial.exists()
    store.exposure_product("a", "import_session").verify()
    assert store.exposure_product("a", "import_session").read()["micrograph"].mean() == 1


def test_scratch_goes_with_its_records_once_its_stage_is_done(store):
    put_session(store, ["a"])
    for address in ("maps/refined", "maps/sharpened"):
        subprocess.run(["rm", "-r", f"{store.url}/{address}"], check=True)
    policy = RetentionPolicy(scratch="until used")
    address = put_scratch(store, "refine_map", "iteration_000", "particles/selected")
    assert sweep(store, policy).removed == []
    put_set(store, "maps/refined")
    before = file_bytes(store.url, without="nothing")
    report = sweep(store, policy)
    assert [item.address for item in report.removed] == [address]
    assert before - file_bytes(store.url, without="nothing") == report.n_bytes
    assert store.product(address).record() is None
    assert not (Path(store.url) / "scratch" / "refine_map" / "0123456789abcdef").exists()


def test_a_session_that_a_flow_works_on_is_left_alone(store):
    put_session(store, ["a"])
    times = LeaseTimes(settle_seconds=0.01)
    with hold(store.location, "exposures", "the night shift", times=times):
        for is_dry_run in (True, False):
            assert "the night shift" in sweep(store, RAW, is_dry_run).refused
    assert store.exposure_product("a", "import_session").record().expired is None
    assert len(sweep(store, RAW).removed) == 1


def test_a_version_keeps_what_it_reads_from_its_parent(store):
    put_session(store, ["a"])
    version = store.branch("other")
    put_exposure_stage(version, "a", "correct_motion", variant=5)  # its CTF is now to be estimated from this one
    policy = RetentionPolicy(power_spectra="0 days", micrographs="0 days", imported_movies="0 days")
    put_exposure_stage(version, "a", "estimate_ctf", variant=5)
    report = sweep(store, policy)
    assert {item.address for item in report.removed} == {
        "exposures/a/import_session", "exposures/a/correct_motion", "exposures/a/estimate_ctf"
    }  # fmt: skip
    version.exposure_product("a", "correct_motion").verify()
    assert version.exposure_product("a", "correct_motion").read()["micrograph"].mean() == 5
    # picks and stacks of the version are the parent's, and have to be made anew from its own micrograph
    assert [item.address for item in sweep(version, policy).held] == [
        "exposures/a/correct_motion", "exposures/a/estimate_ctf"
    ]  # fmt: skip


def test_a_version_whose_product_is_out_of_date_holds_that_of_its_parent(store):
    put_session(store, ["a"])
    version = store.branch("other")
    inputs = {"exposures/a/import_session": store.exposure_product("a", "import_session").record().fingerprint}
    version.exposure_product("a", "correct_motion").put_outcome(
        "failed", "lightning", "correct_motion", 1, VariedParams(variant=2), inputs
    )
    report = sweep(store, RAW)
    assert report.removed == []
    assert "correct_motion failed" in report.held[0].reason


def test_a_record_of_a_version_that_names_its_parents_attempt_expires_with_it(store):
    put_session(store, ["a"])
    version = store.branch("other")
    version.exposure_product("a", "import_session").amend({"checked_gain": "new"})
    assert len(sweep(store, RAW).removed) == 1
    with pytest.raises(ExpiredProductError):
        version.exposure_product("a", "import_session").read()
    assert version.exposure_product("a", "import_session").record().details["checked_gain"] == "new"


def test_restoring_marks_what_is_to_be_made_again_and_what_that_is_made_from(store):
    put_session(store, ["a"])
    sweep(store, RetentionPolicy(imported_movies="0 days", micrographs="0 days", particle_stacks="0 days"))
    assert expired_products(store) == {
        "exposures/a/import_session": "imported_movies",
        "exposures/a/correct_motion": "micrographs",
        "exposures/a/extract_particles": "particle_stacks",
    }
    marked = restore(store, ["exposures/a/correct_motion"])
    assert marked == ["exposures/a/correct_motion", "exposures/a/import_session"]
    assert restore(store, marked) == []
    record = store.exposure_product("a", "import_session").record()
    assert not record.is_current(record.fingerprint)
    put_exposure_stage(store, "a", "import_session")
    assert store.exposure_product("a", "import_session").record().is_current(record.fingerprint)
    store.exposure_product("a", "import_session").read()
    # while the micrograph is wanted, it holds the frames
    assert [item.address for item in sweep(store, RAW).held] == ["exposures/a/import_session"]


def test_a_record_that_cannot_be_read_stops_the_sweep(store):
    put_session(store, ["a"])
    (Path(store.url) / "maps/refined/commit.json").write_text("{")
    with pytest.raises(StoreError, match=r"maps/refined: its commit record cannot be read"):
        sweep(store, RAW)
    store.exposure_product("a", "import_session").read()


def test_a_policy_that_says_something_else_is_refused():
    for words in ("a month", "until used", "-1 days"):
        with pytest.raises(ValidationError):
            RetentionPolicy(maps=words)


def test_sessions_are_found_below_a_folder(store, tmp_path):
    store.branch("other")
    (tmp_path / "notes.txt").write_text("no session")
    assert list(find_sessions(store.location)) == [store.url]
    root = type(store.location).of(tmp_path)
    assert list(find_sessions(root)) == [store.url, store.version_location("other").url]


def _double(store, item, params, attempt):
    image = store.exposure_product(item, "import_session").read()["micrograph"]
    attempt.write("micrograph", image * np.float32(params.variant))


def _imported(store, item):
    return [f"exposures/{item}/import_session"]


DOUBLE = Stage("correct_motion", 1, "CPU", _double, _imported)


def test_a_stage_that_needs_expired_frames_says_so_and_keeps_what_it_made(store, workers):
    put_exposure_stage(store, "a", "import_session", variant=2)
    assert run_stage(store.url, DOUBLE, ["a"], VariedParams(variant=3)).done == ["a"]
    sweep(store, RAW)
    assert run_stage(store.url, DOUBLE, ["a"], VariedParams(variant=3)).kept == ["a"]
    changed = run_stage(store.url, DOUBLE, ["a"], VariedParams(variant=5))
    assert "imported_movies: 0 days" in changed.failed["a"]
    assert store.exposure_product("a", "correct_motion").read()["micrograph"].mean() == 6
    put_exposure_stage(store, "b", "import_session")
    sweep(store, RAW)
    assert "vitriflow restore" in run_stage(store.url, DOUBLE, ["b"], VariedParams()).failed["b"]
    assert "vitriflow restore" in store.exposure_product("b", "correct_motion").record().reason


def test_restored_frames_are_imported_again_and_nothing_else_is_made_anew(store, workers, tmp_path):
    folder = tmp_path / "movies"
    folder.mkdir()
    frames = np.random.default_rng(0).poisson(2, (3, 16, 18)).astype(np.uint8)
    tifffile.imwrite(folder / "movie.tiff", frames, photometric="minisblack")
    params = ImportSessionParams(pixel_size_angstrom=1.0)
    (movie,) = import_session.fn(store.url, str(folder), params).done
    product = store.exposure_product(movie, "import_session")
    fingerprint = product.record().fingerprint
    sweep(store, RAW)
    assert import_session.fn(store.url, str(folder), params).kept == [movie]
    assert product.record().expired is not None
    restore(store, list(expired_products(store)))
    assert import_session.fn(store.url, str(folder), params).done == [movie]
    np.testing.assert_array_equal(product.read()["frames"], frames)
    assert product.record().fingerprint == fingerprint


def test_what_lies_beside_models_goes_by_rules_of_its_own_and_lasts_unless_told_otherwise(store):
    kept = {"predictions": "plddt_0", "detections": "residue", "models": "mmcif", "verdicts": "side"}
    kept["comparisons"] = "json"
    types = {"predictions": "float32", "detections": "float32", "verdicts": "int8"}
    for group, array in kept.items():
        with store.product(f"{group}/one").write("a_stage", 1, VariedParams(), {}) as attempt:
            attempt.write(array, np.zeros(5, types.get(group, "uint8")))
    assert sweep(store, read_policy(POLICY)).removed == sweep(store, RetentionPolicy()).removed == []
    rules = dict.fromkeys(kept, "0 days")
    for group in kept.keys() - {"models"}:
        report = sweep(store, RetentionPolicy(**{group: rules[group]}))
        assert [(item.address, item.product_class) for item in report.removed] == [(f"{group}/one", group)]
        assert report.n_bytes > 0
        with pytest.raises(ExpiredProductError, match=f"{group}: 0 days"):
            store.product(f"{group}/one").read()
    assert expired_products(store) == {f"{group}/one": group for group in kept if group != "models"}
    store.product("models/one").verify()
