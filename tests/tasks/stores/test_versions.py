"""A version lies over the session that it was made from: what it does not change, it does not pay for."""

import numpy as np
import pytest

from tasks.records.session import StageParams
from tasks.stores.ledger import read_ledger
from tasks.stores.session_store import SessionStore
from tasks.workers.stage import Stage, run_stage


class ScaleParams(StageParams):
    factor: float = 2.0


def _import(store, item, params, attempt):
    attempt.write("micrograph", np.full((4, 4), params.factor, np.float32))


def _correct(store, item, params, attempt):
    image = store.exposure_product(item, "import_session").read()["micrograph"]
    attempt.write("micrograph", image * np.float32(params.factor))


def _nothing(store, item):
    return []


def _imported(store, item):
    return [f"exposures/{item}/import_session"]


IMPORT = Stage("import_session", 1, "CPU", _import, _nothing)
CORRECT = Stage("correct_motion", 1, "CPU", _correct, _imported)
ITEMS = ["a", "b"]


@pytest.fixture
def processed(store, workers):
    run_stage(store.url, IMPORT, ITEMS, ScaleParams())
    run_stage(store.url, CORRECT, ITEMS, ScaleParams())
    return store


def mean(store, item):
    return store.exposure_product(item, "correct_motion").read()["micrograph"].mean()


def test_a_version_has_all_of_its_parent_and_computes_only_what_changed(processed):
    version = processed.branch("stronger")
    assert version.exposure_ids() == ITEMS
    assert read_ledger(version).counts() == read_ledger(processed).counts()
    assert run_stage(version.url, IMPORT, ITEMS, ScaleParams()).kept == ITEMS
    assert run_stage(version.url, CORRECT, ITEMS, ScaleParams(factor=5)).done == ITEMS
    assert (mean(version, "a"), mean(processed, "a")) == (10, 4)
    assert version.exposure_product("a", "import_session").is_inherited
    assert not version.exposure_product("a", "correct_motion").is_inherited
    version.exposure_product("a", "import_session").read()
    version.exposure_product("a", "import_session").verify()
    assert run_stage(version.url, CORRECT, ITEMS, ScaleParams(factor=5)).kept == ITEMS
    assert run_stage(processed.url, CORRECT, ITEMS, ScaleParams()).kept == ITEMS


def test_what_the_parent_gains_later_is_seen_in_the_version(processed):
    version = processed.branch("later")
    run_stage(version.url, CORRECT, ITEMS, ScaleParams(factor=5))
    run_stage(processed.url, IMPORT, ["c"], ScaleParams())
    run_stage(processed.url, CORRECT, ["c"], ScaleParams())
    assert version.exposure_ids() == ["a", "b", "c"]
    assert mean(version, "c") == 4
    report = run_stage(version.url, CORRECT, ["a", "b", "c"], ScaleParams(factor=5))
    assert (report.kept, report.done) == (ITEMS, ["c"])


def test_a_record_that_a_version_amends_names_the_parents_attempt(processed):
    version = processed.branch("amended")
    product = version.exposure_product("a", "correct_motion")
    product.amend({"note": "looked at"})
    assert product.read().record.details["note"] == "looked at"
    assert product.read()["micrograph"].mean() == 4
    product.verify()
    assert "note" not in processed.exposure_product("a", "correct_motion").read().record.details


def test_versions_are_known_to_their_parent_and_may_have_versions(processed):
    child = processed.branch("one").branch("two")
    assert processed.versions() == ["one"]
    assert SessionStore.open(child.url).parents == (processed.version_location("one"), processed.location)
    assert mean(child, "b") == 4
    assert processed.branch("one").url == processed.version_location("one").url
    with pytest.raises(ValueError, match="expected letters"):
        processed.branch("../elsewhere")
