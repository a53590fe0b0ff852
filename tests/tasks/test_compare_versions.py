"""Versions side by side: what differs is told, what does not depend on the change is the same, the better one wins."""

import pytest

from tasks.compare_versions import compare_versions
from tasks.records.density_map import DensityMap
from tasks.records.session import StageParams, StageReport
from tasks.records.version_table import FigureRow
from tasks.report.contents import Contents
from tasks.report.live import ledger_rows, session_markdown
from tasks.report_session import ReportSessionParams, report_session
from tasks.stores.ledger import Line, read_ledger
from tasks.stores.products.map_store import describe
from tasks.stores.session_store import SessionStore
from tasks.stores.upkeep.costs import add_costs, read_costs, spending
from tests.truth.filled_session import fill_session


class RecipeParams(StageParams):
    refine_map: dict[str, float | str]
    batch_size: int = 50


def remember(store: SessionStore, **refine_map) -> None:
    with store.product("session/recipe").write("recipe", 1, RecipeParams(refine_map=refine_map), {}):
        pass


@pytest.fixture
def two(store) -> tuple[SessionStore, SessionStore]:
    """A session with a map at 5.6 Å and a version of it with one at 4.1 Å."""
    fill_session(store, n_exposures=2)
    remember(store, symmetry="C1", step=2.0)
    add_costs(store, [StageReport(stage="refine_map", cpu_seconds=90, done=["x"])])
    version = store.branch("octahedral")
    remember(version, symmetry="O", step=2.0)
    add_costs(version, [StageReport(stage="refine_map", cpu_seconds=30, done=["x"])])
    with version.product("maps/refined").write("refine_map", 1, StageParams(), {}) as attempt:
        describe(
            attempt,
            DensityMap(
                name="refined", kind="refined", pixel_size_angstrom=2.2, symmetry="O", resolution_angstrom=4.1,
                n_particles=21,
            ),
        )  # fmt: skip
    return store, version


def test_only_what_was_changed_is_told_as_changed(two):
    table = compare_versions.fn(two[0].url)
    assert table.versions == ("test", "octahedral")
    assert [(row.name, row.values) for row in table.parameters] == [("refine_map.symmetry", ("C1", "O"))]


def test_figures_are_those_of_each_version_and_the_better_one_is_named(two):
    rows = {row["what"]: row for row in compare_versions.fn(two[0].url).rows()}
    assert rows["resolution, Å"] == {
        "what": "resolution, Å",
        "test": "5.60",
        "octahedral": "4.10",
        "better": "octahedral",
    }
    assert rows["CPU seconds spent"]["better"] == "octahedral"
    assert rows["Defocus, µm"]["test"] == rows["Defocus, µm"]["octahedral"]
    assert rows["CTF fit resolution, Å"]["better"] == ""
    assert rows["2D classes kept"]["test"] == "4"


def test_a_product_of_the_parent_that_was_made_of_something_else_is_not_the_versions_figure(two):
    store, version = two
    with version.product("maps/sharpened").write("sharpen_map", 1, StageParams(), {"maps/refined": "of another"}):
        pass
    rows = {row["what"]: row for row in compare_versions.fn(store.url).rows()}
    assert (rows["B-factor, Å²"]["test"], rows["B-factor, Å²"]["octahedral"]) == ("-85", "–")


def test_the_report_of_a_version_compares_it(two):
    report_session.fn(two[1].url, ReportSessionParams(max_exposures=0))
    page = (two[1].location / "report.html").read_bytes().decode()
    assert "refine_map.symmetry" in page
    assert "4.10" in page and "5.60" in page


def test_costs_are_added_up_and_a_version_begins_at_nothing(store):
    for seconds in (3.0, 4.0):
        add_costs(store, [StageReport(stage="estimate_ctf", cpu_seconds=seconds, done=["a", "b"])])
    assert in_words(read_costs(store)) == {"estimate_ctf": (7.0, 4)}
    with pytest.raises(KeyboardInterrupt), spending(store, "maps") as reports:  # a wave works on exposures meanwhile
        reports.append(StageReport(stage="refine_map", cpu_seconds=9.0, done=["x"]))
        add_costs(store, [StageReport(stage="estimate_ctf", cpu_seconds=1.0)])
        raise KeyboardInterrupt
    assert in_words(read_costs(store)) == {"estimate_ctf": (8.0, 4), "refine_map": (9.0, 1)}
    assert read_costs(store.branch("second")) == {}


def in_words(costs):
    return {stage: (cost.cpu_seconds, cost.n_done) for stage, cost in costs.items()}


@pytest.mark.parametrize(
    ("values", "better", "best"),
    [
        ((3.0, 2.0), "lower", 1),
        ((3.0, 2.0), "higher", 0),
        ((3.0, 2.0), None, None),
        ((3.004, 3.001), "lower", None),  # the table shows 3.00 for both
        ((None, 2.0), "lower", None),
        ((4.0, None, 2.0), "lower", 2),
    ],
)
def test_a_version_wins_where_better_is_defined_and_the_difference_is_seen(values, better, best):
    assert FigureRow(stage="s", figure="f", values=values, better=better, decimals=2).best == best


def test_the_table_of_problems_stays_small_and_says_how_many_it_leaves_out():
    lines = [
        Line(exposure=f"movie_{i:05d}", state="failed" if i % 100 == 0 else "skipped", stage="curate_exposures",
             reason="x" * 2000)
        for i in range(10_000)
    ]  # fmt: skip
    rows = ledger_rows(lines)
    assert rows[0]["exposure"] == "movie_09900"
    assert sum(row["outcome"] == "failed" for row in rows) == 20
    assert "9\u202f980 more" in rows[-1]["reason"]
    assert sum(len(str(row)) for row in rows) < 10_000


def test_the_page_of_a_running_session_says_how_far_it_is_and_where_the_report_lies(two):
    store = two[0]
    text = session_markdown(Contents(store, read_ledger(store), web_folder="https://files.example.org/s/"))
    assert "2 of 5 exposures in use" in text
    assert f"{store.url}/report.html" in text
    assert "(https://files.example.org/s/session.zarr/report.html)" in text
    assert "| extract particles | 2 of 5 |" in text
