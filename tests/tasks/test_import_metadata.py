"""What the microscope's own files say fills what the recipe leaves out, and is remembered with the exposure."""

import os
from pathlib import Path

import numpy as np
import pytest

from tasks.formats.tiff import write_tiff_movie
from tasks.import_session import ImportSessionParams, import_session
from tasks.records.microscope_metadata import MicroscopeMetadata
from tasks.stores.ledger import read_ledger
from tasks.stores.products.exposure_order import exposures_by_time
from tasks.stores.products.exposure_store import exposure

SHAPE = (30, 44)
MDOC = {"PixelSpacing": 0.83, "Voltage": 200, "ExposureDose": 12, "NumSubFrames": 4, "TargetDefocus": -1.5}


def movie(path: Path, seed: int, n_frames: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tiff_movie(path, np.random.default_rng(seed).poisson(3.0, (n_frames, *SHAPE)).astype(np.uint8))
    return path


def sidecar(path: Path, **changes) -> Path:
    """The ``.mdoc`` of a movie as SerialEM writes it; a value of None is left out."""
    values = {key: value for key, value in {**MDOC, **changes}.items() if value is not None}
    text = "T = SerialEM: Acquired on Talos\n\n[FrameSet = 0]\n" + "".join(f"{k} = {v}\n" for k, v in values.items())
    target = path.with_name(path.name + ".mdoc")
    target.write_text(text)
    return target


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "movies").mkdir()
    return tmp_path / "movies"


@pytest.fixture(params=["hand-over", "scan"])
def look(request, store, folder, workers):
    def look(**changes):
        files = [str(path) for path in sorted(folder.rglob("*.tif"))] if request.param == "hand-over" else None
        return import_session.fn(store.url, str(folder), ImportSessionParams(**changes), files)

    return look


def record_of(store, exposure_id):
    return store.exposure_product(exposure_id, "import_session").record()


def test_what_the_recipe_leaves_out_is_what_the_microscope_says(store, look, folder):
    sidecar(movie(folder / "a.tif", 1))
    (found,) = look().done
    about = exposure(store, found)
    assert (about.optics.pixel_size_angstrom, about.optics.voltage_kv) == (0.83, 200)
    assert about.optics.spherical_aberration_mm == 2.7
    assert about.dose_per_frame == 3.0
    metadata = MicroscopeMetadata.model_validate(record_of(store, found).details["metadata"])
    assert (metadata.nominal_defocus_angstrom, metadata.sources) == (15000, ("a.tif.mdoc",))
    assert look().kept == [found]


def test_the_recipe_wins_and_a_contradiction_is_said_once(store, look, folder, caplog):
    for i in range(3):
        sidecar(movie(folder / f"{i}.tif", i))
    report = look(pixel_size_angstrom=0.84, voltage_kv=300, dose_per_frame=3.1)
    about = exposure(store, report.done[0])
    assert (about.optics.pixel_size_angstrom, about.optics.voltage_kv, about.dose_per_frame) == (0.84, 300, 3.1)
    figures = record_of(store, report.done[0]).figures
    assert figures["contradicts_metadata"] == (
        "voltage 300 kV given, 200 stated by 0.tif.mdoc; total dose 12.4 e⁻/Å² given, 12 stated by 0.tif.mdoc"
    )
    (line,) = [r for r in caplog.messages if "than the microscope states" in r]
    assert "3 files are given other values than the microscope states: voltage 300 kV given, 200 stated" in line
    caplog.clear()
    assert look(pixel_size_angstrom=0.84, voltage_kv=300, dose_per_frame=3.1).kept == report.done
    assert "states" not in caplog.text


def test_a_pixel_size_that_nobody_tells_is_asked_for(store, look, folder):
    movie(folder / "a.tif", 1)
    (reason,) = look().failed.values()
    assert "its pixel size is not known" in reason and "set `import_session.pixel_size_angstrom`" in reason
    assert read_ledger(store).counts()["quarantined"] == 1
    assert len(look(pixel_size_angstrom=1.0).done) == 1


def test_a_movie_without_the_frames_that_its_sidecar_states_is_quarantined_until_one_of_them_changes(
    store, look, folder
):
    path = movie(folder / "a.tif", 1, n_frames=3)
    sidecar(path)
    (reason,) = look().failed.values()
    assert reason.startswith(f"{path}: found 3 frames, expected 4 by a.tif.mdoc")
    assert read_ledger(store).counts()["quarantined"] == 1
    assert len(look(expected_frames=3).done) == 1  # the recipe wins
    sidecar(path, NumSubFrames=3)
    assert len(look().available) == 1
    sidecar(path, NumSubFrames=5)
    (reason,) = look().failed.values()
    assert "found 3 frames, expected 5" in reason


def test_a_sidecar_that_comes_later_changes_what_depends_on_it_and_nothing_else(store, look, folder):
    paths = [movie(folder / f"{i}.tif", i) for i in range(3)]
    given = {"pixel_size_angstrom": 1.0, "voltage_kv": 300, "dose_per_frame": 2.0}
    first = look(**given).done
    before = [record_of(store, e) for e in first]
    # everything that it says is given: the record knows it now, and is of the same product
    sidecar(paths[0], PixelSpacing=1.0, Voltage=300, ExposureDose=8)
    assert look(**given).kept == first
    after = [record_of(store, e) for e in first]
    assert (after[0].fingerprint, after[0].attempt) == (before[0].fingerprint, before[0].attempt)
    assert after[0].details["metadata"]["nominal_defocus_angstrom"] == 15000
    assert after[1:] == before[1:]
    # a dose that was not given is new to the exposure
    known = {name: given[name] for name in ("pixel_size_angstrom", "voltage_kv")}
    assert look(**known).done == first
    sidecar(paths[1], ExposureDose=16)
    report = look(**known)
    assert (report.done, sorted(report.kept)) == ([first[1]], [first[0], first[2]])
    assert exposure(store, first[1]).dose_per_frame == 4
    status = (folder / "1.tif.mdoc").stat()
    sidecar(paths[1], ExposureDose=20)
    os.utime(folder / "1.tif.mdoc", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert look(**known).done == [first[1]]


def test_an_mdoc_of_many_movies_that_grows_is_read_for_the_movies_that_it_did_not_name(store, look, folder):
    def write_mdoc(*names: str) -> None:
        sections = [f"[FrameSet = {i}]\nSubFramePath = X:\\{n}\nPixelSpacing = 1.0\n" for i, n in enumerate(names)]
        (folder / "session.mdoc").write_text("T = SerialEM\n\n" + "\n".join(sections))

    movie(folder / "a.tif", 1)
    movie(folder / "b.tif", 2)
    write_mdoc("a.tif")
    report = look()
    assert (len(report.done), len(report.failed)) == (1, 1)
    before = record_of(store, report.done[0])
    write_mdoc("a.tif", "b.tif")
    report = look()
    assert (len(report.done), len(report.kept)) == (1, 1)
    assert record_of(store, report.kept[0]) == before


def test_a_sidecar_that_cannot_be_read_stops_a_movie_only_where_it_is_needed(store, look, folder):
    path = movie(folder / "a.tif", 1)
    (folder / "a.tif.mdoc").write_bytes(b"\0\0")
    (reason,) = look().failed.values()
    assert "a.tif.mdoc: found binary content" in reason
    (done,) = look(pixel_size_angstrom=1.0).done
    assert "binary content" in record_of(store, done).details["metadata_complaint"]
    sidecar(path, PixelSpacing=1.0)
    assert look(pixel_size_angstrom=1.0).available == [done]
    assert record_of(store, done).details["metadata_complaint"] == ""


def test_movies_in_a_tree_of_their_own_have_their_xml_in_the_folder_of_the_session(store, workers, tmp_path):
    name = "FoilHole_1_Data_2_3_20221104_061329"
    place = Path("Images-Disc1") / "GridSquare_1" / "Data"
    path = movie(tmp_path / "camera" / place / f"{name}_Fractions.tif", 1)
    xml = tmp_path / "epu" / place / f"{name}.xml"
    xml.parent.mkdir(parents=True)
    xml.write_text(
        "<MicroscopeImage><microscopeData><gun><AccelerationVoltage>200000</AccelerationVoltage></gun>"
        "</microscopeData></MicroscopeImage>"
    )
    params = ImportSessionParams(pixel_size_angstrom=1.0, metadata_folder=str(tmp_path / "epu"))
    (done,) = import_session.fn(store.url, str(tmp_path / "camera"), params, [str(path)]).done
    assert exposure(store, done).optics.voltage_kv == 200
    assert import_session.fn(store.url, str(tmp_path / "camera"), params).kept == [done]


def test_exposures_are_listed_in_the_order_in_which_they_were_taken(store, look, folder):
    times = {"c": "05-Nov-22  06:00:00", "a": "05-Nov-22  07:00:00", "b": "04-Nov-22  23:59:59"}
    for i, (name, time) in enumerate(times.items()):
        sidecar(movie(folder / f"{name}.tif", i), DateTime=time)
    no_sidecar = movie(folder / "d.tif", 3)
    os.utime(no_sidecar, (1e9, 1e9))
    (folder / "bad.tif").write_text("no image")
    report = look(pixel_size_angstrom=0.83)
    assert len(report.done) == 4
    assert [exposure_id[0] for exposure_id in exposures_by_time(store)] == ["d", "b", "c", "a"]
    store.index("import_session").clear()
    assert [exposure_id[0] for exposure_id in exposures_by_time(store)] == ["d", "b", "c", "a"]
