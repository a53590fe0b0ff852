"""Sidecars in the structure that EPU, SerialEM and Falcon cameras write, with numbers of known meaning."""

import importlib.util
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tasks.formats import FormatError
from tasks.formats.microscope_metadata import hole_position_of, read_metadata
from tasks.formats.mrc import write_mrc
from tasks.formats.tiff import write_tiff_movie
from tasks.records.microscope_metadata import MicroscopeMetadata

EPU_STEM = "FoilHole_5850127_Data_5798426_5798428_20221104_061329"
UNITS = '<unit xmlns:a="http://schemas.datacontract.org/2004/07/Fei.Common.Types"><a:_x>m</a:_x></unit>'


def pairs(values: dict[str, str]) -> str:
    return "".join(
        f'<a:KeyValueOfstringanyType><a:Key>{key}</a:Key><a:Value i:type="b:string">{value}</a:Value>'
        "</a:KeyValueOfstringanyType>"
        for key, value in values.items()
    )


def epu_xml(
    custom: dict[str, str] | None = None, area: tuple[int, int] = (48, 60), pixel_size: str = "1.2E-10",
    fractions: str = "<b:NumberOffractions>7</b:NumberOffractions>", binning: int = 1, super_resolution: int = 1,
    voltage: str = "300000",
) -> str:  # fmt: skip
    """The elements that are read, nested and with namespaces as EPU 3.1 writes them."""
    custom = custom or {"Dose": "5.0E+21", "AppliedDefocus": "-1.4E-06", "PhasePlateUsed": "false"}
    arrays = 'xmlns:a="http://schemas.microsoft.com/2003/10/Serialization/Arrays"'
    return f"""<MicroscopeImage xmlns="http://schemas.datacontract.org/2004/07/Fei.SharedObjects"
 xmlns:i="http://www.w3.org/2001/XMLSchema-instance" xmlns:b="http://example.org/b"><name>Empty</name>
<CustomData {arrays}>{pairs(custom)}</CustomData>
<SpatialScale><pixelSize><x><numericValue>{pixel_size}</numericValue>{UNITS}</x>
<y><numericValue>{pixel_size}</numericValue>{UNITS}</y></pixelSize></SpatialScale>
<microscopeData><acquisition><acquisitionDateTime>2022-11-04T06:13:35.5378031-05:00</acquisitionDateTime>
<camera><Binning xmlns:a="http://example.org/a"><a:x>{binning}</a:x><a:y>{binning}</a:y></Binning>
<CameraSpecificInput {arrays}>{pairs({"SuperResolutionFactor": str(super_resolution)})}
<a:KeyValueOfstringanyType><a:Key>FractionationSettings</a:Key><a:Value>{fractions}</a:Value>
</a:KeyValueOfstringanyType></CameraSpecificInput><ExposureTime>2.5</ExposureTime><Name>EF-CCD</Name>
<ReadoutArea xmlns:a="http://example.org/a"><a:height>{area[0]}</a:height><a:width>{area[1]}</a:width></ReadoutArea>
</camera><plateCamera><ExposureTime>0</ExposureTime></plateCamera></acquisition>
<core><ApplicationSoftware>EPU</ApplicationSoftware><ApplicationSoftwareVersion>3.1</ApplicationSoftwareVersion></core>
<gun><AccelerationVoltage>{voltage}</AccelerationVoltage></gun>
<instrument><InstrumentModel>TITAN1</InstrumentModel></instrument>
<optics><BeamShift xmlns:a="http://example.org/t"><a:_x>0.25</a:_x><a:_y>-0.04</a:_y></BeamShift>
<EnergyFilter><EnergySelectionSlitInserted>true</EnergySelectionSlitInserted>
<EnergySelectionSlitWidth>20</EnergySelectionSlitWidth></EnergyFilter>
<ImageShift xmlns:a="http://example.org/t"><a:_x>0.5</a:_x><a:_y>0.75</a:_y></ImageShift>
<TemMagnification><NominalMagnification>130000</NominalMagnification></TemMagnification></optics>
<stage><Position><A>0.5235987755982988</A><B>0</B><X>-1E-05</X><Y>2E-05</Y><Z>-3E-06</Z></Position></stage>
</microscopeData></MicroscopeImage>"""


def movie(path: Path, shape: tuple[int, int] = (48, 60), n_frames: int = 2) -> Path:
    frames = np.random.default_rng(1).poisson(1.0, (n_frames, *shape)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mrc":
        write_mrc(path, frames, 1.0, is_stack=True)
    else:
        write_tiff_movie(path, frames)
    return path


def test_epu_writes_si_units_and_negative_underfocus(tmp_path):
    path = movie(tmp_path / f"{EPU_STEM}_Fractions.tiff")
    (tmp_path / f"{EPU_STEM}.xml").write_text(epu_xml())
    found = read_metadata(path)
    expected = {
        "pixel_size_angstrom": 1.2, "voltage_kv": 300, "total_dose": 50, "exposure_time_s": 2.5, "n_frames": 7,
        "nominal_defocus_angstrom": 14000, "magnification": 130000, "stage_tilt_deg": 30, "energy_filter_slit_ev": 20,
    }  # fmt: skip
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value), name
    assert found.stage_position_angstrom == pytest.approx((-3e4, 2e5, -1e5))
    assert (found.beam_shift, found.image_shift) == ((-0.04, 0.25), (0.75, 0.5))
    assert found.acquired_at == "2022-11-04T06:13:35.537803-05:00"
    assert found.hole_position == "5798426_5798428"
    assert found.is_phase_plate_used is False
    assert found.sources == (f"{EPU_STEM}.xml",)
    assert (found.microscope, found.detector, found.software) == ("TITAN1", "EF-CCD", "EPU 3.1")


def test_an_xml_file_with_indents_and_nil_elements_says_the_same(tmp_path):
    """As in the example sessions of Diamond's smartem-decisions (EPU 3.9, K3): indented, and nil where unknown."""
    path = movie(tmp_path / f"{EPU_STEM}_Fractions.tiff")
    sidecar = tmp_path / f"{EPU_STEM}.xml"
    sidecar.write_text(epu_xml())
    expected = read_metadata(path)
    root = ElementTree.fromstring(epu_xml())
    for place in (".//{*}microscopeData", ".//{*}optics", ".//{*}instrument"):
        for name in ("Apertures", "AcquisitionSoftware", "StemMagnification"):
            ElementTree.SubElement(root.find(place), name, {"{http://www.w3.org/2001/XMLSchema-instance}nil": "true"})
    ElementTree.indent(root, "    ")
    sidecar.write_bytes(b"\xef\xbb\xbf" + ElementTree.tostring(root, "utf-8", xml_declaration=True))
    assert read_metadata(path) == expected


def test_an_eer_movie_of_epu_names_its_gain_and_counts_its_own_frames(tmp_path):
    """Keys of CustomData that MDCatch reads: ``Detectors[EF-Falcon].…``; fractions are those of EPU's sum."""
    custom = {"Dose": "4.0E+21", "Detectors[EF-Falcon].CommercialName": "Falcon 4i",
              "Detectors[EF-Falcon].EerGainReference": "C:\\References\\20251021_EER_GainReference.gain"}  # fmt: skip
    (tmp_path / f"{EPU_STEM}.xml").write_text(epu_xml(custom))
    found = read_metadata(tmp_path / f"{EPU_STEM}_EER.eer")
    assert (found.gain_file, found.detector) == ("20251021_EER_GainReference.gain", "Falcon 4i")
    assert (found.total_dose, found.n_frames) == (pytest.approx(40), None)


@pytest.mark.parametrize(
    ("shape", "size"), [((48, 60), 1.2), ((96, 120), 0.6), ((192, 240), 0.3), ((120, 96), 0.6), ((96, 96), None)]
)
def test_the_pixel_size_is_that_of_the_movie_s_own_frames(tmp_path, shape, size):
    """The field of view is that of the read-out area: a super-resolution movie has smaller pixels."""
    path = movie(tmp_path / f"{EPU_STEM}_Fractions.tiff", shape)
    (tmp_path / f"{EPU_STEM}.xml").write_text(epu_xml(binning=2, super_resolution=2))
    assert read_metadata(path).pixel_size_angstrom == (None if size is None else pytest.approx(size))


@pytest.mark.parametrize(("binning", "super_resolution", "size"), [(1, 1, 1.2), (2, 1, None), (1, 2, None)])
def test_without_frames_to_look_at_only_an_unbinned_camera_says_its_pixel_size(
    tmp_path, binning, super_resolution, size
):
    (tmp_path / f"{EPU_STEM}.xml").write_text(epu_xml(binning=binning, super_resolution=super_resolution))
    assert read_metadata(tmp_path / f"{EPU_STEM}_Fractions.tiff").pixel_size_angstrom == size


def test_fractions_of_older_falcon_cameras_are_counted(tmp_path):
    path = movie(tmp_path / f"{EPU_STEM}_Fractions.mrc")
    fractions = f"<b:DoseFractions>{'<b:DoseFractionDefinition/>' * 13}</b:DoseFractions>"
    (tmp_path / f"{EPU_STEM}.xml").write_text(epu_xml(fractions=fractions))
    assert read_metadata(path).n_frames == 13


@pytest.mark.parametrize("name", [f"{EPU_STEM}.mrc", f"{EPU_STEM}_fractions.tiff", f"{EPU_STEM}_Fractions.mrc"])
def test_every_name_of_an_exposure_finds_its_xml(tmp_path, name):
    (tmp_path / f"{EPU_STEM}.xml").write_text(epu_xml())
    assert read_metadata(tmp_path / name).voltage_kv == 300


def test_the_xml_may_lie_in_the_session_while_the_movies_are_on_the_camera_s_computer(tmp_path):
    session, camera = tmp_path / "epu" / "20221104_grid", tmp_path / "offload" / "20221104_grid"
    inside = Path("Images-Disc1") / "GridSquare_5798423" / "Data"
    path = movie(camera / inside / f"{EPU_STEM}_Fractions.tiff")
    (session / inside).mkdir(parents=True)
    (session / inside / f"{EPU_STEM}.xml").write_text(epu_xml())
    assert read_metadata(path).voltage_kv is None
    assert read_metadata(path, session).voltage_kv == 300


def test_the_name_alone_says_area_and_time(tmp_path):
    found = read_metadata(tmp_path / f"{EPU_STEM}_EER.eer")
    assert found == MicroscopeMetadata(hole_position="5798426_5798428", acquired_at="2022-11-04T06:13:29")


@pytest.mark.parametrize(
    ("name", "position"),
    [
        (f"{EPU_STEM}_fractions.tiff", "5798426_5798428"),
        ("FoilHole_30971252_Data_30970979_30970980_20181130_1720-32039.mrc", "30970979_30970980"),
        ("grid2_00123_X+1Y-1-3.tif", "X+1Y-1-3"),
        ("grid2_00123_X-1Y+0.tif", "X-1Y+0"),
        ("movie_0001.tiff", None),
        ("GridSquare_5798423.mrc", None),
    ],
)
def test_the_acquisition_area_is_in_the_name(name, position):
    assert hole_position_of(name) == position


@pytest.mark.real
def test_a_real_file_of_epu(real_data, tmp_path):
    """Written by EPU 3.1 for a K3; 64.0 e⁻/Å² follow as well from its 105.7 e⁻ per pixel of 1.285 Å."""
    folder = real_data / "metadata" / "relion_bgal_tutorial"
    name = f"{EPU_STEM}.xml"
    if not (folder / name).exists():
        pytest.skip(f"{name} is not in the real data folder")
    found = read_metadata(folder / f"{EPU_STEM}_Fractions.tiff")
    assert found.total_dose == pytest.approx(105.69898 / 1.285195**2, rel=1e-3)
    assert (found.n_frames, found.voltage_kv, found.nominal_defocus_angstrom) == (70, 300, pytest.approx(14000))
    assert found.pixel_size_angstrom is None  # binned, and the movie is not there to say how much
    (tmp_path / name).write_bytes((folder / name).read_bytes())
    path = tmp_path / f"{EPU_STEM}_fractions.mrc"
    header = bytearray(1024)
    header[:16] = np.array([5760, 4092, 70, 0], "<i4").tobytes()  # as a K3 leaves it, without its pixels
    path.write_bytes(header)
    assert read_metadata(path).pixel_size_angstrom == pytest.approx(0.6426, abs=1e-4)


FRAME_SET = """T = SerialEM: UMass_Krios Camera -> 0:Ceta 1:GIF-K3         08-Oct-21  07:38:24    
Voltage = 300

[FrameSet = 0]
GainReference = SuperRef_s_mmm_00000_-15.0_Oct08_01.59.24.dm4
DefectFile = defects_s_mmm_00000.txt
TiltAngle = 32.984
StagePosition = -142.82 -457.442
StageZ = -13.7196
Magnification = 33000
ExposureDose = 7.65892
PixelSpacing = 1.2827
Defocus = -5.08286
ImageShift = 2.69654 -0.304661
ExposureTime = 1.07856
Binning = 0.5
TargetDefocus = -4.5
SubFramePath = X:\\Johannes\\frames\\shot_00993.tif
NumSubFrames = 12
FrameDosesAndNumber = 0.63824 12
DateTime = 08-Oct-21  07:39:08
MultishotHoleAndPosition = 4 2
FilterSlitAndLoss = 20 0
"""


@pytest.mark.parametrize("sidecar", ["shot_00993.tif.mdoc", "shot_00993.mdoc"])
def test_serialem_writes_micrometres_and_negative_underfocus(tmp_path, sidecar):
    path = movie(tmp_path / "shot_00993.tif")
    (tmp_path / sidecar).write_text(FRAME_SET)
    found = read_metadata(path)
    expected = {
        "pixel_size_angstrom": 1.2827, "voltage_kv": 300, "total_dose": 7.65892, "exposure_time_s": 1.07856,
        "n_frames": 12, "nominal_defocus_angstrom": 45000, "magnification": 33000, "stage_tilt_deg": 32.984,
        "energy_filter_slit_ev": 20,
    }  # fmt: skip
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value), name
    assert found.stage_position_angstrom == pytest.approx((-137196, -4574420, -1428200))
    assert found.image_shift == (-0.304661, 2.69654)
    assert (found.hole_position, found.acquired_at) == ("4_2", "2021-10-08T07:39:08")
    assert (found.gain_file, found.defect_file) == (
        "SuperRef_s_mmm_00000_-15.0_Oct08_01.59.24.dm4", "defects_s_mmm_00000.txt",
    )  # fmt: skip
    assert (found.sources, found.microscope) == ((sidecar,), "UMass_Krios")


def test_the_frames_of_a_whole_tilt_series_are_one_movie(tmp_path):
    """One FrameSet, then a section a tilt with the frames it has and its share of the dose; only the first is a movie.

    Structure of ``frame_set_multiple.mdoc`` among the test data of teamtomo's mdocfile.
    """
    tilts = "".join(
        f"\n[ZValue = {i}]\nTiltAngle = 33\nFrameTSStartEndFrames = {22 * i} {22 * i + 12}\n"
        f"PriorRecordDose = {7.66 * i:.6g}\nExposureDose = 7.66184\n"
        for i in range(3)
    )
    (tmp_path / "shot_00993.mdoc").write_text(
        FRAME_SET.replace("ExposureDose = 7.65892", "ExposureDose = 291.302") + tilts
    )
    found = read_metadata(movie(tmp_path / "shot_00993.tif"))
    assert (found.total_dose, found.n_frames, found.exposure_time_s) == (291.302, 12, 1.07856)


def test_one_mdoc_of_frames_describes_a_session(tmp_path):
    """``Frames.mdoc`` as the cryo-EM facility of UMass describes it: a FrameSet a movie, exponents of three digits.

    The dose rate is that on the camera, behind specimen and filter, and says nothing of the dose on the specimen.
    """
    sections = "".join(
        f"[FrameSet = {i}]\nStagePosition = 24.2868 -41.113\nStageZ = -29.8365\nDoseRate = 4.97858\n"
        f"ExposureDose = {dose}\nPixelSpacing = 0.694291\nImageShift = -2.22045e-016 -7.77156e-016\nExposureTime = 7\n"
        f"Binning = 0.5\nCountsPerElectron = 35.3\nSubFramePath = X:\\Anna\\1015B_g1_000{i}.tif\nNumSubFrames = 35\n"
        f"DateTime = 23-Dec-17  13:20:3{i}\nNavigatorLabel = 84-1\n\n"
        for i, dose in enumerate((34.9645, 0))
    )
    (tmp_path / "Frames.mdoc").write_text("T = SerialEM: Talos   23-Dec-17  13:20:20\nVoltage = 200\n\n" + sections)
    known, unknown = (read_metadata(movie(tmp_path / f"1015B_g1_000{i}.tif")) for i in range(2))
    assert (known.total_dose, known.voltage_kv, known.pixel_size_angstrom) == (34.9645, 200, 0.694291)
    assert known.image_shift == (-7.77156e-16, -2.22045e-16)
    assert (unknown.total_dose, unknown.n_frames, unknown.acquired_at) == (None, 35, "2017-12-23T13:20:31")


def test_one_mdoc_describes_many_movies(tmp_path):
    """As SerialEM saves beside a stack of sums: a section a sum, whose pixels are twice those of the frames."""
    sections = "\n".join(
        f"[ZValue = {i}]\nPixelSpacing = 2\nExposureDose = 0\nFrameDosesAndNumber = 0.4 3 0.5 4\n"
        f"SubFramePath = D:\\frames\\shot_{i:03d}.tif\nImageShift = {i} 0\nDateTime = 2026-Oct-02  10:1{i}:12\n"
        for i in range(3)
    )
    (tmp_path / "sums.mrc.mdoc").write_text(
        "PixelSpacing = 2\nVoltage = 200\nImageSize = 60 48\nImageFile = sums.mrc\n\n"
        "[T = SerialEM: Digitized on EMBL Krios   binning = 1    02-Oct-26  10:11:12  ]\n\n" + sections
    )
    (tmp_path / "sums.mrc").write_bytes(b"a stack of sums")
    for i in range(3):
        found = read_metadata(movie(tmp_path / "frames" / f"shot_{i:03d}.tif", (96, 120)))
        assert (found.image_shift, found.voltage_kv, found.pixel_size_angstrom) == ((0, i), 200, 1.0)
        assert (found.total_dose, found.n_frames) == (pytest.approx(3.2), 7)
        assert (found.acquired_at, found.microscope) == (f"2026-10-02T10:1{i}:12", "EMBL Krios")
    assert read_metadata(movie(tmp_path / "frames" / "other.tif")) == MicroscopeMetadata()


def test_a_growing_mdoc_is_read_anew(tmp_path):
    general = "PixelSpacing = 2\nVoltage = 200\n"
    (tmp_path / "all.mdoc").write_text(general + "[ZValue = 0]\nSubFramePath = a.tif\nTargetDefocus = -1\n")
    first, second = movie(tmp_path / "a.tif"), movie(tmp_path / "b.tif")
    assert read_metadata(first).nominal_defocus_angstrom == 10000
    assert read_metadata(second).voltage_kv is None
    with (tmp_path / "all.mdoc").open("a") as file:
        file.write("[ZValue = 1]\nSubFramePath = b.tif\nTargetDefocus = -2\n")
    assert read_metadata(second).nominal_defocus_angstrom == 20000


def test_a_camera_writes_its_metadata_into_the_eer_movie(tmp_path):
    place = Path(__file__).with_name("test_eer.py")
    specification = importlib.util.spec_from_file_location("eer_encoder", place)
    encoder = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(encoder)
    path = tmp_path / f"{EPU_STEM}_EER.eer"
    encoder.write_eer(path, [[(1, 2, 0, 0)]] * 3, (32, 32), pixel_size=0.7)
    content = path.read_bytes()
    old = content[content.index(b"<metadata>") : content.index(b"</metadata>") + 11]
    items = {"numberOfFrames": "3", "exposureTime": "2.11", "totalDose": "19.6", "sensorPixelSize.width": "0.7e-10",
             "commercialName": "Falcon 4i", "timestamp": "2021-11-12T11:34:12.3+01:00"}  # fmt: skip
    text = "".join(f'<item name="{name}" unit="-">{value}</item>' for name, value in items.items())
    new = f'<?xml version="1.0" encoding="utf - 8"?><metadata>{text}</metadata>'.encode()
    at = len(content)
    entry = -20
    for _ in range(3):  # the same text for every frame, at the end of the file
        entry = content.index(b"\xe9\xfd\x07\x00", entry + 20)
        content = content[: entry + 4] + np.array([len(new), at], "<u8").tobytes() + content[entry + 20 :]
    path.write_bytes(content + new)
    assert old in content
    found = read_metadata(path)
    assert found.pixel_size_angstrom == pytest.approx(0.7)
    assert found.total_dose == pytest.approx(19.6 / 0.49)
    assert (found.n_frames, found.exposure_time_s, found.detector) == (3, 2.11, "Falcon 4i")
    assert found.acquired_at == "2021-11-12T11:34:12.300000+01:00"
    assert found.sources == (path.name,)
    # what EPU says beside it comes first, but not the number of its fractions
    (tmp_path / f"{EPU_STEM}.xml").write_text(epu_xml(area=(32, 32)))
    found = read_metadata(path)
    assert (found.total_dose, found.n_frames, found.detector) == (pytest.approx(50), 3, "EF-CCD")
    assert found.sources == (f"{EPU_STEM}.xml", path.name)


BROKEN = {
    "cut XML": (f"{EPU_STEM}.xml", epu_xml()[:900], "no whole XML"),
    "another XML": (f"{EPU_STEM}.xml", "<EpuSessionXml/>", "EpuSessionXml.*MicroscopeImage"),
    "no number": (f"{EPU_STEM}.xml", epu_xml(voltage="high"), "AccelerationVoltage is 'high'"),
    "infinite": (f"{EPU_STEM}.xml", epu_xml(pixel_size="INF"), "pixelSize.*'INF'"),
    "empty mdoc": ("a.tif.mdoc", "\n\n", "no line of the form"),
    "binary mdoc": ("a.tif.mdoc", "Voltage = 300\n\0\0\0", "binary"),
    "other movies": ("a.tif.mdoc", "[FrameSet = 0]\nSubFramePath = b.tif\n[FrameSet = 1]\nSubFramePath = c.tif\n",
                     r"b\.tif, c\.tif.*a\.tif"),
    "one number of two": ("a.tif.mdoc", "Voltage = 300\n[FrameSet = 0]\nStagePosition = 3\n", "StagePosition is '3'"),
    "no number in it": ("a.tif.mdoc", "[FrameSet = 0]\nPixelSpacing = 1,2\n", "PixelSpacing is '1,2'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_sidecar_is_named_with_what_it_has(tmp_path, case):
    name, text, message = BROKEN[case]
    path = movie(tmp_path / (f"{EPU_STEM}_Fractions.tiff" if name.startswith("Foil") else "a.tif"))
    (tmp_path / name).write_text(text)
    with pytest.raises(FormatError, match=message) as error:
        read_metadata(path)
    assert name in str(error.value)


def test_an_mdoc_of_many_movies_is_parsed_once(tmp_path):
    """Reading it again for each of its movies would cost the square of its length."""
    sections = "".join(f"[ZValue = {i}]\nSubFramePath = s{i}.tif\nImageShift = {i} 1\n" for i in range(2000))
    (tmp_path / "all.mdoc").write_text("Voltage = 300\n" + sections)
    found = [read_metadata(tmp_path / f"s{i}.tif").image_shift for i in range(2000)]
    assert found == [(1, i) for i in range(2000)]
