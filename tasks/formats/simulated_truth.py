"""What is true of a simulated session: written beside it, read by whoever measures, never by a stage.

Folder ``<session folder>_truth``::

    session.json       pixel size, dose, symmetry, and every movie with what is wrong with it
    <movie>.npz        defocus, particles and motion of one movie
    cage.mrc           potential (V) that the particles are projections of, origin at element n // 2
    cage.cif           its atoms, in the frame of the map file (voxel 0 at 0 Å)

Motion is that of the specimen: where a thing is in frame f less where it was in frame 0, in Å, (y, x), positive
towards larger indices. Frame f is taken as at the middle of its exposure. Undoing it means shifting frame f by minus
the motion.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.formats import FormatError
from tasks.formats.mrc import open_mrc

MovieKind = Literal["good", "truncated", "duplicate", "drifting"]


@dataclass(frozen=True)
class MovieTruth:
    """Truth of one movie; positions are in px of the frame, (y, x), pixel (0, 0) centred at 0."""

    name: str
    """File name of the movie, relative to the session's folder."""
    kind: MovieKind
    shape: tuple[int, int]
    pixel_size_angstrom: float
    defocus_u_angstrom: float
    """At the height that particles have on average."""
    defocus_v_angstrom: float
    defocus_angle_rad: float
    coordinate_px: NDArray
    """(particle, 2) in the first frame; some lie outside the frame."""
    rotation: NDArray
    """(particle, 3, 3) map -> image, (z, y, x)."""
    defocus_offset_angstrom: NDArray
    """(particle,) to be added to both defocus values."""
    trajectory_angstrom: NDArray
    """(particle, frame, 2) motion of each particle since frame 0."""
    grid_px: NDArray
    """(grid y, grid x, 2) positions in the first frame at which the motion is tabulated, the corners included."""
    grid_motion_angstrom: NDArray
    """(frame, grid y, grid x, 2) motion since frame 0 there; between, bilinear sampling is good to 0.02 Å."""

    @property
    def n_frames(self) -> int:
        return len(self.grid_motion_angstrom)

    def inside(self, margin_px: float = 0.0) -> NDArray:
        """(particle,) whether the centre is at least ``margin_px`` inside the frame."""
        far = np.asarray(self.shape) - 1 - margin_px
        return np.all((self.coordinate_px >= margin_px) & (self.coordinate_px <= far), axis=1)

    def motion_at(self, position_px: NDArray) -> NDArray:
        """(point, frame, 2) motion in Å of positions (point, 2) of the first frame, bilinear between the grid's."""
        n_y, n_x = self.grid_px.shape[:2]
        place = np.clip(position_px / (np.asarray(self.shape) - 1), 0, 1) * [n_y - 1, n_x - 1]
        low = np.minimum(place.astype(int), [n_y - 2, n_x - 2])
        y, x = (place - low).T
        motion = self.grid_motion_angstrom
        total = np.zeros((len(position_px), self.n_frames, 2))
        for dy, weight_y in ((0, 1 - y), (1, y)):
            for dx, weight_x in ((0, 1 - x), (1, x)):
                corner = motion[:, low[:, 0] + dy, low[:, 1] + dx].swapaxes(0, 1)
                total += (weight_y * weight_x)[:, None, None] * corner
        return total


@dataclass(frozen=True)
class SessionTruth:
    """Truth of a simulated session."""

    folder: Path
    parameters: dict[str, Any]
    """Of `simulate_session`."""
    pixel_size_angstrom: float
    dose_per_frame: float
    symmetry: str
    movies: tuple[MovieTruth, ...]

    def movie(self, name: str) -> MovieTruth:
        """The movie whose file has this name, with or without its folder."""
        for movie in self.movies:
            if name in (movie.name, Path(movie.name).name):
                return movie
        raise KeyError(f"{self.folder}: no movie is called {name!r}; found {', '.join(m.name for m in self.movies)}")

    def density_map(self) -> NDArray:
        """(z, y, x) potential in V at `pixel_size_angstrom`."""
        stack = open_mrc(self.folder / "cage.mrc")
        return np.stack([stack.frame(i) for i in range(stack.n_frames)])


def truth_folder(session_folder: Path | str) -> Path:
    """Where the truth of a session lies: beside its folder."""
    folder = Path(session_folder)
    return folder.with_name(f"{folder.name}_truth")


def write_movie_truth(path: Path, truth: MovieTruth) -> None:
    """Write one ``.npz``, which appears when it is whole."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            values: dict[str, Any] = {f.name: np.asarray(getattr(truth, f.name)) for f in fields(MovieTruth)}
            np.savez(file, **values)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_movie_truth(path: Path) -> MovieTruth:
    with np.load(path) as content:
        values = {f.name: content[f.name] for f in fields(MovieTruth)}
    for name in ("name", "kind"):
        values[name] = str(values[name])
    for name in ("pixel_size_angstrom", "defocus_u_angstrom", "defocus_v_angstrom", "defocus_angle_rad"):
        values[name] = float(values[name])
    values["shape"] = tuple(int(n) for n in values["shape"])
    return MovieTruth(**values)


def read_truth(folder: Path | str) -> SessionTruth:
    """Truth of the session in ``folder``; the folder of the movies and that of the truth are both understood."""
    found = Path(folder)
    if not found.name.endswith("_truth"):
        found = truth_folder(found)
    try:
        content = json.loads((found / "session.json").read_text())
    except FileNotFoundError as error:
        raise FormatError(f"{found}: holds no session.json; give the folder of a simulated session") from error
    return SessionTruth(
        found,
        content["parameters"],
        content["pixel_size_angstrom"],
        content["dose_per_frame"],
        content["symmetry"],
        tuple(read_movie_truth(found / name) for name in content["movies"]),
    )
