"""The export: every file whole and readable, protein white for RELION, nothing overwritten unasked."""

import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from PIL import Image

from tasks.export_session import ExportError, ExportSessionParams, export_session, file_name
from tasks.formats.star import read_micrographs, read_motion, read_particles
from tasks.stores.products.particle_store import read_particles as read_set
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError
from tests.truth.filled_session import BOX, OPTICS, fill_session


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    store = SessionStore.create(str(folder / "session.zarr"), "exported")
    filled = fill_session(store, n_exposures=4, shape=(200, 220), n_picks=60)
    files = export_session.fn(store.url, str(folder / "out"), ExportSessionParams())
    return store, filled, folder / "out", files


def test_all_files_are_there_and_no_partial_ones(exported):
    _, filled, folder, files = exported
    found = sorted(str(p) for p in folder.rglob("*") if p.is_file())
    assert found == sorted(files)
    assert all(not Path(f).name.startswith(".") for f in found)
    n = len(filled.good)
    assert len(list((folder / "micrographs").iterdir())) == n
    assert len(list((folder / "previews").iterdir())) == n
    assert len(list((folder / "particles").iterdir())) == n - 1  # one exposure has no particle
    assert {p.name for p in (folder / "maps").iterdir()} == {
        "initial.mrc", "refined.mrc", "refined_half1.mrc", "refined_half2.mrc", "refined_mask.mrc",
        "sharpened.mrc", "sharpened_mask.mrc", "sharpened_locres.mrc",
    }  # fmt: skip


def test_particles_are_white_and_their_rows_fit_the_stacks(exported):
    store, _, folder, _ = exported
    content = read_particles(folder / "particles_refined.star")
    kept = read_set(store.product("particles/refined").read())
    assert len(content.particles) == len(kept)
    columns = {**kept.columns, "coordinate_px": np.round(kept["coordinate_px"])}  # where the windows were cut
    for name, column in columns.items():
        if name != "exposure":
            np.testing.assert_allclose(content.particles[name], column, atol=2e-6, rtol=3e-7, err_msg=name)
    for i in (0, 70, len(kept) - 1):
        exposure_id = kept.exposure_ids[kept["exposure"][i]]
        image = store.exposure_product(exposure_id, "extract_particles").read()["image"][kept["stack_index"][i]]
        stack = mrcfile.read(folder / content.stacks[content.stack[i]])
        np.testing.assert_array_equal(stack[content.particles["stack_index"][i]], -image.astype(np.float32))
    assert content.optics_groups[1].optics == OPTICS
    assert content.optics_groups[1].image_size == BOX


def test_micrographs_and_their_ctf_are_those_of_the_store(exported):
    store, filled, folder, _ = exported
    rows, groups = read_micrographs(folder / "micrographs_ctf.star")
    assert [row.name for row in rows] == [f"micrographs/{file_name(e)}.mrc" for e in filled.good]
    assert groups[1].optics == OPTICS
    for row, exposure_id in zip(rows, filled.good):
        fit = store.exposure_product(exposure_id, "estimate_ctf").record().details["ctf"]
        assert row.ctf is not None
        assert row.ctf.defocus_u_angstrom == pytest.approx(fit["defocus_u_angstrom"], abs=1e-6)
        with mrcfile.open(folder / row.name) as file:
            np.testing.assert_array_equal(
                file.data, store.exposure_product(exposure_id, "correct_motion").read()["micrograph"]
            )
            assert float(file.voxel_size.x) == pytest.approx(OPTICS.pixel_size_angstrom)


def test_motion_of_each_movie_is_beside_its_micrograph(exported):
    store, filled, folder, _ = exported
    rows, _ = read_micrographs(folder / "micrographs.star")
    for row, exposure_id in zip(rows, filled.good):
        motion = read_motion(folder / row.motion)
        expected = store.exposure_product(exposure_id, "correct_motion").read()["global_shift_angstrom"]
        np.testing.assert_allclose(motion.shift_angstrom, expected, atol=3e-6)
        assert motion.shape == (200, 220)


def test_maps_have_their_pixel_size_and_voxels(exported):
    store, _, folder, _ = exported
    with mrcfile.open(folder / "maps" / "refined_half2.mrc") as file:
        assert file.is_volume()
        assert float(file.voxel_size.z) == pytest.approx(OPTICS.pixel_size_angstrom)
        np.testing.assert_array_equal(file.data, store.product("maps/refined").read()["half_2"])


def test_previews_are_small_grey_pictures(exported):
    _, filled, folder, _ = exported
    image = Image.open(folder / "previews" / f"{file_name(filled.good[0])}.png")
    assert image.size == (220, 200)
    assert np.ptp(np.asarray(image)) > 200


def test_a_second_export_is_refused_and_changes_nothing(exported):
    store, _, folder, _ = exported
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(ExportError, match="overwrit"):
        export_session.fn(store.url, str(folder), ExportSessionParams())
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()} == before


def test_overwriting_is_done_when_asked(exported, tmp_path):
    store, *_ = exported
    only = ExportSessionParams(has_previews=False, has_micrographs=False, has_particles=False)
    files = export_session.fn(store.url, str(tmp_path), only)
    Path(files[0]).write_bytes(b"spoilt")
    export_session.fn(store.url, str(tmp_path), only.model_copy(update={"is_overwriting": True}))
    assert mrcfile.read(files[0]).shape == (BOX, BOX, BOX)
    assert {Path(f).suffix for f in files} == {".mrc"}


def test_half_precision_stacks_are_half_as_large(exported, tmp_path):
    store, filled, folder, _ = exported
    export_session.fn(
        store.url,
        str(tmp_path),
        ExportSessionParams(is_half_precision=True, has_previews=False, has_micrographs=False, has_maps=False),
    )
    name = f"particles/{file_name(filled.good[0])}.mrcs"
    with mrcfile.open(tmp_path / name) as half:
        assert half.data.dtype == np.float16
        np.testing.assert_array_equal(half.data, mrcfile.read(folder / name))
    assert (tmp_path / name).stat().st_size < 0.51 * (folder / name).stat().st_size


def test_an_empty_session_has_nothing_to_export(store, tmp_path):
    with pytest.raises(StoreError, match="nothing to export"):
        export_session.fn(store.url, str(tmp_path / "out"), ExportSessionParams())


def test_names_keep_only_what_relion_can_read():
    assert file_name("grid 3 (best)/<a>-0123abcd") == "grid_3_best_a_-0123abcd"


needs_relion = pytest.mark.skipif(shutil.which("relion_reconstruct") is None, reason="RELION is not installed")


@needs_relion
def test_relion_reads_the_particle_table(exported):
    _, _, folder, _ = exported
    content = read_particles(folder / "particles_refined.star")
    command = ["relion_star_printtable", "particles_refined.star", "data_particles", "_rlnImageName", "_rlnAngleTilt"]
    lines = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) == len(content.particles)


@needs_relion
def test_relion_reconstructs_the_map_from_the_export(exported):
    """Angles, origins, CTF, contrast and pixel size together: what RELION makes of them is the map that was imaged."""
    _, filled, folder, _ = exported
    command = [
        "relion_reconstruct", "--i", "particles_refined.star", "--o", "relion.mrc",
        "--ctf", "--sym", "O", "--maxres", "9",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    density = mrcfile.read(folder / "relion.mrc")
    (folder / "relion.mrc").unlink()
    truth = filled.volume.numpy()
    assert np.corrcoef(density.ravel(), truth.ravel())[0, 1] > 0.99


@needs_relion
def test_relion_extracts_the_windows_that_the_coordinates_name(exported):
    """Whole coordinates are indices of the pixel at n // 2, counted from zero."""
    _, _, folder, _ = exported
    command = [
        "relion_preprocess", "--i", "micrographs_ctf.star", "--reextract_data_star", "particles_extracted.star",
        "--part_dir", "Extract/", "--part_star", "Extract/particles.star", "--extract", "--extract_size", "40",
    ]  # fmt: skip
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    content = read_particles(folder / "Extract" / "particles.star")
    assert len(content.particles) == 180
    for i in range(0, 180, 30):
        window = mrcfile.read(folder / content.stacks[content.stack[i]])[content.particles["stack_index"][i]]
        number = content.particles["exposure"][i]
        micrograph = mrcfile.read(folder / content.particles.exposure_ids[number])
        y, x = content.particles["coordinate_px"][i].astype(int)
        expected = micrograph[y - 20 : y + 20, x - 20 : x + 20]
        assert np.corrcoef(window.ravel(), expected.ravel())[0, 1] > 0.9999
    shutil.rmtree(folder / "Extract")
