"""A store filled with plausible products of every stage, failures included, without running a stage."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from kernels.ctf import Defocus, ctf
from kernels.fourier import frequencies, inverse, transform
from kernels.optics import Optics
from kernels.rotations import random_rotations
from tasks.records.density_map import DensityMap
from tasks.records.exposure import Exposure, ExposureCtf
from tasks.records.particles import ParticleSet
from tasks.records.session import StageParams
from tasks.stores.ledger import rebuild
from tasks.stores.products.map_store import describe
from tasks.stores.products.particle_store import write_particles
from tasks.stores.session_store import SessionStore
from tests.truth.gaussian_particles import cage_points, gaussian_map, gaussian_projections

OPTICS = Optics(voltage_kv=300, spherical_aberration_mm=2.7, amplitude_contrast=0.1, pixel_size_angstrom=2.2)
BOX = 80


class FilledParams(StageParams):
    """Stands in for the parameters of any stage."""

    diameter_angstrom: float = 130.0
    n_patches: int = 5


@dataclass
class Filled:
    """What was written."""

    good: list[str] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    """Exposure -> why it is not in use."""
    n_particles: int = 0
    volume: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    """(z, y, x) the particles are projections of it."""


def fill_session(
    store: SessionStore,
    n_exposures: int = 5,
    shape: tuple[int, int] = (300, 340),
    n_picks: int = 12,
    n_frames: int = 10,
    with_maps: bool = True,
    seed: int = 3,
) -> Filled:
    """``n_exposures`` good ones, of which the last has no particle, and one of each kind of trouble."""
    filled = Filled()
    random = np.random.default_rng(seed)
    points = cage_points(radius_angstrom=52)
    filled.volume = gaussian_map(points, BOX, OPTICS.pixel_size_angstrom, 4.0)
    parts = []
    for i in range(n_exposures):
        exposure = _import(store, f"FoilHole_{i:04d}_fractions", shape, n_frames)
        n = 0 if i == n_exposures - 1 else n_picks
        rotation = random_rotations(n, torch.Generator().manual_seed(seed + i))
        projections = torch.zeros(0, BOX, BOX)
        shift = torch.from_numpy(random.normal(0, 6, (n, 2))).float()
        if n:
            projections = gaussian_projections(points, rotation, shift, BOX, OPTICS.pixel_size_angstrom, 4.0)
        u = float(random.uniform(9000, 22000))
        fit = ExposureCtf(
            defocus_u_angstrom=u, defocus_v_angstrom=u - 350, defocus_angle_deg=35.0,
            fit_correlation=0.3, fit_resolution_angstrom=float(random.uniform(4.5, 6.5)),
        )  # fmt: skip
        centres = random.uniform(BOX / 2, np.array(shape) - BOX / 2, (n, 2))
        micrograph = _micrograph(projections, centres, shape, fit, random)
        _correct(store, exposure, micrograph, n_frames, random)
        _estimate(store, exposure, fit, random)
        with _write(store, exposure.id, "curate_exposures"):
            pass
        parts.append(_pick_and_extract(store, exposure, centres, rotation, shift, projections, fit, random))
        filled.good.append(exposure.id)
    _fill_trouble(store, filled, shape, n_frames, random)
    particles = _join(parts, filled.good)
    filled.n_particles = len(particles)
    _session_products(store, particles, filled.volume, with_maps, random)
    rebuild(store)
    return filled


def _write(store: SessionStore, exposure_id: str, stage: str):
    return store.exposure_product(exposure_id, stage).write(stage, 1, FilledParams(), {})


def _import(store: SessionStore, stem: str, shape: tuple[int, int], n_frames: int) -> Exposure:
    digits = f"{sum(map(ord, stem)) * 2654435761 % 2**32:08x}"
    exposure = Exposure(
        id=f"{stem}-{digits}", name=f"{stem}.tiff", source=f"/data/{stem}.tiff", content_hash=digits, kind="movie",
        n_frames=n_frames, shape=shape, optics=OPTICS, dose_per_frame=1.0,
    )  # fmt: skip
    with _write(store, exposure.id, "import_session") as attempt:
        attempt.write("frames", np.zeros((1, *shape), np.uint8))
        attempt.details["exposure"] = exposure.model_dump(mode="json")
    return exposure


def _micrograph(projections, centres, shape, fit: ExposureCtf, random) -> np.ndarray:
    field_of_view = np.zeros(shape, np.float32)
    for image, (y, x) in zip(projections.numpy(), np.round(centres).astype(int)):
        field_of_view[y - BOX // 2 : y + BOX // 2, x - BOX // 2 : x + BOX // 2] += image
    defocus = Defocus.of(fit.defocus_u_angstrom, fit.defocus_v_angstrom, np.deg2rad(fit.defocus_angle_deg))
    factor = ctf(frequencies(shape, OPTICS.pixel_size_angstrom), defocus, OPTICS)
    image = inverse(transform(torch.from_numpy(field_of_view)) * factor, shape).numpy()
    scale = image.std() or 1.0
    return (image / scale + random.normal(0, 3, shape)).astype(np.float32)


def _correct(store, exposure: Exposure, micrograph, n_frames: int, random) -> None:
    frame = np.arange(n_frames)
    drift = np.stack([6 * (1 - np.exp(-frame / 3)), -9 * (1 - np.exp(-frame / 4))], -1)
    drift = (drift + random.normal(0, 0.15, drift.shape)).astype(np.float32)
    ys, xs = (np.linspace(0, n, 5, endpoint=False) + n / 10 for n in exposure.shape)
    centres = np.stack(np.meshgrid(ys, xs, indexing="ij"), -1).reshape(-1, 2).astype(np.float32)
    away = (centres - np.array(exposure.shape) / 2) / max(exposure.shape)
    dome = 8 * away[:, None] * (1 - np.exp(-frame / 3))[None, :, None]
    with _write(store, exposure.id, "correct_motion") as attempt:
        attempt.write("micrograph", micrograph)
        attempt.write("unweighted_micrograph", micrograph)
        attempt.write("global_shift_angstrom", drift)
        attempt.write("patch_center_px", centres)
        attempt.write("patch_shift_angstrom", (drift[None] + dome).astype(np.float32))
        attempt.figures["total_motion_angstrom"] = float(np.hypot(*np.diff(drift, axis=0).T).sum())
        attempt.figures["warning"] = None


def _estimate(store, exposure: Exposure, fit: ExposureCtf, random) -> None:
    n = 256
    defocus = Defocus.of(fit.defocus_u_angstrom, fit.defocus_v_angstrom, np.deg2rad(fit.defocus_angle_deg))
    grid = frequencies((n, n), OPTICS.pixel_size_angstrom)
    length = grid.norm(dim=-1).numpy()
    envelope = np.exp(-40 * length**2)
    spectrum = torch.abs(ctf(grid, defocus, OPTICS)).numpy() * envelope + random.normal(0, 0.25, length.shape)
    k = np.linspace(0, 0.5 / OPTICS.pixel_size_angstrom, 128)
    model = torch.abs(
        ctf(torch.from_numpy(np.stack([0 * k, k], -1)).float(), Defocus.of(fit.defocus_u_angstrom), OPTICS)
    ).numpy()
    curves = np.stack([k, model * np.exp(-40 * k**2) + random.normal(0, 0.03, k.size), model, np.exp(-60 * k**2)])
    with _write(store, exposure.id, "estimate_ctf") as attempt:
        attempt.write("power_spectrum", spectrum.astype(np.float32))
        attempt.write("fit_curves", curves.astype(np.float32))
        attempt.details["ctf"] = fit.model_dump(mode="json")
        attempt.figures.update(
            defocus_u_angstrom=fit.defocus_u_angstrom, defocus_v_angstrom=fit.defocus_v_angstrom,
            fit_resolution_angstrom=fit.fit_resolution_angstrom, drift_angstrom=float(random.uniform(0, 3)),
        )  # fmt: skip


def _pick_and_extract(store, exposure, centres, rotation, shift, projections, fit, random) -> ParticleSet:
    n = len(centres)
    with _write(store, exposure.id, "pick_particles") as attempt:
        attempt.write("coordinate_px", centres.astype(np.float32))
        attempt.write("score", random.uniform(0, 1, n).astype(np.float32))
        attempt.figures["n_picks"] = n
        attempt.set_attributes({"diameter_angstrom": 130.0})
    defocus = Defocus.of(fit.defocus_u_angstrom, fit.defocus_v_angstrom, np.deg2rad(fit.defocus_angle_deg))
    factor = ctf(frequencies((BOX, BOX), OPTICS.pixel_size_angstrom), defocus, OPTICS)
    images = inverse(transform(projections) * factor, (BOX, BOX)).numpy() if n else np.zeros((0, BOX, BOX))
    images = images / max(float(images.std()) if n else 1.0, 1e-6) + random.normal(0, 1, images.shape)
    columns = {
        "exposure": np.zeros(n),
        "stack_index": np.arange(n),
        "coordinate_px": centres,
        "pick_score": random.uniform(0, 1, n),
        "defocus_u_angstrom": np.full(n, fit.defocus_u_angstrom),
        "defocus_v_angstrom": np.full(n, fit.defocus_v_angstrom),
        "defocus_angle_rad": np.full(n, np.deg2rad(fit.defocus_angle_deg)),
        "phase_shift_rad": np.zeros(n),
        "optics_group": np.ones(n),
    }
    particles = ParticleSet((exposure.id,), columns)
    with _write(store, exposure.id, "extract_particles") as attempt:
        attempt.write("image", images.astype(np.float16))
        write_particles(attempt, particles)
        attempt.figures["n_particles"] = n
        attempt.set_attributes({"pixel_size_angstrom": OPTICS.pixel_size_angstrom})
    return particles.with_columns(
        rotation=rotation.numpy(),
        shift_angstrom=shift.numpy(),
        half_set=1 + np.arange(n) % 2,
        class_2d=np.arange(n) % 6,
    )


def _join(parts: list[ParticleSet], ids: list[str]) -> ParticleSet:
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0].columns}
    columns["exposure"] = np.concatenate([np.full(len(part), i) for i, part in enumerate(parts)])
    return ParticleSet(tuple(ids), columns)


def _fill_trouble(store, filled: Filled, shape, n_frames: int, random) -> None:
    """One file that is no movie, one constant movie, one movie that drifts too much to be kept."""
    params = FilledParams()
    broken = "FoilHole_0900_<broken>-0000aaaa"
    reason = "FoilHole_0900_<broken>.tiff: found 3 of 10 frames, expected all; copy the file again & repeat"
    store.exposure_product(broken, "import_session").put_outcome("quarantined", reason, "import_session", 1, params, {})
    filled.reasons[broken] = reason

    constant = _import(store, "FoilHole_0901_fractions", shape, n_frames)
    reason = "frame 3 is constant (17), expected electron counts; check the detector"
    store.exposure_product(constant.id, "correct_motion").put_outcome("failed", reason, "correct_motion", 1, params, {})
    filled.reasons[constant.id] = reason

    drifting = _import(store, "FoilHole_0902_fractions", shape, n_frames)
    fit = ExposureCtf(
        defocus_u_angstrom=15000, defocus_v_angstrom=14000, defocus_angle_deg=0, fit_correlation=0.02,
        fit_resolution_angstrom=19.0,
    )  # fmt: skip
    micrograph = _micrograph(torch.zeros(0, BOX, BOX), np.zeros((0, 2)), shape, fit, random)
    _correct(store, drifting, micrograph, n_frames, random)
    _estimate(store, drifting, fit, random)
    reason = "rejected: CTF fits to 19.0 Å only, expected 8.0 Å or better"
    store.exposure_product(drifting.id, "curate_exposures").put_outcome(
        "skipped", reason, "curate_exposures", 1, params, {}
    )
    filled.reasons[drifting.id] = reason


def _session_products(store, particles: ParticleSet, volume: torch.Tensor, with_maps: bool, random) -> None:
    params = FilledParams()
    for name, kept in (
        ("extracted", len(particles)),
        ("selected", len(particles) - 3),
        ("refined", len(particles) - 3),
    ):
        stage = {"extracted": "extract_particles", "selected": "classify_2d", "refined": "refine_map"}[name]
        part = particles.select(np.arange(kept))
        if name == "extracted":
            early = ("rotation", "shift_angstrom", "half_set", "class_2d")
            part = ParticleSet(part.exposure_ids, {k: v for k, v in part.columns.items() if k not in early})
        if name != "refined" or with_maps:
            with store.product(f"particles/{name}").write(stage, 1, params, {}) as attempt:
                write_particles(attempt, part)
    rotation = random_rotations(6, torch.Generator().manual_seed(1))
    averages = gaussian_projections(cage_points(radius_angstrom=52), rotation, torch.zeros(6, 2), BOX, 2.2, 4.0)
    with store.product("classes/2d").write("classify_2d", 1, params, {}) as attempt:
        noise = random.normal(0, 0.1, averages.shape) * averages.numpy().std()
        attempt.write("class_average", (averages.numpy() + noise).astype(np.float32))
        attempt.details.update(
            n_particles=[40, 31, 12, 9, 3, 1], resolution_angstrom=[9.0, 9.5, 11.0, 14.0, 30.0, None],
            is_kept=[True, True, True, True, False, False],
        )  # fmt: skip
    if with_maps:
        _maps(store, particles, volume.numpy(), random)


def _maps(store, particles: ParticleSet, volume: np.ndarray, random) -> None:
    pixel_size = OPTICS.pixel_size_angstrom
    k = np.arange(BOX // 2) / (BOX * pixel_size)
    fsc = 1 / (1 + np.exp((k - 0.16) * 90))
    curves = np.stack([k, fsc**1.5, fsc, 0.6 * np.exp(-k * 60), fsc]).astype(np.float32)
    noise = 0.05 * volume.std()
    half_1, half_2 = (volume + random.normal(0, noise, volume.shape).astype(np.float32) for _ in range(2))
    mask = (volume > 0.05 * volume.max()).astype(np.float32)
    kinds = ("initial", "refined", "sharpened")
    stages = ("build_initial_map", "refine_map", "sharpen_map")
    for kind, stage in zip(kinds, stages):
        with store.product(f"maps/{kind}").write(stage, 1, FilledParams(), {}) as attempt:
            attempt.write("map", volume.astype(np.float32))
            if kind == "refined":
                attempt.figures["resolution_angstrom"] = 5.6
                attempt.write("half_1", half_1.astype(np.float32))
                attempt.write("half_2", half_2.astype(np.float32))
                attempt.write("fsc_curves", curves)
            if kind != "initial":
                attempt.write("mask", mask)
            if kind == "sharpened":
                local = 5.5 + random.gamma(2, 0.5, volume.shape) + 10 * (1 - mask)
                attempt.write("local_resolution", local.astype(np.float32))
                squared = np.linspace(0.0005, 0.03, 30)
                attempt.details["guinier"] = {
                    "frequency_squared": squared.tolist(), "log_amplitude": (8 - 85 / 4 * squared).tolist()
                }  # fmt: skip
            describe(
                attempt,
                DensityMap(
                    name=kind, kind=kind, pixel_size_angstrom=pixel_size, symmetry="O",
                    resolution_angstrom=None if kind == "initial" else 5.6,
                    b_factor_angstrom2=-85.0 if kind == "sharpened" else None, n_particles=len(particles),
                ),
            )  # fmt: skip
