"""Folders as EPU, SerialEM and plain programs leave them, with everything beside the movies that is none."""

import re
import time
from pathlib import Path

import numpy as np
import pytest

from tasks.formats import FormatError
from tasks.formats.session_layout import find_sessions
from tasks.records.session import Session


def put(root: Path, *names: str, content: bytes = b"") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def mrc_header(n_frames: int) -> bytes:
    return np.array([64, 64, n_frames, 2], "<i4").tobytes().ljust(1024, b"\0")


def movies(session) -> list[str]:
    return [path.relative_to(session.folder).as_posix() for path in session.movies]


SQUARE = "Images-Disc1/GridSquare_5798423"
SHOT = "FoilHole_5850127_Data_5798426_5798428_20221104_061329"
OTHER = "FoilHole_5850128_Data_5798426_5798428_20221104_061412"


def put_epu_session(folder: Path, ending: str = "_Fractions.tiff") -> None:
    put(
        folder, "EpuSession.dm", "Metadata/GridSquare_5798423.dm", "Images-Disc1/GridSquare_5798423/GridSquare_1.mrc",
        "Sample0/Atlas/Atlas_1.mrc", f"{SQUARE}/FoilHoles/FoilHole_5850127_20221104_061300.mrc",
        f"{SQUARE}/Data/{SHOT}.xml", f"{SQUARE}/Data/{SHOT}.jpg", f"{SQUARE}/Data/{OTHER}.xml",
    )  # fmt: skip
    put(folder, f"{SQUARE}/Data/{SHOT}.mrc", f"{SQUARE}/Data/{OTHER}.mrc", content=mrc_header(1))
    if ending:
        put(folder, f"{SQUARE}/Data/{SHOT}{ending}", f"{SQUARE}/Data/{OTHER}{ending}")


@pytest.mark.parametrize("ending", ["_Fractions.tiff", "_fractions.tiff", "_Fractions.mrc", "_EER.eer"])
def test_an_epu_session_has_its_fractions_and_not_its_sums(tmp_path, ending):
    put_epu_session(tmp_path / "20221104_grid", ending)
    put(tmp_path / "20221104_grid", "20221103_090000_EER_GainReference.gain")
    (session,) = find_sessions(tmp_path)
    assert (session.name, session.layout) == ("20221104_grid", "epu")
    assert movies(session) == [f"{SQUARE}/Data/{SHOT}{ending}", f"{SQUARE}/Data/{OTHER}{ending}"]
    assert session.gain == tmp_path / "20221104_grid" / "20221103_090000_EER_GainReference.gain"
    assert session.mirror is None


def test_an_epu_that_gives_movies_no_ending_is_known_by_their_frames(tmp_path):
    put_epu_session(tmp_path / "old", "")
    assert find_sessions(tmp_path) == []
    put(tmp_path / "old", f"{SQUARE}/Data/{SHOT}.mrc", f"{SQUARE}/Data/{OTHER}.mrc", content=mrc_header(24))
    assert len(find_sessions(tmp_path)[0].movies) == 2


def test_a_second_square_and_a_second_disc_join_the_session(tmp_path):
    put_epu_session(tmp_path / "grid")
    first = find_sessions(tmp_path)[0]
    new = [f"Images-Disc1/GridSquare_7/Data/{SHOT[:-1]}0_Fractions.tiff",
           f"Images-Disc2/GridSquare_7/Data/{SHOT[:-1]}1_Fractions.tiff"]  # fmt: skip
    put(tmp_path / "grid", *new)
    (session,) = find_sessions(tmp_path)
    assert (session.name, session.folder) == (first.name, first.folder)
    assert set(movies(session)) == {*movies(first), *new}


def test_movies_on_the_camera_s_computer_find_the_session_with_their_xml(tmp_path):
    put_epu_session(tmp_path / "epu" / "20221104_grid", "")
    put(tmp_path / "offload" / "20221104_grid", f"{SQUARE}/Data/{SHOT}_EER.eer")
    put(tmp_path / "offload" / "another", f"{SQUARE}/Data/{SHOT}_EER.eer")
    session, another = find_sessions(tmp_path)
    assert session.folder == tmp_path / "offload" / "20221104_grid"
    assert session.mirror == tmp_path / "epu" / "20221104_grid"
    assert movies(session) == [f"{SQUARE}/Data/{SHOT}_EER.eer"]
    assert another.mirror is None


def put_serialem_session(folder: Path) -> None:
    put(
        folder, "nav.nav", "frames/shot_001.tif", "frames/shot_002.tif", "frames/CountRef_shot_001.mrc",
        "frames/defects_shot_001.txt", "atlas.mrc", "grid1_overview_2.mrc", "search_01.tif", "squareA.st",
        "frames/focus_003.tif", "lmm_1.mrc",
    )  # fmt: skip
    put(folder, "frames/shot_001.tif.mdoc", "frames/shot_002.tif.mdoc", content=b"Voltage = 300\n[FrameSet = 0]\n")
    put(folder, "sums.mrc")
    put(folder, "sums.mrc.mdoc", "atlas.mrc.mdoc", content=b"Voltage = 300\n[T = SerialEM]\n[ZValue = 0]\n")


def test_a_serialem_session_has_its_frames_gain_and_defects(tmp_path):
    put_serialem_session(tmp_path / "krios_42")
    (session,) = find_sessions(tmp_path)
    assert (session.name, session.layout) == ("krios_42", "serialem")
    assert movies(session) == ["frames/shot_001.tif", "frames/shot_002.tif"]
    assert session.gain == session.folder / "frames" / "CountRef_shot_001.mrc"
    assert session.defects == session.folder / "frames" / "defects_shot_001.txt"


def test_frames_in_mrc_files_with_an_mdoc_each_are_movies(tmp_path):
    put(tmp_path / "s", "a.mrc", "b.mrc")
    put(tmp_path / "s", "a.mrc.mdoc", content=b"[FrameSet = 0]\n")
    put(tmp_path / "s", "b.mrc.mdoc", content=b"PixelSpacing = 2\n[ZValue = 0]\n")
    assert movies(find_sessions(tmp_path)[0]) == ["a.mrc"]


def test_a_newer_gain_does_not_take_the_place_of_the_first(tmp_path):
    put(tmp_path / "s", "a.tif", "SuperRef_a.mrc")
    before = find_sessions(tmp_path)[0].gain
    put(tmp_path / "s", "SuperRef_b.mrc")
    assert find_sessions(tmp_path)[0].gain == before == tmp_path / "s" / "SuperRef_a.mrc"


@pytest.mark.parametrize(
    "name",
    ["gain.mrc", "gain_k3.tif", "K3_gain.mrc", "GainRef_1.mrc", "gain_reference.mrc", "x.gain", "CountRef_1.tif"],
)
def test_gain_references_are_no_movies(tmp_path, name):
    put(tmp_path / "s", "m.tif", name)
    (session,) = find_sessions(tmp_path)
    assert (movies(session), session.gain) == (["m.tif"], tmp_path / "s" / name)


@pytest.mark.parametrize(
    "name",
    [".m.tif", "~m.tif", "m.tif.partial", ".m.tif.Xy3z", "m.png", "m.jpg", "Atlas_1.mrc", "grid_search-02.mrc",
     "session_focus.tif", "defects_1.tif", "defect.txt", "m.dm4", "overview.mrc", "GridSquare_5.mrc", "m.st"],
)  # fmt: skip
def test_other_files_are_no_movies(tmp_path, name):
    put(tmp_path / "s", name)
    assert find_sessions(tmp_path) == []
    put(tmp_path / "s", "m.eer")
    assert movies(find_sessions(tmp_path)[0]) == ["m.eer"]


@pytest.mark.parametrize(
    "name", ["gainoffunction_1.tif", "gain-of-function.v2/m_1.tif", "research_1.tif", "atlastin_2.mrc", "defective.tif"]
)
def test_words_inside_of_words_do_not_count(tmp_path, name):
    put(tmp_path / "s", name)
    assert movies(find_sessions(tmp_path)[0]) == [name]


def test_folders_of_other_images_and_stores_are_left_out(tmp_path):
    put(tmp_path / "s", "m.tif", "Atlas/a.tif", "search/b.tif", ".cache/c.tif", "out.zarr/d.tif", "SearchMaps/e.mrc")
    assert movies(find_sessions(tmp_path)[0]) == ["m.tif"]


def test_a_plain_session_grows_by_folders_and_keeps_its_name(tmp_path):
    put(tmp_path / "grid 2 (α)", "a/deep/er/m1.tif")
    put(tmp_path, "loose.tif", "b/m.mrc", "b/m2.eer", "c/notes.txt")
    before = {session.folder: session.name for session in find_sessions(tmp_path)}
    assert set(before) == {tmp_path, tmp_path / "b", tmp_path / "grid 2 (α)"}
    put(tmp_path / "grid 2 (α)", "m0.tif", "z/m2.tif")
    after = find_sessions(tmp_path)
    assert {session.folder: session.name for session in after} == before
    assert sum(len(session.movies) for session in after) == 6
    assert {session.layout for session in after} == {"plain"}


def test_names_are_unique_and_safe(tmp_path):
    folders = ["a b", "a_b", "a?b", "-x", "y.", "ü", "n" * 140, "n" * 139 + "m"]
    for folder in folders:
        put(tmp_path / folder, "m.tif")
    put_epu_session(tmp_path / "user1" / "grid")
    put_epu_session(tmp_path / "user2" / "grid")
    names = [session.name for session in find_sessions(tmp_path)]
    assert len(set(names)) == len(folders) + 2
    assert "a_b" in names
    for name in names:
        assert Session(name=name, created_at="", software="").name == name
    assert sum(bool(re.fullmatch(r"grid-[0-9a-f]{8}", name)) for name in names) == 2


def test_sessions_may_lie_deeper(tmp_path):
    put(tmp_path, "2026/s1/m.tif", "2026/s2/frames/m.tif", "2025/s1/m.tif")
    assert len(find_sessions(tmp_path)) == 2
    deeper = {s.folder.relative_to(tmp_path).as_posix() for s in find_sessions(tmp_path, depth=2)}
    assert deeper == {"2025/s1", "2026/s1", "2026/s2"}


def test_a_folder_that_links_back_is_read_once(tmp_path):
    put(tmp_path / "s", "m.tif")
    (tmp_path / "s" / "loop").symlink_to(tmp_path / "s")
    assert movies(find_sessions(tmp_path)[0]) == ["m.tif"]


def test_a_root_that_is_no_folder_is_an_error(tmp_path):
    with pytest.raises(FormatError, match="not there"):
        find_sessions(tmp_path / "not there")


def test_ten_thousand_files_are_scanned_in_little_time(tmp_path):
    """0.1 CPU-s where it was measured; the bound is far above, for busy machines."""
    for square in range(10):
        folder = tmp_path / "grid" / "Images-Disc1" / f"GridSquare_{square}" / "Data"
        folder.mkdir(parents=True)
        for i in range(500):
            stem = f"FoilHole_{square}{i:04d}_Data_5798426_5798428_20221104_{i:06d}"
            (folder / f"{stem}.xml").touch()
            (folder / f"{stem}_Fractions.tiff").touch()
    started = time.process_time()
    (session,) = find_sessions(tmp_path)
    assert time.process_time() - started < 5
    assert len(session.movies) == 5000
