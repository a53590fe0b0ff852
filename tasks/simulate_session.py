"""A simulated session: movies of a protein cage on disk as a microscope leaves them, and the truth beside them."""

from __future__ import annotations

import json
import logging
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, model_validator

from kernels.ctf import Defocus
from kernels.optics import Optics
from kernels.rotations import random_rotations
from kernels.specimen.cage import cage_atoms, cage_chains
from kernels.specimen.potential import density_map
from kernels.specimen.simulation import (
    Detector,
    Ice,
    Particles,
    SpecimenMotion,
    contrast_frames,
    detected_counts,
    random_detector,
    random_motion,
    random_positions,
)
from tasks.formats.mrc import write_mrc
from tasks.formats.simulated_truth import (
    MovieKind,
    MovieTruth,
    read_movie_truth,
    truth_folder,
    write_movie_truth,
)
from tasks.formats.structure import write_chains
from tasks.formats.tiff import write_tiff_movie
from tasks.records.session import StageParams, StageReport
from tasks.workers.connection import require_workers
from tasks.workers.items import run_items
from tasks.workers.usage import stage_usage

logger = logging.getLogger(__name__)

_STAGE = "simulate_session"
_VERSION = 1
_GRID_ANGSTROM = 60.0
"""Largest spacing of the positions at which the truth tabulates the motion."""


class SimulateSessionParams(StageParams):
    """The session to be simulated; the defaults are a good session on a small detector."""

    seed: int = Field(default=0, ge=0)
    n_movies: int = Field(default=12, ge=1)
    """Good movies; those below come on top."""
    n_truncated: int = Field(default=0, ge=0)
    """Movies that end in the middle, as after a copy that broke off."""
    n_duplicates: int = Field(default=0, ge=0)
    """Copies of good movies under their own name in another folder."""
    n_drifting: int = Field(default=0, ge=0)
    """Movies spoilt by a stage that drifts by `spoiling_drift_angstrom`."""
    shape: tuple[int, int] = (1200, 1280)
    pixel_size_angstrom: float = Field(default=1.1, gt=0.3, le=5)
    n_frames: int = Field(default=20, ge=1)
    total_dose: float = Field(default=40.0, gt=0)
    """e⁻/Å² that are counted."""
    voltage_kv: float = Field(default=300.0, ge=20, le=1500)
    spherical_aberration_mm: float = Field(default=2.7, ge=0, le=20)
    amplitude_contrast: float = Field(default=0.1, ge=0, le=1)
    n_particles: int = Field(default=45, ge=0)
    """In and at the edge of each movie."""
    spacing_angstrom: float = Field(default=140.0, gt=0)
    """Least distance between two particles."""
    defocus_angstrom: tuple[float, float] = (8000.0, 20000.0)
    """Range of the mean defocus, spread evenly over the movies."""
    astigmatism_angstrom: tuple[float, float] = (100.0, 600.0)
    ice_thickness_angstrom: float = Field(default=400.0, gt=130)
    tilt_deg: float = Field(default=3.0, ge=0, le=45)
    """Largest tilt of the ice against the plane of focus."""
    drift_angstrom: tuple[float, float] = (5.0, 15.0)
    local_motion_angstrom: tuple[float, float] = (2.0, 6.0)
    spoiling_drift_angstrom: float = Field(default=250.0, gt=0)
    b_factor_angstrom2: float = Field(default=40.0, ge=0)
    """Of every atom."""
    map_size: int = Field(default=160, ge=16)
    """Edge of the true map in voxels."""
    format: Literal["tiff", "mrc"] = "tiff"

    @model_validator(mode="after")
    def _is_possible(self) -> SimulateSessionParams:
        if min(self.shape) < 64:
            raise ValueError(f"shape is {self.shape}, expected at least 64 pixels each way")
        counts = self.total_dose / self.n_frames * self.pixel_size_angstrom**2
        if counts > 100:
            raise ValueError(
                f"{counts:.0f} electrons would fall on a pixel in each frame, which 8 bits cannot count; "
                "expected at most 100: take more frames or less dose"
            )
        for name in ("defocus_angstrom", "astigmatism_angstrom", "drift_angstrom", "local_motion_angstrom"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} is {low} to {high}, expected a range that starts at 0 or above and rises")
        return self


class _Plan(StageParams):
    """One movie."""

    name: str
    kind: MovieKind
    source: int
    """Number from which its content follows; a duplicate has that of its original."""


@task(name=_STAGE, cache_policy=NO_CACHE)
def simulate_session(folder: str, params: SimulateSessionParams) -> StageReport:
    """Write movies, gain reference, defects and the microscope's notes to ``folder``, the truth to ``<folder>_truth``.

    ::

        movies/movie_0001.tiff …    counts, gain not applied
        gain.mrc                    multiplies
        defects.txt                 x y width height; a few hot pixels are not in it
        session.json                what an operator types in

    What a movie holds follows from the seed and its number alone. A movie whose truth is there already is kept.
    Needs CPU-labelled workers; memory of an item: about 0.5 GB for frames of 1200 × 1280.
    """
    root, truth = Path(folder), truth_folder(folder)
    plans = _plans(params)
    _write_surroundings(root, truth, plans, params)
    report = StageReport(stage=_STAGE)
    todo = []
    for plan in plans:
        if (root / plan.name).exists() and _truth_path(truth, plan).exists():
            report.kept.append(plan.name)
        else:
            todo.append(plan)
    logger.info("%s: %d movies in %s, %d to write", _STAGE, len(plans), folder, len(todo))
    client = require_workers("CPU")
    # duplicates copy a movie, so they come when all others are written
    waves = [[p for p in todo if p.kind != "duplicate"], [p for p in todo if p.kind == "duplicate"]]
    with stage_usage(client, "CPU", report):
        for wave in waves:
            for plan, result in run_items(_simulate_movie, wave, folder, params, label="CPU", name=_STAGE):
                if isinstance(result, Exception):
                    report.failed[plan.name] = str(result)
                else:
                    report.done.append(plan.name)
    logger.info("%s: %d done, %d kept, %d failed", _STAGE, len(report.done), len(report.kept), len(report.failed))
    return report


def _plans(params: SimulateSessionParams) -> list[_Plan]:
    suffix = "tiff" if params.format == "tiff" else "mrc"
    plans: list[_Plan] = []
    wanted: list[tuple[MovieKind, int]] = [
        ("good", params.n_movies),
        ("truncated", params.n_truncated),
        ("drifting", params.n_drifting),
    ]
    for number, kind in enumerate(kind for kind, n in wanted for _ in range(n)):
        plans.append(_Plan(name=f"movies/movie_{number + 1:04d}.{suffix}", kind=kind, source=number))
    for number in range(params.n_duplicates):
        original = plans[number % params.n_movies]
        name = f"movies/again_{number // params.n_movies + 1}/{Path(original.name).name}"
        plans.append(_Plan(name=name, kind="duplicate", source=original.source))
    return plans


def _truth_path(truth: Path, plan: _Plan) -> Path:
    return truth / (plan.name.replace("/", "-").rsplit(".", 1)[0] + ".npz")


def _write_surroundings(root: Path, truth: Path, plans: list[_Plan], params: SimulateSessionParams) -> None:
    """Everything but the movies; movies of other parameters are removed first."""
    content = {
        "version": _VERSION,
        "parameters": params.model_dump(mode="json"),
        "pixel_size_angstrom": params.pixel_size_angstrom,
        "dose_per_frame": params.total_dose / params.n_frames,
        "symmetry": "O",
        "movies": [_truth_path(truth, plan).name for plan in plans],
    }
    note = truth / "session.json"
    if note.exists() and json.loads(note.read_text()) == content:
        return
    for plan_file in truth.glob("*.npz"):
        plan_file.unlink()
    shutil.rmtree(root / "movies", ignore_errors=True)
    for plan in plans:
        (root / plan.name).parent.mkdir(parents=True, exist_ok=True)
    truth.mkdir(parents=True, exist_ok=True)
    pixel_size = params.pixel_size_angstrom
    detector = _detector(params)
    write_mrc(root / "gain.mrc", detector.gain.numpy(), pixel_size)
    hot = torch.nonzero(detector.is_hot)
    listed = torch.cat([torch.nonzero(detector.is_dead), hot[: math.ceil(0.8 * len(hot))]])
    (root / "defects.txt").write_text("".join(f"{x} {y} 1 1\n" for y, x in listed.tolist()))
    notes = {
        "pixel_size_angstrom": pixel_size,
        "voltage_kv": params.voltage_kv,
        "spherical_aberration_mm": params.spherical_aberration_mm,
        "amplitude_contrast": params.amplitude_contrast,
        "n_frames": params.n_frames,
        "total_dose": params.total_dose,
        "gain": "gain.mrc",
        "defects": "defects.txt",
    }
    (root / "session.json").write_text(json.dumps(notes, indent=1) + "\n")
    atoms = cage_atoms(params.b_factor_angstrom2)
    write_mrc(truth / "cage.mrc", density_map(atoms, params.map_size, pixel_size).numpy(), pixel_size)
    centre = [params.map_size // 2 * pixel_size] * 3
    write_chains(truth / "cage.cif", cage_chains(), centre, params.b_factor_angstrom2, "cage")
    note.write_text(json.dumps(content, indent=1) + "\n")


def _detector(params: SimulateSessionParams) -> Detector:
    return random_detector(params.shape, _generator(params.seed, 0))


def _generator(seed: int, stream: int) -> torch.Generator:
    """Independent streams of one seed: 0 for the detector, 1 + number for the movies."""
    return torch.Generator().manual_seed(
        int(np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0] >> 1)
    )


def _simulate_movie(plan: _Plan, folder: str, params: SimulateSessionParams) -> None:
    """Write one movie, then its truth."""
    root, truth = Path(folder), truth_folder(folder)
    target = root / plan.name
    if plan.kind == "duplicate":
        original = plan.model_copy(update={"name": f"movies/{target.name}"})
        shutil.copyfile(root / original.name, target)
        known = read_movie_truth(_truth_path(truth, original))
        write_movie_truth(_truth_path(truth, plan), replace(known, name=plan.name, kind=plan.kind))
        return
    generator = _generator(params.seed, 1 + plan.source)
    optics = Optics(
        params.voltage_kv, params.spherical_aberration_mm, params.amplitude_contrast, params.pixel_size_angstrom
    )
    defocus = _defocus(plan, params, generator)
    particles = _particles(params, generator)
    motion = _motion(plan, params, generator)
    detector = _detector(params)
    dose_per_frame = params.total_dose / params.n_frames
    electrons = dose_per_frame * params.pixel_size_angstrom**2 * _illumination(params.shape, generator)
    contrast = contrast_frames(
        cage_atoms(params.b_factor_angstrom2), particles, motion, params.shape, defocus, optics, dose_per_frame,
        generator, ice=Ice(params.ice_thickness_angstrom),
    )  # fmt: skip
    frames = (detected_counts(electrons * (1 + c), detector, generator).numpy() for c in contrast)
    if params.format == "tiff":
        write_tiff_movie(target, frames, "lzw")
    else:
        write_mrc(target, np.stack(list(frames)), params.pixel_size_angstrom, is_stack=True)
    if plan.kind == "truncated":
        with target.open("r+b") as file:
            file.truncate(int(0.6 * target.stat().st_size))
    write_movie_truth(_truth_path(truth, plan), _movie_truth(plan, params, defocus, particles, motion))


def _uniform(low_high: tuple[float, float], generator: torch.Generator) -> float:
    low, high = low_high
    return low + (high - low) * float(torch.rand((), generator=generator))


def _defocus(plan: _Plan, params: SimulateSessionParams, generator: torch.Generator) -> Defocus:
    """Mean defocus in the movie's own part of the range, so that any number of movies covers all of it."""
    low, high = params.defocus_angstrom
    n = params.n_movies
    # neighbours in time differ: several steps at a time through the range, as many as reach all of it
    step = next(step for step in range(5, n + 7) if math.gcd(step, n) == 1)
    part = (plan.source * step % n + float(torch.rand((), generator=generator))) / n
    mean = low + (high - low) * part
    half = _uniform(params.astigmatism_angstrom, generator) / 2
    return Defocus.of(mean + half, mean - half, angle_rad=_uniform((0, math.pi), generator))


def _particles(params: SimulateSessionParams, generator: torch.Generator) -> Particles:
    """Particles anywhere in the ice, which is tilted a little; their heights average to zero."""
    field = _field(params)
    position = random_positions(params.n_particles, field, params.spacing_angstrom, 30.0, generator)
    n = len(position)
    slack = params.ice_thickness_angstrom - 130.0
    height = slack * (torch.rand(n, generator=generator) - 0.5)
    direction = _uniform((0, 2 * math.pi), generator)
    slope = math.tan(math.radians(_uniform((0, params.tilt_deg), generator)))
    centred = position - torch.tensor(field) / 2
    height = height + slope * (math.sin(direction) * centred[:, 0] + math.cos(direction) * centred[:, 1])
    if n:
        height = height - height.mean()
    return Particles(position, random_rotations(n, generator), height)


def _field(params: SimulateSessionParams) -> tuple[float, float]:
    return params.shape[0] * params.pixel_size_angstrom, params.shape[1] * params.pixel_size_angstrom


def _motion(plan: _Plan, params: SimulateSessionParams, generator: torch.Generator) -> SpecimenMotion:
    motion = random_motion(
        params.n_frames,
        params.total_dose / params.n_frames,
        _field(params),
        generator,
        drift_angstrom=_uniform(params.drift_angstrom, generator),
        local_angstrom=_uniform(params.local_motion_angstrom, generator),
    )
    if plan.kind != "drifting":
        return motion
    angle = _uniform((0, 2 * math.pi), generator)
    way = torch.linspace(0, params.spoiling_drift_angstrom, params.n_frames)[:, None]
    drift = motion.drift_angstrom + way * torch.tensor([math.sin(angle), math.cos(angle)])
    return replace(motion, drift_angstrom=drift)


def _illumination(shape: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """(y, x) beam of mean 1, brighter on one side and in the middle by a few percent."""
    y, x = (torch.linspace(-1, 1, n) for n in shape)
    tilt = 0.02 * torch.randn(2, generator=generator)
    beam = 1 + tilt[0] * y[:, None] + tilt[1] * x[None] - 0.03 * (y[:, None] ** 2 + x[None] ** 2)
    return beam / beam.mean()


def _movie_truth(
    plan: _Plan, params: SimulateSessionParams, defocus: Defocus, particles: Particles, motion: SpecimenMotion
) -> MovieTruth:
    pixel_size = params.pixel_size_angstrom
    axes = [torch.linspace(0, n - 1, max(24, round(n * pixel_size / _GRID_ANGSTROM)) + 1) for n in params.shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    return MovieTruth(
        name=plan.name,
        kind=plan.kind,
        shape=params.shape,
        pixel_size_angstrom=pixel_size,
        defocus_u_angstrom=float(defocus.u_angstrom),
        defocus_v_angstrom=float(defocus.v_angstrom),
        defocus_angle_rad=float(defocus.angle_rad),
        coordinate_px=(particles.position_angstrom / pixel_size).numpy(),
        rotation=particles.rotation.numpy(),
        defocus_offset_angstrom=particles.defocus_offset_angstrom.numpy(),
        trajectory_angstrom=motion.at(particles.position_angstrom).numpy(),
        grid_px=grid.numpy(),
        grid_motion_angstrom=motion.at(grid * pixel_size).movedim(-2, 0).numpy(),
    )
