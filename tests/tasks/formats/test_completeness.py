"""Whole and cut containers: every format, cut at many places, and writers stopped between two pages."""

import importlib.util
import struct
import time
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tasks.formats import FormatError
from tasks.formats.completeness import inspect
from tasks.formats.images import SUFFIXES
from tasks.formats.mrc import write_mrc
from tasks.formats.tiff import write_tiff_movie

RANDOM = np.random.default_rng(3)
FRAMES = RANDOM.poisson(1.0, (5, 48, 40)).astype(np.uint8)


def write_falcon_movie(path: Path, n_frames: int, metadata: str = "") -> None:
    """An EER file by the encoder of the reader's own tests, with one more item of metadata in every frame."""
    place = Path(__file__).with_name("test_eer.py")
    specification = importlib.util.spec_from_file_location("eer_encoder", place)
    encoder = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(encoder)
    frames = [[(int(y), int(y), 1, 2) for y in RANDOM.choice(32, 6, replace=False)] for _ in range(n_frames)]
    encoder.write_eer(path, frames, (32, 32), pixel_size=0.7)
    if metadata:
        content = path.read_bytes()
        old = content[content.index(b"<metadata>") : content.index(b"</metadata>") + 11]
        new = f"<metadata>{metadata}</metadata>".encode().ljust(len(old))
        assert len(new) == len(old)
        path.write_bytes(content.replace(old, new))


def write_motorola_movie(path: Path) -> None:
    with tifffile.TiffWriter(path, byteorder=">") as file:
        for frame in FRAMES:
            file.write(frame, photometric="minisblack", metadata=None, contiguous=False, rowsperstrip=5)


WRITERS = {
    "lzw.tiff": lambda path: write_tiff_movie(path, FRAMES),
    "plain.tif": lambda path: write_tiff_movie(path, FRAMES, compression="none", rows_per_strip=48),
    "big.tif": lambda path: tifffile.imwrite(path, FRAMES, bigtiff=True, photometric="minisblack", metadata=None),
    "tiled.tif": lambda path: tifffile.imwrite(path, FRAMES, tile=(16, 16), photometric="minisblack", metadata=None),
    "motorola.tif": lambda path: write_motorola_movie(path),
    "movie.mrc": lambda path: write_mrc(path, FRAMES, 0.8, is_stack=True),
    "half.mrcs": lambda path: write_mrc(path, FRAMES.astype(np.float16), 0.8, is_stack=True),
    "movie.eer": lambda path: write_falcon_movie(path, 5),
    "sum.png": lambda path: Image.fromarray(FRAMES[0]).save(path),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("containers")
    for name, write in WRITERS.items():
        write(folder / name)
    return {name: folder / name for name in WRITERS}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_as_its_writer_left_it_is_whole(files, name):
    found = inspect(files[name])
    assert (found.is_whole, found.reason) == (True, "")
    assert found.n_frames == (1 if name == "sum.png" else 5)


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_not_whole(files, name, share):
    content = files[name].read_bytes()
    cut = files[name].with_name(f"cut_{name}")
    cut.write_bytes(content[: int(share * len(content))])
    found = inspect(cut)
    assert not found.is_whole
    assert found.n_frames is None
    assert cut.name in found.reason


@pytest.mark.parametrize("name", ["lzw.tiff", "movie.mrc", "movie.eer", "sum.png"])
def test_the_last_bytes_count(files, name):
    content = files[name].read_bytes()
    cut = files[name].with_name(f"last_{name}")
    for missing in range(1, 40):
        cut.write_bytes(content[:-missing])
        assert not inspect(cut).is_whole, missing


def test_a_page_wise_writer_leaves_a_whole_file_after_each_page_and_at_no_other_time(tmp_path):
    """What a microscope's writer leaves between two pages: only the number of frames tells it from the end."""
    path, page_ends = tmp_path / "growing.tif", []
    with tifffile.TiffWriter(path) as file:
        for i, frame in enumerate(FRAMES):
            file.write(frame, photometric="minisblack", metadata=None, contiguous=False)
            file._fh.flush()
            found = inspect(path)
            assert (found.is_whole, found.n_frames) == (True, i + 1)
            page_ends.append(path.stat().st_size)
    content = path.read_bytes()
    snapshots = tmp_path / "snapshot.tif"
    for end in [*page_ends[:-1], *(e - 7 for e in page_ends), *(e + 9 for e in page_ends[:-1])]:
        snapshots.write_bytes(content[:end])  # the file at its end, cut: the pointer to the next page is there
        assert not inspect(snapshots).is_whole


@pytest.mark.parametrize(
    ("mode", "bytes_of_frame"),
    [(0, 48 * 41), (1, 2 * 48 * 41), (2, 4 * 48 * 41), (3, 4 * 48 * 41), (4, 8 * 48 * 41), (6, 2 * 48 * 41),
     (12, 2 * 48 * 41), (101, 48 * 21)],
)  # fmt: skip
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_size_of_an_mrc_file_is_known_in_every_mode(tmp_path, mode, bytes_of_frame, order):
    """An odd row of the packed mode ends on a whole byte; an extended header counts."""
    header = bytearray(1024)
    struct.pack_into(f"{order}4i", header, 0, 41, 48, 3, mode)
    struct.pack_into(f"{order}i", header, 92, 160)
    path = tmp_path / "movie.mrc"
    path.write_bytes(header + bytes(160 + 3 * bytes_of_frame))
    assert (inspect(path).is_whole, inspect(path).n_frames) == (True, 3)
    path.write_bytes(header + bytes(160 + 3 * bytes_of_frame - 1))
    assert "truncated" in inspect(path).reason
    path.write_bytes(header + bytes(160 + 3 * bytes_of_frame + 1))
    assert "too long" in inspect(path).reason


def test_the_size_agrees_with_the_mrcfile_library(tmp_path):
    path = tmp_path / "map.mrc"
    with mrcfile.new(path) as file:
        file.set_data(RANDOM.normal(size=(4, 6, 7)).astype(np.float32))
        file.set_extended_header(np.zeros(40, "V4"))
    assert inspect(path).is_whole


@pytest.mark.parametrize("content", [b"", b"II", b"II*\0\0\0\0\0", bytes(5000), b"\x89PNG" + bytes(40)])
@pytest.mark.parametrize("name", ["a.tif", "a.eer", "a.mrc", "a.png"])
def test_what_is_no_image_is_not_whole_and_says_so(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    found = inspect(path)
    assert not found.is_whole
    assert found.reason.startswith(str(path))


def test_strips_that_are_announced_and_not_written_are_missed(tmp_path, files):
    content = bytearray(files["plain.tif"].read_bytes())
    at = content.index(struct.pack("<HHII", 279, 4, 1, 48 * 40))
    struct.pack_into("<I", content, at + 8, 0)
    path = tmp_path / "reserved.tif"
    path.write_bytes(content)
    assert "not written yet" in inspect(path).reason


def test_an_eer_file_without_events_is_not_a_movie(tmp_path):
    write_tiff_movie(tmp_path / "sum.tif", FRAMES[:1])
    (tmp_path / "sum.tif").rename(tmp_path / "sum.eer")
    assert "no page with electron events" in inspect(tmp_path / "sum.eer").reason


def test_an_eer_file_with_fewer_frames_than_its_metadata_promise_is_not_whole(tmp_path):
    """Its writer adds frame after frame, and every one of them names the number of the end."""
    path = tmp_path / "movie.eer"
    write_falcon_movie(path, 3, '<item name="numberOfFrames">4</item>')
    assert "found 3 frames of the detector, its metadata say 4" in inspect(path).reason
    write_falcon_movie(path, 4, '<item name="numberOfFrames">4</item>')
    assert inspect(path).n_frames == 4


def test_an_unknown_suffix_is_an_error_by_name(tmp_path):
    path = tmp_path / "movie.dm4"
    path.write_bytes(b"\0" * 100)
    with pytest.raises(FormatError, match=r"movie\.dm4.*'\.dm4'.*expected"):
        inspect(path)


def test_every_suffix_that_is_imported_can_be_inspected(tmp_path):
    for suffix in SUFFIXES:
        path = tmp_path / f"a{suffix}"
        path.write_bytes(b"")
        assert not inspect(path).is_whole


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        inspect(tmp_path / "gone.tif")


def test_a_long_movie_costs_little(tmp_path):
    write_falcon_movie(tmp_path / "long.eer", 1000)
    started = time.process_time()
    assert inspect(tmp_path / "long.eer").n_frames == 1000
    assert time.process_time() - started < 2  # some 20 ms; the bound is far above, for busy machines
