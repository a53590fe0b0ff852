"""The 3D view of a model is in the page, whole, and cannot end it."""

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

import tasks.plots.model_view as model_view
from kernels.models.atomic_model import Residue
from tasks.plots import page
from tasks.plots.model_view import MapCut, ModelView, ResidueClass, ResidueColumn, view_html, view_scripts
from tasks.plots.profile import residue_profile

RESIDUES = [Residue("A</script>", "ALA", i) for i in range(1, 4)]
VERDICT = (ResidueClass("trust", "#0072b2"), ResidueClass("rebuild", "#e69f00"))
COLUMNS = [
    ResidueColumn("q", "Q-score", np.array([0.5, np.nan, 0.123456]), is_share=True),
    ResidueColumn("verdict", "verdict", np.array([0, 1, -1]), classes=VERDICT),
]


def data_of(html: str) -> dict:
    found = re.search(r'<script type="application/json" id="model-data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_what_the_view_shows_is_read_back_from_the_page():
    codes = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    cut = MapCut(codes, 1.5, (1.0, 2.0, 3.0), 0.1, 0.9, 0.3, 0.2, "")
    data = data_of(view_html(ModelView(b"data_<!--</script>", "m.cif", RESIDUES, COLUMNS, cut), ""))
    assert gzip.decompress(base64.b64decode(data["model"])) == b"data_<!--</script>"
    read = np.frombuffer(gzip.decompress(base64.b64decode(data["map"]["data"])), np.uint8)
    np.testing.assert_array_equal(read.reshape(data["map"]["size"]), codes)
    assert data["residues"]["chain"] == ["A</script>"] * 3
    assert [column["values"] for column in data["colours"]] == [[0.5, None, 0.123], [0, 1, None]]


def test_a_model_without_a_map_has_no_contour_to_choose():
    html = view_html(ModelView(b"", "m.cif", RESIDUES, COLUMNS, None), "")
    assert data_of(html)["map"] is None
    assert 'name="level"' not in html


def test_without_scripts_the_pictures_are_seen_and_the_view_is_not():
    html = view_html(ModelView(b"", "m.cif", RESIDUES, COLUMNS, None), "<img>")
    assert html.startswith('<div id="model-view" hidden>')
    assert '<details id="model-still" open><summary>Pictures of the model in its map</summary><img></details>' in html


def test_the_viewer_is_the_one_that_was_pinned():
    folder = Path(model_view.__file__).with_name("viewer")
    sums = dict(reversed(line.split()) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {"3Dmol-min.js", "3Dmol-LICENSE.txt"}
    for name, expected in sums.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
    assert (folder / "3Dmol-min.js").stat().st_size < 1e6


def test_a_browser_runs_the_scripts_of_the_page_and_no_others():
    html = page.page("title", "", [], [], view_scripts())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None and policy[1].startswith("default-src 'none'; ")
    allowed = set(re.findall(r"'sha256-([^']*)'", policy[1]))
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(scripts) == 3
    assert allowed == {base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts}


def test_a_script_that_would_end_its_element_is_refused():
    with pytest.raises(ValueError, match="would end its element"):
        page.page("title", "", [], [], ["const a = '</script>'"])


def test_profile_leaves_gaps_and_counts_from_the_first_residue_of_its_row():
    residues = [Residue("A" if i < 150 else "B", "GLY", i + 1) for i in range(450)]
    values = np.full(450, 0.5)
    values[10:20] = np.nan
    html = residue_profile(residues, [ResidueColumn("c", "confidence", values, is_share=True)])
    rows = re.findall(r'data-first="(\d+)" data-count="(\d+)"', html)
    assert rows == [("0", "200"), ("200", "200"), ("400", "50")]
    lines = re.findall(r'<path d="([^"]*)" fill="none"', html)
    assert [line.count("M") for line in lines] == [3, 1, 1]  # begins, after the gap, at the second chain
    assert [line.count("L") + line.count("M") for line in lines] == [190, 200, 50]


def test_profile_has_a_block_for_each_run_of_a_verdict():
    residues = [Residue("A", "GLY", i + 1) for i in range(9)]
    values = np.array([0, 0, 1, 1, 1, -1, -1, 0, 1])
    verdict = ResidueColumn("verdict", "verdict", values, classes=VERDICT, is_strip=True)
    html = residue_profile(residues, [verdict])
    widths = re.findall(r'width="(\d+)" height="8" fill="(#\w+)"', html)
    assert widths == [("12", "#0072b2"), ("18", "#e69f00"), ("6", "#0072b2"), ("6", "#e69f00")]


def test_without_figures_there_is_no_profile():
    assert residue_profile(RESIDUES, [ResidueColumn("b", "B-factor", np.zeros(3), 100, 20, "Å²")]) == ""
