"""Files that EPU writes: names of exposures, and the XML beside each."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree

from tasks.formats import FormatError
from tasks.formats.sidecar import ANGSTROM_PER_METRE, SidecarPart, frame_shape, iso_time, pair, part, read_number

logger = logging.getLogger(__name__)

_SQUARE_METRE_PER_SQUARE_ANGSTROM = 1e-20
_NAME = re.compile(
    r"^(?P<stem>FoilHole_(?P<hole>\d+)_Data_(?P<area>\d+_\d+)_(?P<date>\d{8})_(?P<time>\d{4}(?:\d\d)?)(?:-\d+)?)"
    r"(?:_fractions|_eer)?(?:\.\w+)?$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class EpuName:
    """``FoilHole_<hole>_Data_<area>_<date>_<time>[_fractions|_EER].<suffix>``, as EPU names an exposure."""

    stem: str
    """Of the XML file."""
    hole: str
    area: str
    """Two numbers: the acquisition area in the template of shots, the same in every hole."""
    acquired_at: str | None
    """ISO 8601, to the second."""

    @classmethod
    def of(cls, name: str) -> EpuName | None:
        """The parts of a file's name, None where EPU gives no such name."""
        found = _NAME.match(name)
        if found is None:
            return None
        try:
            time = datetime.strptime(found["date"] + found["time"].ljust(6, "0"), "%Y%m%d%H%M%S").isoformat()
        except ValueError:
            time = None
        return cls(found["stem"], found["hole"], found["area"], time)


def read_epu(movie: Path, mirror: Path | None) -> SidecarPart | None:
    """What the XML file of a movie says, beside it or in the session's folder ``mirror``; None where there is none.

    EPU writes SI units (m, V, rad, e⁻/m²) and counts underfocus negative.
    """
    path = next((place for place in xml_places(movie, mirror) if place.is_file()), None)
    return None if path is None else _read_xml(path, movie)


def xml_places(movie: Path, mirror: Path | None) -> list[Path]:
    """Where the XML file of a movie may lie, the first place first; none where EPU gives no such name."""
    name = EpuName.of(movie.name)
    if name is None:
        return []
    beside = movie.with_name(f"{name.stem}.xml")
    disc = next((i for i, part in enumerate(beside.parts) if part.lower().startswith("images-disc")), None)
    return [beside] if mirror is None or disc is None else [beside, mirror.joinpath(*beside.parts[disc:])]


def _read_xml(path: Path, movie: Path) -> SidecarPart:
    """An XML file by EPU, whose elements are known by their names without namespaces.

    Source
    ------
    A file written by EPU 3.1; de la Rosa-Trevín & Sharov's MDCatch for what other versions and detectors write.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise FormatError(f"{path}: found no whole XML ({error}), expected EPU's; copy the file again") from error
    if _local(root) != "MicroscopeImage":
        raise FormatError(
            f"{path}: found the root element {_local(root)}, expected EPU's MicroscopeImage; give the movie its own XML"
        )
    custom = _key_values(_child(root, "CustomData"))
    data = _child(root, "microscopeData")
    camera = _child(data, "acquisition", "camera")
    optics = _child(data, "optics")
    position = _child(data, "stage", "Position")

    def number(element: ElementTree.Element | None, *names: str) -> float | None:
        found = _child(element, *names)
        return None if found is None else read_number(path, "/".join(names), found.text)

    def metres(*names: str) -> float | None:
        value = number(root, *names)
        return None if value is None else value * ANGSTROM_PER_METRE

    def own(name: str) -> float | None:
        return read_number(path, name, custom.get(name))

    voltage, dose, defocus = number(data, "gun", "AccelerationVoltage"), own("Dose"), own("AppliedDefocus")
    tilt, exposure_time = number(position, "A"), number(camera, "ExposureTime")
    stage = [number(position, axis) for axis in "ZYX"]
    slit = _child(optics, "EnergyFilter", "EnergySelectionSlitInserted")
    has_slit = slit is not None and slit.text == "true"
    software = " ".join(
        text
        for name in ("ApplicationSoftware", "ApplicationSoftwareVersion")
        if (text := _text(data, "core", name)) is not None
    )
    return part(
        path.name,
        pixel_size_angstrom=_epu_pixel_size(
            path, movie, metres("SpatialScale", "pixelSize", "x", "numericValue"), camera
        ),
        voltage_kv=None if not voltage else voltage / 1000,
        total_dose=None if not dose else dose * _SQUARE_METRE_PER_SQUARE_ANGSTROM,
        exposure_time_s=exposure_time or None,
        n_frames=None if movie.suffix.lower() == ".eer" else _epu_fractions(path, camera),
        acquired_at=iso_time(_text(data, "acquisition", "acquisitionDateTime")),
        nominal_defocus_angstrom=None if defocus is None else -defocus * ANGSTROM_PER_METRE,
        magnification=number(optics, "TemMagnification", "NominalMagnification"),
        stage_position_angstrom=None
        if any(x is None for x in stage)
        else tuple((x or 0.0) * ANGSTROM_PER_METRE for x in stage),
        stage_tilt_deg=None if tilt is None else math.degrees(tilt),
        beam_shift=pair(number(optics, "BeamShift", "_y"), number(optics, "BeamShift", "_x")),
        image_shift=pair(number(optics, "ImageShift", "_y"), number(optics, "ImageShift", "_x")),
        gain_file=next(
            (PureWindowsPath(v).name for k, v in custom.items() if k.endswith(("EerGainReference", ".GainReference"))),
            None,
        ),
        energy_filter_slit_ev=number(optics, "EnergyFilter", "EnergySelectionSlitWidth") if has_slit else None,
        is_phase_plate_used=custom["PhasePlateUsed"] == "true" if "PhasePlateUsed" in custom else None,
        microscope=_text(data, "instrument", "InstrumentModel"),
        detector=custom.get("DetectorCommercialName")
        or next((v for k, v in custom.items() if k.endswith("].CommercialName")), None)
        or _text(camera, "Name"),
        software=software or None,
    )


def _epu_pixel_size(path: Path, movie: Path, stated: float | None, camera: ElementTree.Element | None) -> float | None:
    """Å per pixel of the movie: EPU's is that of the read-out area as the camera bins it."""
    if not stated:
        return None
    area, shape = _child(camera, "ReadoutArea"), frame_shape(movie)
    height, width = (read_number(path, f"ReadoutArea/{name}", _text(area, name)) for name in ("height", "width"))
    if shape is not None and height and width:
        for y, x in ((height, width), (width, height)):  # the camera's software may turn the movie by 90°
            if abs(shape[0] / y - shape[1] / x) < 0.02 * shape[1] / x:
                return stated * x / shape[1]
        logger.warning("%s: frames of %s do not fit the read-out area of %s", movie, shape, (int(height), int(width)))
        return None
    settings = _key_values(_child(camera, "CameraSpecificInput"))
    is_plain = _text(camera, "Binning", "x") in (None, "1") and settings.get("SuperResolutionFactor") in (None, "1")
    return stated if is_plain else None


def _epu_fractions(path: Path, camera: ElementTree.Element | None) -> int | None:
    """Frames of the movie: one number, or a list of fractions on older Falcon cameras."""
    inputs = _child(camera, "CameraSpecificInput")
    for element in () if inputs is None else inputs.iter():
        if _local(element) == "NumberOffractions":
            number = read_number(path, "NumberOffractions", element.text)
            return None if not number else int(number)
        if _local(element) == "DoseFractions" and len(element):
            return len(element)
    return None


def _local(element: ElementTree.Element) -> str:
    return element.tag.rsplit("}", 1)[-1]


def _child(element: ElementTree.Element | None, *names: str) -> ElementTree.Element | None:
    for name in names:
        element = None if element is None else next((child for child in element if _local(child) == name), None)
    return element


def _text(element: ElementTree.Element | None, *names: str) -> str | None:
    found = _child(element, *names)
    return None if found is None else (found.text or "").strip() or None


def _key_values(element: ElementTree.Element | None) -> dict[str, str]:
    """Pairs that EPU writes as ``KeyValueOfstringanyType``."""
    found = {}
    for entry in () if element is None else element:
        key, value = _text(entry, "Key"), _text(entry, "Value")
        if key is not None and value is not None:
            found[key] = value
    return found
