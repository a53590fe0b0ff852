"""The model section of the report is true to the model, the map and the store."""

import base64
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from kernels.models.residue_places import places_of_residues
from tasks.choose_model import ChooseModelParams, choose_model
from tasks.compare_rounds import CompareRoundsParams, compare_rounds
from tasks.formats.structure import parse_mmcif
from tasks.plots.model_view import ResidueColumn
from tasks.records.session import StageParams
from tasks.report.model_columns import columns_of, is_followed, regions_of
from tasks.report.model_map import around_model, map_cut, sigma_of
from tasks.report_session import ReportSessionParams, report_session
from tasks.stores.products.map_store import density_grid
from tasks.stores.products.model_store import write_model
from tasks.stores.products.validation_store import write_validation
from tasks.stores.session_store import SessionStore
from tests.truth.modelled_session import (
    DOUBTFUL,
    SEQUENCES,
    Modelled,
    fill_with_models,
    refine_and_validate,
    two_helices,
    validation_of,
)


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    store = SessionStore.create(str(tmp_path_factory.mktemp("modelled") / "session.zarr"), "modelled")
    modelled = fill_with_models(store)
    return store, modelled, Path(report_session.fn(store.url, ReportSessionParams())).read_text()


def data_of(html):
    found = re.search(r'id="model-data">(.*?)</script>', html, re.DOTALL)
    return json.loads(found[1])


def test_the_page_holds_the_model_and_its_confidence(reported):
    _, modelled, html = reported
    data = data_of(html)
    model = parse_mmcif(gzip.decompress(base64.b64decode(data["model"])), "page")
    torch.testing.assert_close(model.coordinates_angstrom, modelled.model.coordinates_angstrom, atol=1e-3, rtol=0)
    confidence = next(column for column in data["colours"] if column["id"] == "confidence")
    np.testing.assert_allclose(confidence["values"], modelled.confidence, atol=1e-3)
    assert "built_2: 54 residues in 2 chains" in html
    assert "mean confidence 0.8 · clashscore 7" in html


def test_the_map_in_the_page_is_the_map_between_the_lowest_contour_and_the_highest(reported):
    store, _, html = reported
    about = data_of(html)["map"]
    codes = np.frombuffer(gzip.decompress(base64.b64decode(about["data"])), np.uint8).reshape(about["size"])
    step = (about["high"] - about["low"]) / 255
    index = torch.stack(torch.meshgrid(*(torch.arange(n) for n in codes.shape), indexing="ij"), dim=-1)
    origin = torch.tensor(about["origin"], dtype=torch.float64)
    true = density_grid(store, "imported").values_at(origin + index * about["voxel"])
    shown = torch.from_numpy(codes.astype(np.float32)) * step + about["low"]
    torch.testing.assert_close(shown, true.clamp(about["low"], about["high"]), atol=0.51 * step, rtol=0)
    assert (codes > 0).mean() > 0.1


def test_residues_that_are_not_sure_can_be_gone_to(reported):
    _, modelled, html = reported
    first, last = (modelled.model.residues[i] for i in (DOUBTFUL.start, DOUBTFUL.stop - 1))
    assert (
        f'data-first="{DOUBTFUL.start}" data-last="{DOUBTFUL.stop - 1}">{first} to {last.name}{last.number}</a>'
        " · low confidence · 6 residues"
    ) in html


def test_every_model_of_the_session_is_listed_in_order(reported):
    _, _, html = reported
    cells = re.findall(r"<tr><td>(built\w*)</td><td>build_model</td>", html)
    assert cells == ["built", "built_2"]
    assert "Figures of the models of this session" in html


def test_a_first_contour_holds_a_third_of_the_molecule(reported):
    store, modelled, _ = reported
    part = around_model(density_grid(store, "imported"), modelled.model)
    cut = map_cut(part, modelled.model, sigma_of(part, modelled.model), "imported", 1.0)
    volume = float((part.voxels >= cut.level).sum()) * part.voxel_size_angstrom**3
    # 18 Å³ for each atom but hydrogen is what proteins take up (1.21 Å³/Da); what is far from the model counts here too
    assert 0.25 < volume / (18 * len(modelled.model)) < 0.45
    assert cut.lowest < cut.level < cut.highest


def test_a_large_map_is_shown_on_larger_voxels_and_said_so(monkeypatch, reported):
    store, modelled, _ = reported
    monkeypatch.setattr("tasks.report.model_map._MOST_VOXELS", 20_000)
    part = around_model(density_grid(store, "imported"), modelled.model)
    assert part.voxels.numel() < 1.05 * 20_000
    assert part.voxel_size_angstrom > 1.2
    cut = map_cut(part, modelled.model, 1.0, "imported", 1.0)
    assert f"voxels of {part.voxel_size_angstrom:.2f} Å to keep this page small; the map itself has 1.00 Å" in cut.words


def test_a_model_beside_its_map_is_shown_without_it(tmp_path):
    store = SessionStore.create(str(tmp_path / "session.zarr"), "beside")
    modelled = fill_with_models(store)
    away = modelled.model.at(modelled.model.coordinates_angstrom + 500)
    for name in ("built", "built_2"):
        with store.product(f"models/{name}").write("build_model", 2, StageParams(), {}) as attempt:
            write_model(attempt, away, name)
    html = Path(report_session.fn(store.url, ReportSessionParams())).read_text()
    assert "The map imported is not shown: the model lies outside of its map" in html
    assert data_of(html)["map"] is None


def test_regions_of_low_confidence_end_with_their_chain():
    model = two_helices()
    n = len(SEQUENCES[0])
    confidence = np.ones(model.n_residues)
    confidence[3:5], confidence[n - 2 : n + 4] = 0.1, 0.2
    found = regions_of(model, None, [ResidueColumn("confidence", "confidence", confidence)])
    assert [(r.first, r.last) for r in found] == [(3, 4), (n - 2, n - 1), (n, n + 3)]
    assert regions_of(model, None, []) == []


def test_what_a_validation_says_of_a_residue_is_shown_with_it():
    modelled = Modelled(two_helices(), torch.linspace(0.1, 0.9, len("".join(SEQUENCES))))
    validation = validation_of(modelled)
    found = {c.identifier: c for c in columns_of(modelled.model, None, validation, None)}
    assert list(found) == [
        "probability", "q_score", "q_expected", "correlation", "verdict", "ramachandran", "local_resolution",
    ]  # fmt: skip
    np.testing.assert_allclose(found["probability"].values[:-1], modelled.confidence[:-1], atol=1e-3)
    assert np.isnan(found["probability"].values[-1]) and found["verdict"].values[-1] == -1  # it says nothing of it
    kinds = [found["verdict"].classes[int(v)].label for v in found["verdict"].values[:-1]]
    assert kinds == [row.verdict for row in validation.residues]
    assert found["local_resolution"].worst > found["local_resolution"].best  # less is better


def test_the_validation_of_a_refined_model_is_in_the_report(tmp_path):
    store = SessionStore.create(str(tmp_path / "session.zarr"), "refined")
    modelled = fill_with_models(store)
    validation = refine_and_validate(store, modelled)
    html = Path(report_session.fn(store.url, ReportSessionParams())).read_text()
    assert f"<p>Rebuild: {validation.decision_reason}.</p>" in html
    assert "A/ASP10 to GLN15</a> · rebuild: density fits another sequence · 6 residues" in html
    assert "A map at 3.00 Å with a model of 54 residues, verdict: rebuild." in html
    columns = {column["id"] for column in data_of(html)["colours"]}
    assert {"probability", "verdict", "b_factor", "confidence"} <= columns
    confidence = next(column for column in data_of(html)["colours"] if column["id"] == "confidence")
    np.testing.assert_allclose(confidence["values"], modelled.confidence, atol=1e-3)  # that of the model it comes from
    assert "Rounds of refined, of which refined was taken" in html
    rounds = html[html.index("Rounds of refined") :]
    assert re.findall(r"<tr><td>(\w+)</td>", rounds)[:3] == ["built_1", "refined", "repaired_1"]


def test_the_rounds_of_rebuilding_are_in_the_report(tmp_path, workers):
    store = SessionStore.create(str(tmp_path / "session.zarr"), "rounds")
    modelled = fill_with_models(store)
    validation = refine_and_validate(store, modelled)
    window = {"chain": "A", "first": "8", "last": "17", "taken": "traced", "shift": 1}
    with store.product("models/rebuilt-1").write("rebuild_model", 1, StageParams(), {}) as attempt:
        write_model(attempt, modelled.model, "rebuilt-1")
        attempt.details["windows"] = [window, {**window, "chain": "B", "taken": "kept", "shift": None}]
    with store.product("models/refined-1").write("refine_model", 1, StageParams(), {}) as attempt:
        write_model(attempt, modelled.model, "refined-1")
    surer = [row.model_copy(update={"probability": 0.99, "verdict": "trust"}) for row in validation.residues]
    better = validation.model_copy(update={"residues": tuple(surer), "regions": (), "trusted_percent": 100.0})
    with store.product("validations/refined-1").write("validate_model", 2, StageParams(), {}) as attempt:
        write_validation(attempt, better)
    models = ("refined", "refined-1")
    assert compare_rounds.fn(store.url, CompareRoundsParams(models=models, map="imported")).done
    report = choose_model.fn(store.url, ChooseModelParams(models=models, map="imported"))
    assert not report.failed and not report.skipped, report
    html = Path(report_session.fn(store.url, ReportSessionParams())).read_text()
    assert "Rounds of chosen, of which refined-1 was taken" in html
    rounds = html[html.index("Rounds of chosen") :]
    assert re.findall(r"<tr><td>([\w\u2011]+)</td>", rounds)[:2] == ["refined", "refined\u20111"]
    assert "A 8–17: traced and register" in rounds
    assert "trusted %" in rounds and "88.9<" in rounds and "clashscore" in rounds
    assert "FSC, free half" not in rounds  # there are no half maps, and no column of nothing
    columns = {column["id"] for column in data_of(html)["colours"]}
    assert {"probability", "confidence"} <= columns  # that of the model that all rounds come from


def test_a_validation_of_an_earlier_model_of_the_name_is_not_shown(tmp_path):
    store = SessionStore.create(str(tmp_path / "session.zarr"), "refined")
    modelled = fill_with_models(store)
    refine_and_validate(store, modelled)
    with store.product("models/refined").write("refine_model", 2, StageParams(), {}) as attempt:
        write_model(attempt, modelled.model, "refined")
    html = Path(report_session.fn(store.url, ReportSessionParams())).read_text()
    assert "probability" not in {column["id"] for column in data_of(html)["colours"]}


def test_a_session_that_begins_with_a_map_has_no_sections_of_exposures(reported):
    _, _, html = reported
    assert re.findall(r'<section id="(\w+)"', html) == ["summary", "map", "model", "stages"]
    assert "A map at 3.00 Å with a model of 54 residues." in html
    assert "Not yet" not in html


def test_steps_of_a_trace_are_told_from_its_gaps_and_ends():
    model = two_helices()
    n = len(SEQUENCES[0])
    trace = model.take(torch.tensor([name == "CA" for name in model.names]))
    gapped = trace.take_residues(torch.arange(trace.n_residues) != 5)
    follows = is_followed(gapped, places_of_residues(gapped).numpy())
    assert np.nonzero(~follows)[0].tolist() == [4, n - 2, gapped.n_residues - 1]


def test_a_trace_is_shown_in_about_the_contour_of_the_whole_model(reported):
    store, modelled, _ = reported
    model = modelled.model
    trace = model.take(torch.tensor([name == "CA" for name in model.names]))
    part = around_model(density_grid(store, "imported"), model)
    levels = [map_cut(part, shown, 1.0, "imported", 1.0).level for shown in (model, trace)]
    assert levels[1] == pytest.approx(levels[0], rel=0.35)
