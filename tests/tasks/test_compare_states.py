"""Two states in stores of their own, or of one, are compared: what was moved is told; what cannot be compared, too."""

import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from kernels.models.atomic_model import AtomicModel
from kernels.models.mates import Mates
from kernels.models.residue_places import representatives
from kernels.rotations import symmetry_group
from tasks.compare_states import CompareStatesParams, compare_states
from tasks.export_session import ExportSessionParams, export_session
from tasks.formats.structure import read_structure
from tasks.records.session import StageParams
from tasks.report_session import ReportSessionParams, report_session
from tasks.states.files import export_comparison
from tasks.states.tables import summary_words, tables_of
from tasks.stores.products.comparison_store import laid_model, read_comparison
from tasks.stores.products.model_store import write_model
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError
from tests.truth.cage_model import cage_subunit
from tests.truth.filled_session import fill_session
from tests.truth.states import laid_elsewhere, turned

MODEL = cage_subunit()
ANGLE = 25.0


def put(store: SessionStore, name: str, model: AtomicModel, version: int = 1) -> None:
    with store.product(f"models/{name}").write("import_model", version, StageParams(), {}) as attempt:
        write_model(attempt, model, name)


def bent() -> tuple[AtomicModel, torch.Tensor, torch.Tensor]:
    """The subunit with its farther half turned, the axis, and which residues moved."""
    places = representatives(MODEL)
    long = torch.linalg.svd(places - places.mean(0), full_matrices=False).Vh[0]
    moves = (places - places.mean(0)) @ long > 0
    axis = torch.linalg.cross(long, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    return laid_elsewhere(turned(MODEL, moves, axis, places.mean(0), ANGLE, 0.0), 0.1), axis / axis.norm(), moves


@pytest.fixture
def other(tmp_path) -> SessionStore:
    store = SessionStore.create(str(tmp_path / "open.zarr"), "open")
    put(store, "chosen", bent()[0])
    return store


@pytest.fixture
def closed(store, workers) -> SessionStore:
    put(store, "chosen", MODEL)
    return store


def test_a_turn_between_two_sessions_is_told_with_its_axis_and_kept(closed, other, tmp_path):
    _, axis, moves = bent()
    params = CompareStatesParams(other_session=other.url, distances=("A/1:A/100",))
    report = compare_states.fn(closed.url, params)
    assert report.done == ["chosen as open"], (report.failed, report.skipped)
    found = read_comparison(closed, "open")
    assert (found.first, found.second, found.n_same, found.n_mutated) == ("test/chosen", "open/chosen", 156, 0)
    assert len(found.domains) == 2 and sum(d.n_residues for d in found.domains) + found.n_flexible == 156
    (motion,) = found.motions
    assert motion.angle_deg == pytest.approx(ANGLE, abs=0.5)
    told = torch.tensor(motion.axis, dtype=torch.float64)
    assert math.degrees(math.acos(min(1, abs(float(told @ axis))))) < 2
    assert motion.closure_percent > 90
    number = {bool(moves[k]): found.residues[k].domain for k in (0, 155)}
    if len(number) == 2:
        agree = sum(row.domain == number[bool(m)] for row, m in zip(found.residues, moves.tolist()))
        assert agree >= 148
    still = [row.displacement_angstrom for row in found.residues if row.domain == 1]
    assert max(still) <= found.tolerance_angstrom
    (distance,) = found.distances
    places = [representatives(m) for m in (MODEL, bent()[0])]
    assert distance.traces_angstrom == pytest.approx([float((p[0] - p[99]).norm()) for p in places], abs=0.02)
    assert distance.nearest_angstrom[0] <= distance.traces_angstrom[0]
    first = [k for k, row in enumerate(found.residues) if row.domain == 1]
    off = representatives(laid_model(closed, "open"))[first] - representatives(MODEL)[first]
    assert float(off.norm(dim=1).max()) <= found.tolerance_angstrom
    tables = {table.columns[0]: table.rows for table in tables_of(found)}
    assert "156 in both" in summary_words(found) and len(tables["domain"]) >= 2
    assert tables["domains"][0][1] == f"{motion.angle_deg:.1f}°" and len(tables["from"]) == 1
    assert all(row[0] != "same" for row in tables.get("pocket", []))
    files = export_comparison(closed, "open", tmp_path / "out")
    assert [path.name for path in files] == ["open.csv", "open.json", "open.cif"]
    assert len(files[0].read_text().splitlines()) == 157
    html = Path(report_session.fn(closed.url, ReportSessionParams())).read_text()
    assert '<section id="states">' in html and summary_words(found) in html and "2 against 1" in html
    assert compare_states.fn(closed.url, params).kept == report.done
    put(other, "chosen", MODEL.at(bent()[0].coordinates_angstrom + 1.0), version=2)
    assert compare_states.fn(closed.url, params).done == report.done


def test_comparisons_are_exported_with_the_maps_and_models(closed, other, tmp_path):
    fill_session(closed, n_exposures=2)
    assert compare_states.fn(closed.url, CompareStatesParams(other_session=other.url, has_pockets=False)).done
    params = ExportSessionParams(has_micrographs=False, has_previews=False, has_particles=False)
    files = export_session.fn(closed.url, str(tmp_path / "out"), params)
    assert {Path(f).name for f in files if "/states/" in f} == {"open.csv", "open.json", "open.cif"}
    laid = read_structure(tmp_path / "out" / "states" / "open.cif")
    torch.testing.assert_close(
        laid.coordinates_angstrom, laid_model(closed, "open").coordinates_angstrom, atol=2e-3, rtol=0
    )


def test_a_session_without_other_states_has_no_section_of_them(closed):
    html = Path(report_session.fn(closed.url, ReportSessionParams())).read_text()
    assert '<section id="model">' in html and '"states"' not in html


def test_two_models_of_one_session_are_compared(closed):
    put(closed, "open", bent()[0])
    params = CompareStatesParams(other_model="open", has_pockets=False)
    assert compare_states.fn(closed.url, params).done == ["chosen and open as open"]
    assert closed.product("comparisons/open").record().inputs.keys() == {"models/chosen", "models/open"}
    assert read_comparison(closed, "open").pockets == ()


def test_copies_tell_how_subunits_turn_about_the_axis_of_the_map(store, workers):
    """Two subunits about an axis that both turn in themselves: what one of them alone cannot show."""
    mates = Mates(symmetry_group("C2"), torch.zeros(3, dtype=torch.float64))
    small = cage_subunit(60)
    near = small.at(small.coordinates_angstrom - small.coordinates_angstrom.mean(0) + torch.tensor([0.0, 0.0, 18.0]))
    up = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    every = torch.ones(60, dtype=torch.bool)
    own = turned(near, every, up, representatives(near).mean(0), 20.0, 0.0)
    for name, model in (("chosen", near), ("turned", own)):
        with store.product(f"models/{name}").write("import_model", 1, StageParams(), {}) as attempt:
            write_model(attempt, model, name, mates)
    params = CompareStatesParams(other_model="turned", has_pockets=False, name="unit")
    assert compare_states.fn(store.url, params).done
    assert len(read_comparison(store, "unit").domains) == 1
    assert compare_states.fn(store.url, params.model_copy(update={"name": "all", "has_copies": True})).done
    found = read_comparison(store, "all")
    assert found.n_same == 120 and [d.ranges for d in found.domains] == [("A/1-60",), ("B/1-60",)]
    (motion,) = found.motions
    # both turn by 20 degrees the same way about parallel axes: against each other they only shift
    assert motion.angle_deg < 0.5
    apart = 2 * float(representatives(near).mean(0)[1:].norm())
    assert motion.displacement_angstrom == pytest.approx(apart * 2 * math.sin(math.radians(10)), abs=0.1)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (MODEL, "are the same model"),
        (MODEL.take_residues(torch.arange(156) < 12), "share 12 of 156 and 12 residues"),
    ],
)
def test_what_cannot_be_compared_is_told(closed, model, words):
    put(closed, "other", model)
    (reason,) = compare_states.fn(closed.url, CompareStatesParams(other_model="other")).failed.values()
    assert words in reason


def test_residues_and_models_that_are_not_there_are_told(closed, other):
    params = CompareStatesParams(other_session=other.url, distances=("A/1:B/7",))
    (reason,) = compare_states.fn(closed.url, params).failed.values()
    assert "no residue B/7" in reason and "chains A" in reason
    with pytest.raises(StoreError, match="model 'refined' of"):
        compare_states.fn(closed.url, CompareStatesParams(other_session=other.url, other_model="refined"))
    (reason,) = compare_states.fn(
        closed.url, CompareStatesParams(other_session=other.url, model="refined", other_model="chosen")
    ).skipped.values()
    assert "models/refined" in reason


def test_parameters_that_compare_nothing_are_refused():
    with pytest.raises(ValidationError, match="compared with itself"):
        CompareStatesParams()
    with pytest.raises(ValidationError, match="expected two residues by chain and number"):
        CompareStatesParams(other_model="open", distances=("A10:B20",))
    with pytest.raises(ValidationError, match="probe_angstrom"):
        CompareStatesParams(other_model="open", probe_angstrom=2.5, large_probe_angstrom=2.2)
