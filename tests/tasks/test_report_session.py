"""The report: whole, self-contained, true to the ledger, and there whatever is missing."""

import base64
import io
import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.testing.utilities import prefect_test_harness

from tasks.report.artifacts import artifact_key
from tasks.report_session import ReportSessionParams, report_session
from tasks.stores.ledger import read_ledger
from tasks.stores.session_store import SessionStore
from tests.truth.filled_session import FilledParams, fill_session


class Page(HTMLParser):
    """Text, references and pictures of a page, and whether its elements are nested well."""

    EMPTY = ("meta", "link", "img", "br", "hr", "input")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.references: list[str] = []
        self.pictures: list[tuple[str, str]] = []
        self.anchors: set[str] = set()
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in self.EMPTY:
            self._open.append(tag)
        assert tag not in {"iframe", "object"}
        assert tag != "script" or "src" not in values
        self.references += [v for k, v in attrs if k in {"src", "href", "srcset", "poster", "action"} and v]
        if "id" in values:
            self.anchors.add(values["id"])
        if tag == "img":
            self.pictures.append((values["src"], values["alt"]))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self._open[-1:]):
            self.text.append(data)

    def says(self, words: str) -> bool:
        return words in " ".join(" ".join(self.text).split())


def report_of(store, **params) -> tuple[str, Page]:
    path = Path(report_session.fn(store.url, ReportSessionParams(**params)))
    assert path == Path(store.url) / "report.html"
    html = path.read_text()
    return html, Page(html)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    store = SessionStore.create(str(tmp_path_factory.mktemp("full") / "session.zarr"), "full")
    filled = fill_session(store, n_exposures=3)
    html, page = report_of(store)
    return store, filled, html, page


def test_nothing_is_fetched_from_elsewhere(full):
    _, _, html, page = full
    assert all(r.startswith(("data:", "#")) for r in page.references)
    assert "url(" not in html and "@import" not in html
    assert {r[1:] for r in page.references if r.startswith("#")} <= page.anchors


def test_a_page_without_a_model_runs_nothing(full):
    _, _, html, _ = full
    assert "<script" not in html
    assert "default-src 'none'; script-src 'none'" in html


def test_every_picture_is_a_png_that_can_be_read_and_has_a_text(full):
    _, filled, _, page = full
    sizes = []
    for source, alt in page.pictures:
        assert alt
        kind, content = source.split(",", 1)
        assert kind == "data:image/png;base64"
        image = Image.open(io.BytesIO(base64.b64decode(content)))
        assert image.format == "PNG"
        assert np.ptp(np.asarray(image.convert("L"))) > 50, f"{alt}: nothing is drawn"
        sizes.append((alt, image.size))
    micrographs = [size for alt, size in sizes if alt.startswith("Micrograph")]
    assert micrographs == [(340, 300)] * (len(filled.good) + 1)  # and the rejected one
    assert len([alt for alt, _ in sizes if alt.startswith("CTF")]) == len(filled.good) + 1
    assert len([alt for alt, _ in sizes if alt.startswith("Motion")]) == len(filled.good) + 1


def test_numbers_are_those_of_the_ledger(full):
    store, filled, _, page = full
    counts = read_ledger(store).counts()
    assert sum(counts.values()) == len(store.exposure_ids())
    assert page.says(
        f"{len(store.exposure_ids())} seen = {counts['done']} in use + {counts['skipped']} rejected + 0 skipped"
        f" + {counts['failed']} failed + {counts['quarantined']} quarantined."
    )
    assert page.says(f"{counts['done']} of {len(store.exposure_ids())} exposures in use")
    assert page.says("5.60 Å")
    assert page.says(f"{filled.n_particles} extracted")


def test_each_exposure_that_is_not_used_is_there_with_its_reason(full):
    _, filled, html, page = full
    assert len(filled.reasons) == 3
    for exposure, reason in filled.reasons.items():
        assert page.says(exposure)
        assert page.says(reason)
    assert "<broken>" not in html  # escaped
    assert "&lt;broken&gt;" in html


def test_parameters_of_every_stage_are_there(full):
    _, _, _, page = full
    for stage in ("import_session", "correct_motion", "estimate_ctf", "classify_2d", "refine_map", "sharpen_map"):
        assert page.says(stage)
    assert page.says("diameter_angstrom")
    assert not page.says("cannot be shown")


def test_an_empty_session_says_what_is_not_there_yet(store):
    _, page = report_of(store)
    assert page.says("No exposure has been seen yet")
    assert page.says("Not yet: no 2D classes")
    assert page.says("Not yet: no map has been refined")
    assert page.pictures == []


def test_a_session_without_maps_has_its_exposures(store):
    fill_session(store, n_exposures=2, with_maps=False)
    _, page = report_of(store)
    assert page.says("no refined map yet")
    assert any(alt.startswith("Gallery") for _, alt in page.pictures)
    assert not page.says("cannot be shown")


def test_odd_products_do_not_stop_the_report(store):
    """NaN and constant pictures, empty arrays, records without the details they should have."""
    fill_session(store, n_exposures=2, shape=(160, 180), n_picks=2)
    for name, write in {
        "exposures/odd-00000001/import_session": lambda a: a.details.update(exposure={"id": "?"}),
        "exposures/odd-00000001/estimate_ctf": lambda a: a.write("fit_curves", np.zeros((4, 0), np.float32)),
        "maps/initial": lambda a: a.write("map", np.full((16, 16, 16), np.nan, np.float32)),
        "maps/refined": lambda a: a.write("fsc_curves", np.zeros((5, 0), np.float32)),
        "maps/sharpened": lambda a: (
            a.write("map", np.zeros((16, 16, 16), np.float32)),
            a.write("local_resolution", np.zeros((16, 16, 16), np.float32)),
        ),
        "classes/2d": lambda a: a.write("class_average", np.zeros((0, 16, 16), np.float32)),
        "particles/refined": lambda a: a.write("rotation", np.zeros((0, 3, 3), np.float32)),
    }.items():
        with store.product(name).write(name.split("/")[-1], 1, FilledParams(), {}) as attempt:
            write(attempt)
    good = store.exposure_ids()[0]
    with store.exposure_product(good, "correct_motion").write("correct_motion", 1, FilledParams(), {}) as attempt:
        attempt.write("micrograph", np.full((160, 180), np.nan, np.float32))
        attempt.write("global_shift_angstrom", np.zeros((0, 2), np.float32))
        attempt.write("patch_center_px", np.zeros((0, 2), np.float32))
        attempt.write("patch_shift_angstrom", np.zeros((0, 0, 2), np.float32))
    _, page = report_of(store)
    assert page.says("a map without a resolution estimate")
    assert not page.says("cannot be shown")


def test_a_product_of_another_shape_costs_its_own_section_only(store):
    fill_session(store, n_exposures=2, shape=(160, 180), n_picks=2)
    with store.product("maps/refined").write("refine_map", 1, FilledParams(), {}) as attempt:
        attempt.write("fsc_curves", np.zeros((1, 9), np.float32) + np.inf)
    shutil.rmtree(Path(store.url) / "maps" / "sharpened" / "attempts")
    with store.product("particles/refined").write("refine_map", 1, FilledParams(), {}) as attempt:
        attempt.write("exposure", np.zeros(4, np.int32))
        attempt.write("rotation", np.zeros((4, 3), np.float32))
    _, page = report_of(store)
    assert page.says("This part cannot be shown")
    assert any(alt.startswith("Gallery") for _, alt in page.pictures)
    assert any(alt.startswith("Micrograph") for _, alt in page.pictures)


def test_pictures_of_exposures_are_limited(full):
    store, filled, _, _ = full
    _, page = report_of(store, max_exposures=3)
    micrographs = [alt for _, alt in page.pictures if alt.startswith("Micrograph")]
    assert len(micrographs) <= 3
    for reason in filled.reasons.values():
        assert page.says(reason)  # the list stays whole


@pytest.mark.parametrize(
    ("session", "key"),
    [("Apo_2026.11", "apo-2026-11-fsc"), ("x", "x-fsc"), ("A--b_.", "a-b-fsc")],
)
def test_artifact_keys_have_only_what_prefect_allows(session, key):
    assert artifact_key(session, "fsc") == key


@pytest.mark.server
def test_pictures_and_ledger_become_artifacts_of_the_run(full):
    store, filled, _, _ = full

    @flow
    def run() -> str:
        return report_session(store.url, ReportSessionParams(max_exposures=2))

    with prefect_test_harness():
        run()
        run()  # replaces what the first made
        with get_client(sync_client=True) as client:
            found = client.read_artifacts()
    artifacts = {a.key: a for a in found}
    assert len(found) == len(artifacts)
    keys = {
        f"full-{name}"
        for name in ("fsc", "session", "overview", "map-projections", "classes-2d", "exposures", "ledger")
    }
    assert keys <= set(artifacts)
    assert artifacts["full-fsc"].type == "image"
    rows = {row["exposure"]: row["reason"] for row in json.loads(artifacts["full-ledger"].data)}
    assert {exposure: rows[exposure] for exposure in filled.reasons} == filled.reasons
