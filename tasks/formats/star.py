"""RELION's STAR files: particles and micrographs with optics groups, written for 3.1 and later, read since 3.0.

The only place where Euler angles and RELION's origins are converted. RELION's matrix of rot, tilt and psi takes map
to image coordinates as ours does; its origin is the shift that would centre the image, so that the particle lies at
minus that from element n // 2. Class numbers count from 1 there and from 0 here, images of a stack likewise, and
angles are in degrees. Grey values are not touched here: whoever writes a stack for RELION makes protein white.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
import starfile
import torch
from numpy.typing import NDArray

from kernels.optics import Optics
from kernels.rotations import euler_to_matrix, matrix_to_euler
from tasks.formats import FormatError
from tasks.records.exposure import ExposureCtf
from tasks.records.particles import ParticleSet

logger = logging.getLogger(__name__)

_ROWS_PER_WRITE = 10_000
_DETECTOR_UM_TO_ANGSTROM = 1e4
_OPTICS_KNOWN = {
    "rlnOpticsGroup", "rlnOpticsGroupName", "rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast",
    "rlnImagePixelSize", "rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize", "rlnImageSize",
    "rlnImageDimensionality", "rlnMtfFileName", "rlnCtfDataAreCtfPremultiplied",
}  # fmt: skip


@dataclass(frozen=True)
class OpticsGroup:
    """A row of the optics table."""

    name: str
    optics: Optics
    image_size: int | None = None
    """Box of the particle images in px; None where there are none."""


@dataclass(frozen=True)
class StarParticles:
    """What a particle STAR file says: the set, its optics, and the file of each image."""

    particles: ParticleSet
    """`exposure_ids` are the micrograph names, `stack_index` is the image's place in its stack, from 0."""
    optics_groups: Mapping[int, OpticsGroup]
    stacks: tuple[str, ...]
    """Image files, as named in the STAR file."""
    stack: NDArray[np.int32]
    """(particle,) index into `stacks`."""


@dataclass(frozen=True)
class StarMicrograph:
    """A row of a micrograph STAR file."""

    name: str
    """Path as written."""
    optics_group: int = 1
    ctf: ExposureCtf | None = None
    motion: str | None = None
    """Path of the STAR file with the motion of its movie; written where every micrograph has one."""


@dataclass(frozen=True)
class StarMotion:
    """The motion of one movie as a whole."""

    movie: str
    """Path of the movie."""
    shape: tuple[int, int]
    """(y, x) of its frames."""
    pixel_size_angstrom: float
    voltage_kv: float
    dose_per_frame: float
    pre_exposure: float
    shift_angstrom: NDArray
    """(frame, yx) motion of the specimen; RELION writes what undoes it, in px."""


def write_particles(path: Path, content: StarParticles) -> None:
    """Write a particle STAR file of RELION 3.1, whole or not at all, in blocks of 10,000 rows."""
    particles = content.particles
    missing = sorted(set(np.unique(particles["optics_group"]).tolist()) - set(content.optics_groups))
    if missing:
        raise ValueError(
            f"{path.name}: particles of optics groups {missing}, expected {sorted(content.optics_groups)}; "
            "add these groups to the optics table"
        )
    with _whole_file(path) as file:
        _write_table(file, "optics", _optics_columns(content.optics_groups))
        rows = np.arange(len(particles))
        blocks = np.array_split(rows, max(1, -(-len(rows) // _ROWS_PER_WRITE)))
        for i, block in enumerate(blocks):
            part = StarParticles(particles.select(block), content.optics_groups, content.stacks, content.stack[block])
            _write_table(file, "particles", _particle_columns(part), with_header=i == 0)
        file.write("\n")


def write_micrographs(
    path: Path, micrographs: Sequence[StarMicrograph], optics_groups: Mapping[int, OpticsGroup]
) -> None:
    """Write a micrograph STAR file of RELION 3.1, with the CTF columns where every micrograph has one."""
    columns: dict[str, Sequence[Any]] = {
        "rlnMicrographName": [m.name for m in micrographs],
        "rlnOpticsGroup": [m.optics_group for m in micrographs],
    }
    if micrographs and all(m.motion for m in micrographs):
        columns["rlnMicrographMetadata"] = [str(m.motion) for m in micrographs]
    fits = [m.ctf for m in micrographs if m.ctf is not None]
    if fits and len(fits) == len(micrographs):
        columns |= {
            "rlnDefocusU": [fit.defocus_u_angstrom for fit in fits],
            "rlnDefocusV": [fit.defocus_v_angstrom for fit in fits],
            "rlnCtfAstigmatism": [abs(fit.defocus_u_angstrom - fit.defocus_v_angstrom) for fit in fits],
            "rlnDefocusAngle": [fit.defocus_angle_deg for fit in fits],
            "rlnPhaseShift": [fit.phase_shift_deg for fit in fits],
            "rlnCtfFigureOfMerit": [fit.fit_correlation for fit in fits],
            "rlnCtfMaxResolution": [fit.fit_resolution_angstrom for fit in fits],
        }
    elif fits:
        bare = [m.name for m in micrographs if m.ctf is None]
        raise ValueError(f"{path.name}: {len(bare)} micrographs have no CTF ({bare[0]}…); leave them out or all CTFs")
    with _whole_file(path) as file:
        _write_table(file, "optics", _optics_columns(optics_groups, of_micrographs=True))
        _write_table(file, "micrographs", columns)
        file.write("\n")


def write_motion(path: Path, motion: StarMotion) -> None:
    """Write the motion of a movie as RELION's motion correction does, without its polynomial of local motion."""
    n_frames = len(motion.shift_angstrom)
    general = {
        "rlnImageSizeX": motion.shape[1],
        "rlnImageSizeY": motion.shape[0],
        "rlnImageSizeZ": n_frames,
        "rlnMicrographMovieName": _word(motion.movie),
        "rlnMicrographBinning": 1.0,
        "rlnMicrographOriginalPixelSize": motion.pixel_size_angstrom,
        "rlnMicrographDoseRate": motion.dose_per_frame,
        "rlnMicrographPreExposure": motion.pre_exposure,
        "rlnVoltage": motion.voltage_kv,
        "rlnMicrographStartFrame": 1,
        "rlnMotionModelVersion": 0,
    }
    shift_px = -np.asarray(motion.shift_angstrom, dtype=np.float64) / motion.pixel_size_angstrom
    with _whole_file(path) as file:
        file.write("\n# version 30001\n\ndata_general\n\n")
        file.writelines(f"_{label} {_texts([value])[0]}\n" for label, value in general.items())
        shifts: dict[str, Any] = {
            "rlnMicrographFrameNumber": np.arange(1, n_frames + 1),
            "rlnMicrographShiftX": shift_px[:, 1],
            "rlnMicrographShiftY": shift_px[:, 0],
        }
        file.write("\n")
        _write_table(file, "global_shift", shifts)
        file.write("\n")


def read_motion(path: Path) -> StarMotion:
    """Read the motion of a movie that RELION's motion correction wrote; its local motion is left out."""
    blocks = _read_blocks(path)
    if "general" not in blocks:
        raise FormatError(f"{path}: found the blocks {', '.join(blocks)}, expected general and global_shift")
    general = _as_table(blocks["general"])
    table = _table_with(blocks, path, "rlnMicrographShiftX")
    about = {
        label: float(_numbers(general, label, path)[0])
        for label in ("rlnImageSizeX", "rlnImageSizeY", "rlnMicrographOriginalPixelSize", "rlnVoltage")
    }
    dose, before = (
        float(_numbers(general, label, path)[0]) if label in general else 0.0
        for label in ("rlnMicrographDoseRate", "rlnMicrographPreExposure")
    )
    pixel_size = about["rlnMicrographOriginalPixelSize"]
    shift_px = np.stack([_numbers(table, f"rlnMicrographShift{axis}", path) for axis in "YX"], axis=-1)
    return StarMotion(
        movie=str(general["rlnMicrographMovieName"].iloc[0]) if "rlnMicrographMovieName" in general else "",
        shape=(int(about["rlnImageSizeY"]), int(about["rlnImageSizeX"])),
        pixel_size_angstrom=pixel_size,
        voltage_kv=about["rlnVoltage"],
        dose_per_frame=dose,
        pre_exposure=before,
        shift_angstrom=-shift_px * pixel_size,
    )


def is_path_for_relion(text: str) -> bool:
    """Whether a path can stand in a STAR file: RELION knows no quotes, so it must have no blanks."""
    return bool(text) and not any(c.isspace() for c in text) and text[0] not in "#'\""


def read_particles(path: Path, default_amplitude_contrast: float | None = None) -> StarParticles:
    """Read a particle STAR file of RELION 3.0 (no optics table, origins in px), 3.1, 4 or 5.

    ``default_amplitude_contrast`` is for files of RELION 3.0 that do not name it.
    """
    blocks = _read_blocks(path)
    table = _table_with(blocks, path, "rlnImageName")
    if "optics" in blocks:
        groups = _read_optics(_as_table(blocks["optics"]), path, ("rlnImagePixelSize",))
        group_of = _integers(table, "rlnOpticsGroup", path) if "rlnOpticsGroup" in table else np.ones(len(table), int)
    else:
        groups, group_of = _optics_of_rows(table, path, default_amplitude_contrast)
    unknown = sorted(set(np.unique(group_of).tolist()) - set(groups))
    if unknown:
        raise FormatError(f"{path}: particles of optics groups {unknown}, but its optics table has {sorted(groups)}")

    numbers, names = _split_image_names(table["rlnImageName"], path)
    stacks, stack = _index_of(names)
    micrographs = [str(name) for name in table["rlnMicrographName"]] if "rlnMicrographName" in table else names
    exposure_ids, exposure = _index_of(micrographs)
    columns: dict[str, NDArray] = {
        "exposure": exposure, "stack_index": numbers - 1, "optics_group": group_of,
    }  # fmt: skip
    pixel_sizes = np.array([groups[int(g)].optics.pixel_size_angstrom for g in group_of])
    columns |= _pose_columns(table, pixel_sizes, path)
    for name, star_name, convert in _READ_COLUMNS:
        if star_name in table:
            columns[name] = convert(_numbers(table, star_name, path))
    if "rlnCoordinateX" in table and "rlnCoordinateY" in table:
        columns["coordinate_px"] = np.stack(
            [_numbers(table, "rlnCoordinateY", path), _numbers(table, "rlnCoordinateX", path)], axis=-1
        )
    return StarParticles(ParticleSet(exposure_ids, columns), groups, stacks, stack.astype(np.int32))


def read_micrographs(path: Path) -> tuple[list[StarMicrograph], dict[int, OpticsGroup]]:
    """Micrographs and optics groups of a STAR file by RELION 3.1 or later (corrected, or with CTF)."""
    blocks = _read_blocks(path)
    table = _table_with(blocks, path, "rlnMicrographName")
    if "optics" not in blocks:
        raise FormatError(f"{path}: no optics table; convert the file with relion_convert_star")
    pixel_size_names = ("rlnMicrographPixelSize", "rlnMicrographOriginalPixelSize")
    groups = _read_optics(_as_table(blocks["optics"]), path, pixel_size_names)
    group_of = _integers(table, "rlnOpticsGroup", path) if "rlnOpticsGroup" in table else np.ones(len(table), int)
    has_ctf = "rlnDefocusU" in table
    micrographs = []
    for i, name in enumerate(table["rlnMicrographName"]):
        fit = None
        if has_ctf:
            row = {label: float(table[label].iloc[i]) for label in _CTF_LABELS if label in table}
            fit = ExposureCtf(
                defocus_u_angstrom=row["rlnDefocusU"],
                defocus_v_angstrom=row["rlnDefocusV"],
                defocus_angle_deg=row["rlnDefocusAngle"],
                phase_shift_deg=row.get("rlnPhaseShift", 0.0),
                fit_correlation=row.get("rlnCtfFigureOfMerit", 0.0),
                fit_resolution_angstrom=row.get("rlnCtfMaxResolution", 0.0),
            )
        motion = str(table["rlnMicrographMetadata"].iloc[i]) if "rlnMicrographMetadata" in table else None
        micrographs.append(StarMicrograph(str(name), int(group_of[i]), fit, motion))
    return micrographs, groups


def read_coordinates(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """(particle, yx) coordinates in px and (particle,) scores, None where the file has no scores."""
    table = _table_with(_read_blocks(path), path, "rlnCoordinateX")
    coordinates = np.stack(
        [_numbers(table, "rlnCoordinateY", path), _numbers(table, "rlnCoordinateX", path)], axis=-1
    ).astype(np.float32)
    if "rlnAutopickFigureOfMerit" not in table:
        return coordinates, None
    return coordinates, _numbers(table, "rlnAutopickFigureOfMerit", path).astype(np.float32)


_CTF_LABELS = (
    "rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift", "rlnCtfFigureOfMerit", "rlnCtfMaxResolution",
)  # fmt: skip

_READ_COLUMNS: tuple[tuple[str, str, Callable[[NDArray], NDArray]], ...] = (
    ("defocus_u_angstrom", "rlnDefocusU", np.asarray),
    ("defocus_v_angstrom", "rlnDefocusV", np.asarray),
    ("defocus_angle_rad", "rlnDefocusAngle", np.deg2rad),
    ("phase_shift_rad", "rlnPhaseShift", np.deg2rad),
    ("pick_score", "rlnAutopickFigureOfMerit", np.asarray),
    ("half_set", "rlnRandomSubset", np.asarray),
    ("class_2d", "rlnClassNumber", lambda number: number - 1),
    ("log_likelihood", "rlnLogLikeliContribution", np.asarray),
)


# --- writing ------------------------------------------------------------------------------------------------------


def _optics_columns(groups: Mapping[int, OpticsGroup], of_micrographs: bool = False) -> dict[str, Sequence[Any]]:
    numbers = sorted(groups)
    optics = [groups[n].optics for n in numbers]
    columns: dict[str, Sequence[Any]] = {
        "rlnOpticsGroupName": [groups[n].name for n in numbers],
        "rlnOpticsGroup": numbers,
        "rlnVoltage": [o.voltage_kv for o in optics],
        "rlnSphericalAberration": [o.spherical_aberration_mm for o in optics],
        "rlnAmplitudeContrast": [o.amplitude_contrast for o in optics],
        "rlnMicrographOriginalPixelSize": [o.pixel_size_angstrom for o in optics],
    }
    pixel_size_name = "rlnMicrographPixelSize" if of_micrographs else "rlnImagePixelSize"
    columns[pixel_size_name] = [o.pixel_size_angstrom for o in optics]
    sizes = [groups[n].image_size for n in numbers]
    if not of_micrographs and all(size is not None for size in sizes):
        columns["rlnImageSize"] = [int(size) for size in sizes if size is not None]
        columns["rlnImageDimensionality"] = [2] * len(numbers)
    return columns


def _particle_columns(content: StarParticles) -> dict[str, Sequence[Any]]:
    particles = content.particles
    columns: dict[str, Any] = {}
    if "coordinate_px" in particles:
        columns["rlnCoordinateX"] = particles["coordinate_px"][:, 1]
        columns["rlnCoordinateY"] = particles["coordinate_px"][:, 0]
    image_numbers = (particles["stack_index"] + 1).tolist()
    columns["rlnImageName"] = [
        f"{number:06d}@{content.stacks[stack]}" for number, stack in zip(image_numbers, content.stack.tolist())
    ]
    columns["rlnMicrographName"] = [particles.exposure_ids[e] for e in particles["exposure"].tolist()]
    columns["rlnOpticsGroup"] = particles["optics_group"]
    for name, star_name, convert in _WRITTEN_COLUMNS:
        if name in particles:
            columns[star_name] = convert(particles[name])
    if "rotation" in particles:
        angles = matrix_to_euler(torch.from_numpy(particles["rotation"].astype(np.float64)))
        for star_name, angle in zip(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), angles):
            columns[star_name] = np.rad2deg(angle.numpy())
    if "shift_angstrom" in particles:
        columns["rlnOriginXAngst"] = -particles["shift_angstrom"][:, 1]
        columns["rlnOriginYAngst"] = -particles["shift_angstrom"][:, 0]
    return columns


_WRITTEN_COLUMNS: tuple[tuple[str, str, Callable[[NDArray], NDArray]], ...] = (
    ("defocus_u_angstrom", "rlnDefocusU", np.asarray),
    ("defocus_v_angstrom", "rlnDefocusV", np.asarray),
    ("defocus_angle_rad", "rlnDefocusAngle", lambda angle: np.rad2deg(angle.astype(np.float64))),
    ("phase_shift_rad", "rlnPhaseShift", lambda angle: np.rad2deg(angle.astype(np.float64))),
    ("pick_score", "rlnAutopickFigureOfMerit", np.asarray),
    ("half_set", "rlnRandomSubset", np.asarray),
    ("class_2d", "rlnClassNumber", lambda number: number + 1),
    ("log_likelihood", "rlnLogLikeliContribution", np.asarray),
)


def _write_table(file: TextIO, name: str, columns: Mapping[str, Sequence[Any]], with_header: bool = True) -> None:
    if with_header:
        file.write(f"\n# version 30001\n\ndata_{name}\n\nloop_\n")
        file.writelines(f"_{label} #{i}\n" for i, label in enumerate(columns, start=1))
    texts = [_texts(values) for values in columns.values()]
    file.writelines(" ".join(row) + "\n" for row in zip(*texts))


def _texts(values: Sequence[Any]) -> list[str]:
    array = np.asarray(values)
    if array.dtype.kind in "iub":
        return [f"{value:12d}" for value in array.tolist()]
    if array.dtype.kind == "f":
        return [f"{value:13.6f}" for value in array.tolist()]
    return [_word(str(value)) for value in values]


def _word(text: str) -> str:
    if not is_path_for_relion(text):
        raise ValueError(f"{text!r} cannot stand in a STAR file for RELION; rename it without blanks or quotes")
    return text


@contextlib.contextmanager
def _whole_file(path: Path) -> Iterator[TextIO]:
    """A text file that appears under its name when the block ended well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


# --- reading ------------------------------------------------------------------------------------------------------


def _read_blocks(path: Path) -> dict[str, Any]:
    try:
        blocks: dict[str, Any] = starfile.read(path, always_dict=True)  # type: ignore[assignment]
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, UnicodeDecodeError, StopIteration) as error:
        raise FormatError(f"{path}: cannot be read as a STAR file ({error}); check that it is whole") from error
    if not blocks:
        raise FormatError(f"{path}: no data block found, expected a STAR file; check the file")
    return blocks


def _as_table(block: Any) -> pd.DataFrame:
    return block if isinstance(block, pd.DataFrame) else pd.DataFrame([block])


def _table_with(blocks: Mapping[str, Any], path: Path, label: str) -> pd.DataFrame:
    for name, block in blocks.items():
        if name != "optics" and label in block:
            return _as_table(block)
    raise FormatError(
        f"{path}: no table with _{label}, found the blocks {', '.join(blocks) or 'none'}; is it the file?"
    )


def _read_optics(table: pd.DataFrame, path: Path, pixel_size_names: tuple[str, ...]) -> dict[int, OpticsGroup]:
    pixel_size_name = next((name for name in pixel_size_names if name in table), pixel_size_names[0])
    labels = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast", pixel_size_name)
    values = [_numbers(table, label, path) for label in labels]
    numbers = _integers(table, "rlnOpticsGroup", path)
    ignored = sorted(set(table.columns) - _OPTICS_KNOWN)
    if ignored:
        logger.warning("%s: the optics columns %s are not used", path, ", ".join(ignored))
    groups = {}
    for i, number in enumerate(numbers.tolist()):
        name = str(table["rlnOpticsGroupName"].iloc[i]) if "rlnOpticsGroupName" in table else f"opticsGroup{number}"
        size = int(table["rlnImageSize"].iloc[i]) if "rlnImageSize" in table else None
        groups[number] = OpticsGroup(name, _optics(path, *(float(v[i]) for v in values)), size)
    return groups


def _optics(path: Path, voltage: float, spherical_aberration: float, contrast: float, pixel_size: float) -> Optics:
    try:
        return Optics(voltage, spherical_aberration, contrast, pixel_size)
    except ValueError as error:
        raise FormatError(f"{path}: {error}") from error


def _optics_of_rows(
    table: pd.DataFrame, path: Path, default_amplitude_contrast: float | None
) -> tuple[dict[int, OpticsGroup], NDArray]:
    """Optics groups of a file without an optics table: one for each different setting among its rows."""
    if "rlnPixelSize" in table:
        pixel_size = _numbers(table, "rlnPixelSize", path)
    else:
        magnification = _numbers(table, "rlnMagnification", path)
        pixel_size = _numbers(table, "rlnDetectorPixelSize", path) * _DETECTOR_UM_TO_ANGSTROM / magnification
    if "rlnAmplitudeContrast" in table:
        contrast = _numbers(table, "rlnAmplitudeContrast", path)
    elif default_amplitude_contrast is not None:
        contrast = np.full(len(table), default_amplitude_contrast)
    else:
        raise FormatError(
            f"{path}: found no _rlnAmplitudeContrast and no optics table; give the amplitude contrast (often 0.1)"
        )
    settings = np.stack(
        [_numbers(table, "rlnVoltage", path), _numbers(table, "rlnSphericalAberration", path), contrast, pixel_size], -1
    )
    different, group_of = np.unique(settings, axis=0, return_inverse=True)
    groups = {
        i: OpticsGroup(f"opticsGroup{i}", _optics(path, *(float(v) for v in row)))
        for i, row in enumerate(different, start=1)
    }
    return groups, group_of.reshape(-1) + 1


def _pose_columns(table: pd.DataFrame, pixel_sizes: NDArray, path: Path) -> dict[str, NDArray]:
    columns = {}
    angle_names = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
    if any(name in table for name in angle_names):
        angles = [_numbers(table, n, path) if n in table else np.zeros(len(table)) for n in angle_names]
        columns["rotation"] = euler_to_matrix(*(torch.from_numpy(np.deg2rad(angle)) for angle in angles)).numpy()
    for x_name, y_name, scale in (
        ("rlnOriginXAngst", "rlnOriginYAngst", np.ones_like(pixel_sizes)),
        ("rlnOriginX", "rlnOriginY", pixel_sizes),
    ):
        if x_name in table and y_name in table:
            origin = np.stack([_numbers(table, y_name, path), _numbers(table, x_name, path)], axis=-1)
            columns["shift_angstrom"] = -origin * scale[:, None]
            break
    return columns


def _numbers(table: pd.DataFrame, label: str, path: Path) -> NDArray[np.float64]:
    if label not in table:
        raise FormatError(f"{path}: no column _{label}, found {', '.join(map(str, table.columns))}")
    try:
        values = np.array(table[label], dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise FormatError(f"{path}: column _{label} holds something that is no number ({error})") from error
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0]) + 1
        raise FormatError(f"{path}: column _{label} is {values[row - 1]} in row {row}, expected a finite number")
    return values


def _integers(table: pd.DataFrame, label: str, path: Path) -> NDArray[np.int64]:
    return np.rint(_numbers(table, label, path)).astype(np.int64)


def _split_image_names(names: Iterable[Any], path: Path) -> tuple[NDArray[np.int64], list[str]]:
    numbers, files = [], []
    for name in names:
        number, at, file = str(name).partition("@")
        if not at:  # a single image in a file of its own
            number, file = "1", number
        if not number.isdigit() or int(number) < 1:
            raise FormatError(f"{path}: image name {name!r}, expected number@stack with numbers from 1")
        numbers.append(int(number))
        files.append(file)
    return np.array(numbers, dtype=np.int64), files


def _index_of(names: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Different names in order of appearance, and the place of each name among them."""
    position: dict[str, int] = {}
    index = np.array([position.setdefault(name, len(position)) for name in names], dtype=np.int64)
    return tuple(position), index
