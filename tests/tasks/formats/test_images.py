"""MRC, TIFF and PNG files: what is written is read, and what is cut off or foreign is named."""

import struct

import imagecodecs
import mrcfile
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.formats import FormatError
from tasks.formats.gain import fit_gain_to_eer, read_defects, read_gain
from tasks.formats.images import open_image
from tasks.formats.mrc import write_mrc
from tasks.formats.tiff import write_tiff_movie

TYPES = ("int8", "uint8", "int16", "uint16", "float16", "float32")
AGAIN = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
shapes = st.tuples(st.integers(1, 4), st.integers(1, 37), st.integers(1, 41))


def values(shape, dtype, seed):
    rng = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return rng.normal(0, 50, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


@AGAIN
@given(shape=shapes, dtype=st.sampled_from(TYPES), seed=st.integers(0, 99))
def test_an_mrc_stack_comes_back_as_it_was_written(tmp_path, shape, dtype, seed):
    frames = values(shape, dtype, seed)
    write_mrc(tmp_path / "a.mrcs", frames, 0.83, is_stack=True)
    image = open_image(tmp_path / "a.mrcs")
    assert (image.format, image.n_frames, image.shape, image.dtype) == ("mrc", shape[0], shape[1:], np.dtype(dtype))
    assert image.pixel_size_angstrom == pytest.approx(0.83)
    np.testing.assert_array_equal(image.read(), frames)


@AGAIN
@given(
    shape=shapes,
    dtype=st.sampled_from(TYPES),
    compression=st.sampled_from(["none", "lzw", "deflate"]),
    seed=st.integers(0, 99),
)
def test_a_tiff_movie_comes_back_as_it_was_written(tmp_path, shape, dtype, compression, seed):
    frames = values(shape, dtype, seed)
    write_tiff_movie(tmp_path / "a.tif", frames, compression)
    image = open_image(tmp_path / "a.tif")
    assert (image.format, image.n_frames, image.shape, image.dtype) == ("tiff", shape[0], shape[1:], np.dtype(dtype))
    np.testing.assert_array_equal(image.read(), frames)


@AGAIN
@given(shape=shapes, mode=st.sampled_from([0, 1, 2, 6, 12]), order=st.sampled_from("<>"), seed=st.integers(0, 99))
def test_mrc_files_of_both_byte_orders_and_with_long_headers_are_read(tmp_path, shape, mode, order, seed):
    dtype = {0: "int8", 1: "int16", 2: "float32", 6: "uint16", 12: "float16"}[mode]
    frames = values(shape, dtype, seed)
    header = np.zeros((), mrcfile.dtypes.HEADER_DTYPE.newbyteorder(order))
    header["nz"], header["ny"], header["nx"] = shape
    header["mode"], header["nsymbt"] = mode, 80
    content = header.tobytes() + bytes(80) + frames.astype(np.dtype(dtype).newbyteorder(order)).tobytes()
    (tmp_path / "a.mrc").write_bytes(content)
    image = open_image(tmp_path / "a.mrc")
    assert image.pixel_size_angstrom is None
    np.testing.assert_array_equal(image.read(), frames)
    (tmp_path / "a.mrc").write_bytes(content[:-1])
    with pytest.raises(FormatError, match=f"truncated: found {len(content) - 1} bytes, expected {len(content)}"):
        open_image(tmp_path / "a.mrc")


@pytest.mark.parametrize("flags, dtype", [(1, np.int8), (0, np.uint8)])
def test_bytes_are_unsigned_where_the_imod_stamp_says_so(tmp_path, flags, dtype):
    write_mrc(tmp_path / "a.mrc", np.array([[-56, 3]], np.int8), 1.0)
    content = bytearray((tmp_path / "a.mrc").read_bytes())
    content[152:160] = struct.pack("<2i", 1146047817, flags)
    (tmp_path / "a.mrc").write_bytes(content)
    image = open_image(tmp_path / "a.mrc")
    assert image.dtype == dtype
    assert image.frame(0).tolist() == [[200 if dtype is np.uint8 else -56, 3]]


def test_mrcfile_reads_what_is_written_and_knows_stacks_from_volumes(tmp_path):
    array = values((3, 5, 7), "float32", 1)
    write_mrc(tmp_path / "stack.mrcs", array, 1.2, is_stack=True)
    write_mrc(tmp_path / "map.mrc", array, 1.2)
    for name, is_stack in (("stack.mrcs", True), ("map.mrc", False)):
        with mrcfile.open(tmp_path / name) as file:
            assert file.is_image_stack() == is_stack
            assert file.voxel_size.x == pytest.approx(1.2)
            np.testing.assert_array_equal(file.data, array)
        assert mrcfile.validate(tmp_path / name)


def test_mrc_has_no_mode_for_double_precision_and_complex_modes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="float64"):
        write_mrc(tmp_path / "a.mrc", np.zeros((4, 4)), 1.0)
    assert not list(tmp_path.iterdir())
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(np.zeros((4, 4), np.complex64))
    with pytest.raises(FormatError, match="mode 4"):
        open_image(tmp_path / "a.mrc")


@pytest.mark.parametrize("compression", ["none", "lzw", "deflate"])
def test_a_tiff_movie_cut_off_anywhere_is_found_on_opening(tmp_path, compression, caplog):
    path = tmp_path / "a.tif"
    write_tiff_movie(path, values((3, 21, 33), "uint8", 1) % 5, compression)
    whole = path.read_bytes()
    for n_bytes in range(0, len(whole) - 1, 13):  # the last byte may be padding
        path.write_bytes(whole[:n_bytes])
        with pytest.raises(FormatError):
            open_image(path)
    assert not caplog.records  # the reason is told once, by the exception


def test_big_tiffs_of_either_byte_order_are_read(tmp_path):
    frames = values((3, 9, 14), "uint16", 2)
    for order in "<>":
        tifffile.imwrite(tmp_path / "a.tif", frames, bigtiff=True, byteorder=order, photometric="minisblack")
        np.testing.assert_array_equal(open_image(tmp_path / "a.tif").read(), frames)


def test_a_broken_strip_names_its_frame(tmp_path):
    write_tiff_movie(tmp_path / "a.tif", values((2, 16, 16), "uint8", 1), "deflate")
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offset = file.pages[1].dataoffsets[0]
    content[offset : offset + 20] = b"\xff" * 20
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(FormatError, match="frame 1 cannot be decoded"):
        open_image(tmp_path / "a.tif").read()


def test_coloured_uneven_and_double_precision_tiffs_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((8, 9, 3), np.uint8), photometric="rgb")
    with pytest.raises(FormatError, match="3 colours"):
        open_image(path)
    with tifffile.TiffWriter(path) as file:
        file.write(np.zeros((8, 9), np.uint8), metadata=None)
        file.write(np.zeros((9, 8), np.uint8), metadata=None)
    with pytest.raises(FormatError, match=r"page 1 is \(9, 8\)"):
        open_image(path)
    tifffile.imwrite(path, np.zeros((8, 9)))
    with pytest.raises(FormatError, match="float64"):
        open_image(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_png_has_its_first_row_on_top_and_its_truncation_is_found(tmp_path, dtype):
    image = values((13, 29), dtype, 4)
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(image))
    found = open_image(path)
    assert (found.shape, found.n_frames, found.dtype) == ((13, 29), 1, np.dtype(dtype))
    np.testing.assert_array_equal(found.frame(0), image)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match="truncated"):
        open_image(path)
    path.write_bytes(imagecodecs.png_encode(np.zeros((5, 6, 3), np.uint8)))
    with pytest.raises(FormatError, match="colour type 2"):
        open_image(path)


@pytest.mark.parametrize("suffix, name", [(".tif", "TIFF"), (".png", "PNG"), (".eer", "EER"), (".mrc", "MRC")])
def test_a_file_that_is_no_image_is_named_with_what_its_suffix_promised(tmp_path, suffix, name):
    path = tmp_path / f"notes{suffix}"
    path.write_bytes(b"Dear operator, " * 100)
    with pytest.raises(FormatError, match=f"not an? {name} file"):
        open_image(path)


def test_a_wrong_suffix_is_forgiven_where_the_content_is_clear(tmp_path):
    frames = values((2, 5, 6), "uint8", 1)
    write_tiff_movie(tmp_path / "a.mrc", frames)
    np.testing.assert_array_equal(open_image(tmp_path / "a.mrc").read(), frames)


def test_a_gain_multiplies_except_for_eer_where_only_a_gain_file_does(tmp_path):
    response = np.array([[1, 2, 0], [4, np.nan, 3]], np.float32)
    write_mrc(tmp_path / "g.mrc", np.nan_to_num(response, nan=-1), 1.0)
    tifffile.imwrite(tmp_path / "g.gain", response)
    plain = [[1, 2, 0], [4, 0, 3]]
    assert read_gain(tmp_path / "g.mrc").tolist() == plain
    assert read_gain(tmp_path / "g.gain", is_for_eer=True).tolist() == plain
    divided = read_gain(tmp_path / "g.mrc", is_for_eer=True)
    np.testing.assert_allclose(divided, [[2.5, 1.25, 0], [0.625, 0, 2.5 / 3]], rtol=1e-6)  # the mean response over each
    np.testing.assert_array_equal(read_gain(tmp_path / "g.gain", "divide"), divided)
    write_mrc(tmp_path / "g.mrc", np.zeros((2, 3), np.float32), 1.0)
    with pytest.raises(FormatError, match="no positive value"):
        read_gain(tmp_path / "g.mrc")


def test_the_gain_of_eer_frames_is_repeated_or_averaged():
    gain = np.array([[1, 2], [3, 0]], np.float32)
    doubled = fit_gain_to_eer(gain, (4, 4), 2)
    assert doubled.tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 0, 0], [3, 3, 0, 0]]
    np.testing.assert_array_equal(fit_gain_to_eer(doubled, (2, 2), 1), gain)
    np.testing.assert_array_equal(fit_gain_to_eer(gain, (5, 4), 2), gain)


def test_defects_come_from_rectangles_or_a_mask(tmp_path):
    path = tmp_path / "defects.txt"
    path.write_text("3 0 1 5  # a column\n\n0,2,2,1\n")
    expected = np.zeros((5, 7), np.uint8)
    expected[:, 3] = expected[2, :2] = 1
    np.testing.assert_array_equal(read_defects(path, (5, 7)), expected)
    np.testing.assert_array_equal(read_defects(path, (10, 14), 2), expected.repeat(2, 0).repeat(2, 1))
    write_mrc(tmp_path / "mask.mrc", expected.astype(np.float32), 1.0)
    np.testing.assert_array_equal(read_defects(tmp_path / "mask.mrc", (5, 7)), expected)
    np.testing.assert_array_equal(read_defects(tmp_path / "mask.mrc", (10, 14), 2), expected.repeat(2, 0).repeat(2, 1))
    with pytest.raises(FormatError, match="orientation of the frames"):
        read_defects(tmp_path / "mask.mrc", (7, 5))


@pytest.mark.real
def test_real_pngs_are_wider_than_high_and_have_noise(real_data):
    folder = real_data / "micrographs" / "apoferritin_EMPIAR-10146" / "avg"
    paths = sorted(folder.glob("*.png"))
    assert len(paths) == 11
    image = open_image(paths[0])
    assert (image.shape, image.dtype, image.n_frames) == ((1200, 1240), np.uint16, 1)
    pixels = image.frame(0).astype(float)
    # neighbours share the specimen's low frequencies in both directions alike, which a wrong row length destroys
    along_x = np.corrcoef(pixels[:, :-3].ravel(), pixels[:, 3:].ravel())[0, 1]
    along_y = np.corrcoef(pixels[:-3].ravel(), pixels[3:].ravel())[0, 1]
    assert along_y == pytest.approx(along_x, abs=0.05)
    assert along_y > 0.01


@pytest.mark.real
def test_a_real_mrc_agrees_with_mrcfile(real_data):
    for path in (real_data / "micrographs" / "contamination").glob("*.mrc"):
        image = open_image(path)
        with mrcfile.open(path, permissive=True) as file:
            np.testing.assert_array_equal(image.read().squeeze(), file.data.squeeze())
