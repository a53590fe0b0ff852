"""The report says what is to be done next, marks it in the model, and shows what was docked."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.export_session import ExportSessionParams, export_session
from tasks.formats.map_file import read_map
from tasks.records.session import StageParams
from tasks.report.verdict import verdict_markdown
from tasks.report_session import ReportSessionParams, report_session
from tasks.stores.products.map_store import density_grid
from tasks.stores.session_store import SessionStore
from tests.truth.filled_session import fill_session
from tests.truth.modelled_session import (
    DOUBTFUL,
    WEAK,
    dock_two,
    fill_with_models,
    judge_refined,
    refine_and_validate,
)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    store = SessionStore.create(str(tmp_path_factory.mktemp("judged") / "session.zarr"), "judged")
    modelled = fill_with_models(store)
    dock_two(store, modelled)
    refine_and_validate(store, modelled)
    found = judge_refined(store, modelled)
    return store, modelled, found, written(store)


def written(store) -> str:
    return Path(report_session.fn(store.url, ReportSessionParams())).read_text()


def section(html: str, identifier: str) -> str:
    return html[html.index(f'<section id="{identifier}">') :].split("</section>")[0]


def test_the_decision_and_its_reason_come_first(judged):
    _, _, found, html = judged
    assert re.findall(r'<section id="(\w+)"', html)[:4] == ["summary", "verdict", "map", "model"]
    told = section(html, "verdict")
    reason = f"{found.reason[0].upper()}{found.reason[1:]}."
    assert told.index("rebuild here") < told.index(reason) < told.index("<table")
    assert "with a model of 54 residues, verdict: rebuild here." in html


def test_disagreements_lead_to_the_residues_of_the_model(judged):
    told = section(judged[3], "verdict")
    assert f'data-first="{DOUBTFUL.start}" data-last="{DOUBTFUL.stop - 1}">A/10-15</a>' in told
    (row,) = re.findall(r"<tr><td>A/10-15</td>.*?</tr>", told)
    assert "the prediction</span>" in row and "0.31" in row
    (row,) = re.findall(r"<tr><td>B/130-137</td>.*?</tr>", told)
    assert "the prediction, where nothing was built" in row and "data-first" not in row
    assert "lDDT: how well distances" in told and "pLDDT: how sure" in told


def test_weak_parts_and_missing_views_are_told(judged):
    told = section(judged[3], "verdict")
    first, last = WEAK.start, WEAK.stop - 1
    (row,) = re.findall(r"<tr><td>[^\n]*mask_1</td></tr>", told)
    assert f'data-first="{first}" data-last="{last}"' in row and "4.4" in row and "3.1" in row
    assert "Views are uneven (0.35 of 1)." in told and "2.8 Å (2.6 to 3.0) with 44 exposures" in told
    assert "goal 2.5 Å" in told


def test_the_model_is_coloured_by_whom_the_map_speaks_for_and_by_its_weak_parts(judged):
    html = judged[3]
    data = json.loads(re.search(r'id="model-data">(.*?)</script>', html, re.DOTALL)[1])
    columns = {column["id"]: column for column in data["colours"]}
    side = columns["side"]
    labels = [None if v is None else side["classes"][v]["label"] for v in side["values"]]
    assert labels[DOUBTFUL] == ["map speaks for the prediction"] * 6
    assert labels[-1] is None and set(labels[:9]) == {"as the prediction"}
    weak = np.array(columns["weak_part"]["values"])
    assert (weak[WEAK] == 1).all() and weak.sum() == WEAK.stop - WEAK.start
    plot = section(html, "model")
    assert plot.index("verdict, strip 1:") < plot.index("model and prediction, strip 2:")
    assert "resolution of parts, strip 3:" in plot


def test_what_was_docked_is_listed_with_how_sure_it_is(judged):
    told = section(judged[3], "docking")
    assert "Placed</span>" in told and "in 2 rigid bodies" in told
    (row,) = re.findall(r"<tr><td>B</td>.*?</tr>", told)
    assert "helix.pdb, copy 2" in row and "0.77</span>" in row and "0.61" in row and "other copies, too" in row
    assert "C2, 2 copies, 0.4 Å" in told and "1 copy placed by it" in told
    assert "lid&lt;1&gt; (part 2 of 2, 1 copy) is not placed: no place fits." in told
    assert "7 residues of predictions are left out" in told
    assert "Probability: that it lies within 4 Å" in told
    assert "data:image/png" in told


def test_the_artifact_says_the_same(judged):
    _, _, found, _ = judged
    text = verdict_markdown("judged", found)
    assert text.startswith("# judged: rebuild here")
    assert "The map speaks for the prediction at 14 residues" in text
    assert "| A/10-15 | 6 | the prediction |" in text and "| mask\\_1 |" in text


def test_masks_of_weak_parts_are_exported_in_the_frame_of_the_map(judged, tmp_path):
    store = judged[0]
    export_session.fn(store.url, str(tmp_path), ExportSessionParams())
    grid, mask = density_grid(store, "imported"), read_map(tmp_path / "masks" / "refined_mask_1.mrc")
    assert torch.equal(mask.voxels > 0.5, grid.voxels > 0)
    torch.testing.assert_close(mask.origin_angstrom.double(), grid.origin_angstrom.double(), atol=1e-3, rtol=0)


def test_a_verdict_that_no_longer_holds_is_not_shown(tmp_path):
    store = SessionStore.create(str(tmp_path / "session.zarr"), "outdated")
    modelled = fill_with_models(store)
    refine_and_validate(store, modelled)
    judge_refined(store, modelled)
    with store.product("validations/refined").write("validate_model", 9, StageParams(), {}):
        pass
    html = written(store)
    assert '<section id="verdict"' not in html and "rebuild here" not in html


def test_a_session_that_was_not_judged_has_neither_section(store):
    fill_session(store, n_exposures=2)
    html = written(store)
    assert 'id="verdict"' not in html and 'id="docking"' not in html
