"""EER movies with events at known places, written by an encoder of our own."""

import os
import struct

import numpy as np
import pytest
import tifffile

from tasks.formats import FormatError
from tasks.formats.eer import EerRendering, acquisition_metadata, count_raw_frames, event_shape, open_eer
from tasks.formats.images import open_image
from tasks.import_session import ImportSessionParams, import_session
from tasks.stores.products.exposure_store import exposure

RUN_BITS = {65000: 8, 65001: 7, 65002: 7}


def encode_events(events, shape, compression, is_fixed_width=False):
    """Bit stream of (y, x, sub_y, sub_x) events, at most one a pixel; sub-pixels count quarters of a pixel."""
    run_bits = RUN_BITS[compression]
    longest = 2**run_bits - 1
    codes = []  # (value, number of bits)

    def add_run(run):
        while run >= longest:
            codes.append((longest, run_bits + 4 if is_fixed_width else run_bits))
            run -= longest
        return run

    position = 0
    for y, x, sub_y, sub_x in sorted(events):
        pixel = y * shape[1] + x
        run = add_run(pixel - position)
        symbol = (sub_x ^ 2) | (sub_y ^ 2) << 2
        codes.append((run | symbol << run_bits, run_bits + 4))
        position = pixel + 1
    codes.append((add_run(shape[0] * shape[1] - position), run_bits + 4))
    number, n_bits = 0, 0
    for value, width in codes:
        number |= value << n_bits
        n_bits += width
    return number.to_bytes((n_bits + 7) // 8 + 2, "little")


def write_eer(path, frames, shape, compression=65001, is_fixed_width=False, pixel_size=None, has_sum=False):
    """BigTIFF with one page of events a frame, as a Falcon 4 leaves it; with a sum of 2 × 2 bytes before them."""
    content = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16))
    metadata = b""
    if pixel_size:
        metadata = (
            f'<metadata><item name="sensorPixelSize.width" unit="m">{pixel_size * 1e-10}</item></metadata>'.encode()
        )
    pages = [(shape, compression, encode_events(events, shape, compression, is_fixed_width)) for events in frames]
    if has_sum:
        pages.insert(0, ((2, 2), 1, bytes(4)))
    for i, (size, coding, stream) in enumerate(pages):
        tags = [
            (256, 4, 1, size[1]),
            (257, 4, 1, size[0]),
            (259, 3, 1, coding),
            (262, 3, 1, 1),
            (273, 16, 1, None),
            (278, 4, 1, size[0]),
            (279, 16, 1, len(stream)),
        ]
        if metadata and (i == 0 or not has_sum):
            tags.append((65001, 7, len(metadata), None))
        if has_sum and i:
            tags.append((65002, 7, 8, int.from_bytes(b"<frame/>", "little")))
        directory_bytes = 8 + 20 * len(tags) + 8
        data_at = len(content) + directory_bytes
        metadata_at = data_at + len(stream)
        content += struct.pack("<Q", len(tags))
        for code, kind, count, value in tags:
            value = data_at if code == 273 else metadata_at if code == 65001 else value
            content += struct.pack("<HHQQ", code, kind, count, value)
        end = metadata_at + len(metadata)
        content += struct.pack("<Q", 0 if i == len(pages) - 1 else end)
        content += stream + metadata
    path.write_bytes(content)


def random_events(rng, shape, n_frames, share):
    frames = []
    for _ in range(n_frames):
        pixels = rng.permutation(shape[0] * shape[1])[: int(share * shape[0] * shape[1])]
        frames.append([(p // shape[1], p % shape[1], *rng.integers(0, 4, 2).tolist()) for p in pixels.tolist()])
    return frames


def rendered(frames, shape, scale, group):
    image = np.zeros((len(frames) // group, shape[0] * scale, shape[1] * scale), int)
    for i, events in enumerate(frames[: len(image) * group]):
        for y, x, sub_y, sub_x in events:
            image[i // group, y * scale + sub_y * scale // 4, x * scale + sub_x * scale // 4] += 1
    return image


@pytest.mark.parametrize("compression, is_fixed_width", [(65000, True), (65000, False), (65001, False), (65002, False)])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_every_electron_lands_in_its_pixel_and_quarter(tmp_path, compression, is_fixed_width, scale):
    shape = (22, 54)  # with runs beyond 255 pixels in the sparse frames
    rng = np.random.default_rng(7)
    frames = random_events(rng, shape, 3, 0.002) + random_events(rng, shape, 4, 0.1)
    frames[0] = []  # no electron at all
    frames[1] = [(0, 0, 0, 0), (shape[0] - 1, shape[1] - 1, 3, 3)]
    write_eer(tmp_path / "a.eer", frames, shape, compression, is_fixed_width)
    movie = open_image(tmp_path / "a.eer", EerRendering(scale, frames_per_fraction=2))
    assert movie.format == "eer"
    assert movie.shape == (22 * scale, 54 * scale)
    assert movie.n_frames == 3  # the seventh frame is left over
    assert movie.n_raw_frames == 7
    assert movie.dtype == np.uint8
    np.testing.assert_array_equal(movie.read(), rendered(frames, shape, scale, 2))


def test_fractions_share_out_the_frames_and_leave_the_remainder(tmp_path):
    write_eer(tmp_path / "a.eer", random_events(np.random.default_rng(1), (8, 16), 11, 0.1), (8, 16), pixel_size=0.7)
    assert count_raw_frames(tmp_path / "a.eer") == 11
    movie = open_image(tmp_path / "a.eer", EerRendering(2, n_fractions=3))
    assert (movie.n_frames, movie.n_raw_frames) == (3, 11)
    assert movie.pixel_size_angstrom == pytest.approx(0.35)
    with pytest.raises(FormatError, match="11 detector frames, too few for 12 fractions"):
        open_image(tmp_path / "a.eer", EerRendering(1, n_fractions=12))


def test_a_sum_of_many_detector_frames_does_not_overflow(tmp_path):
    write_eer(tmp_path / "a.eer", [[(0, 0, 0, 0)]] * 300, (4, 4))
    movie = open_image(tmp_path / "a.eer", EerRendering(1, n_fractions=1))
    assert movie.read()[0, 0, 0] == 300


def test_a_truncated_eer_movie_is_found_on_opening_wherever_it_was_cut(tmp_path):
    path = tmp_path / "a.eer"
    write_eer(path, random_events(np.random.default_rng(3), (16, 20), 3, 0.1), (16, 20))
    whole = path.read_bytes()
    for n_bytes in range(0, len(whole), 5):
        path.write_bytes(whole[:n_bytes])
        with pytest.raises(FormatError):
            open_image(path, EerRendering(1, n_fractions=1))


def test_an_eer_movie_without_a_rendering_says_what_is_missing(tmp_path):
    write_eer(tmp_path / "a.eer", [[]], (4, 4))
    with pytest.raises(FormatError, match="eer_fractions"):
        open_image(tmp_path / "a.eer")
    with pytest.raises(ValueError, match="expected 1, 2 or 4"):
        EerRendering(3, n_fractions=1)


def test_an_imported_eer_movie_has_dose_pixel_size_and_gain_of_its_fractions(store, workers, tmp_path):
    shape, rng = (20, 28), np.random.default_rng(5)
    (tmp_path / "movies").mkdir()
    frames = random_events(rng, shape, 11, 0.2)
    write_eer(tmp_path / "movies" / "a.eer", frames, shape)
    write_eer(tmp_path / "movies" / "cut.eer", frames, shape)
    os.truncate(tmp_path / "movies" / "cut.eer", (tmp_path / "movies" / "cut.eer").stat().st_size - 200)
    gain = rng.uniform(0.9, 1.1, shape).astype(np.float32)
    tifffile.imwrite(tmp_path / "detector.gain", gain)
    (tmp_path / "defects.txt").write_text("3 5 2 1\n")
    params = ImportSessionParams(
        pixel_size_angstrom=1.4,
        total_dose=22.0,
        expected_frames=11,
        eer_upsampling=2,
        eer_dose_per_fraction=8.0,
        gain=str(tmp_path / "detector.gain"),
        defects=str(tmp_path / "defects.txt"),
    )
    report = import_session.fn(store.url, str(tmp_path / "movies"), params)
    assert "truncated" in next(iter(report.failed.values()))
    (exposure_id,) = report.done
    about = exposure(store, exposure_id)
    assert about.optics.pixel_size_angstrom == pytest.approx(0.7)
    assert (about.n_frames, about.shape) == (2, (40, 56))  # 4 detector frames of 2 e⁻/Å² each; 3 are left over
    assert about.dose_per_frame == pytest.approx(8.0)
    reader = store.exposure_product(exposure_id, "import_session").read()
    assert reader["frames"].dtype == np.uint8
    np.testing.assert_array_equal(reader["frames"], rendered(frames, shape, 2, 4))
    assert reader.record.figures["eer_frames_left_out"] == 3
    of_session = store.product("session/gain").read()
    np.testing.assert_array_equal(of_session["gain"], gain.repeat(2, 0).repeat(2, 1))
    assert np.argwhere(of_session["is_defect"]).tolist() == [[y, x] for y in (10, 11) for x in (6, 7, 8, 9)]


def test_other_fractions_import_an_eer_movie_again(store, workers, tmp_path):
    write_eer(tmp_path / "a.eer", random_events(np.random.default_rng(1), (8, 16), 12, 0.1), (8, 16))
    for n_fractions in (3, 4):
        params = ImportSessionParams(pixel_size_angstrom=1.0, dose_per_frame=0.5, eer_fractions=n_fractions)
        (exposure_id,) = import_session.fn(store.url, str(tmp_path), params).done
        about = exposure(store, exposure_id)
        assert about.n_frames == n_fractions
        assert about.dose_per_frame == pytest.approx(0.5 * 12 / n_fractions)


def test_a_sum_before_the_events_is_left_out_and_holds_the_metadata(tmp_path):
    """As EerReaderLib reads such a file: the acquisition's metadata (65001) on its first page, the frames' (65002) on
    theirs."""
    path = tmp_path / "a.eer"
    frames = random_events(np.random.default_rng(3), (32, 48), 4, 0.02)
    write_eer(path, frames, (32, 48), pixel_size=0.7, has_sum=True)
    assert acquisition_metadata(path)["sensorPixelSize.width"] == f"{0.7e-10}"
    assert (event_shape(path), count_raw_frames(path)) == ((32, 48), 4)
    movie = open_eer(path, EerRendering(n_fractions=2))
    assert movie.pixel_size_angstrom == pytest.approx(0.7)
    np.testing.assert_array_equal(np.stack([movie.frame(i) for i in range(2)]), rendered(frames, (32, 48), 1, 2))
