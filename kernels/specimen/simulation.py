"""Image formation, forward: from atoms to what the detector counts.

None of the models that the stages fit is used here: projections come straight from atoms, motion is no polynomial,
fading follows a law of its own, ice is a field that lives and moves.

Contrast is that of a weak phase object: intensity = 1 + 2 sigma CTF × projected potential, with the sign of
`kernels.ctf`, so that protein is dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import fourier
from kernels.ctf import Defocus, ctf, phase_aberration
from kernels.optics import Optics, electron_wavelength_angstrom
from kernels.specimen.potential import (
    VOLT_ANGSTROM3_PER_ANGSTROM,
    WATER_MOLECULES_PER_ANGSTROM3,
    Atoms,
    atomic_potential,
    deposit,
    scattering_factor,
    spline_response,
)


@dataclass(frozen=True)
class Beam:
    """What the microscope adds to `Optics`."""

    convergence_mrad: float = 0.03
    focus_spread_angstrom: float = 60.0


@dataclass(frozen=True)
class Ice:
    """A layer of vitreous ice."""

    thickness_angstrom: float = 400.0
    diffusion_angstrom2: float = 1.0
    """Mean square displacement of a water molecule along one axis per e⁻/Å² (McMullan et al. 2015: about 1 Å)."""
    relief_volt_angstrom: float = 20.0
    """RMS of the slow waviness of the projected potential, of wavelengths above 150 Å."""


@dataclass(frozen=True)
class Particles:
    """Where particles lie, how, and at which height."""

    position_angstrom: Tensor
    """(particle, 2) in (y, x) from pixel 0 of the detector, when the first frame is taken."""
    rotation: Tensor
    """(particle, 3, 3) map -> image."""
    defocus_offset_angstrom: Tensor
    """(particle,) added to both defocus values of the exposure."""


@dataclass(frozen=True)
class SpecimenMotion:
    """Motion of the specimen under the beam: a drift of the stage and a bulging of the ice.

    The bulge pushes outwards from a centre, grows with distance as a saturating radial function, and relaxes
    exponentially with dose; on top lies a smooth random field whose pattern turns over as the dose goes on.
    """

    drift_angstrom: Tensor
    """(frame, 2)"""
    centre_angstrom: Tensor
    """(2,)"""
    dome_angstrom: Tensor
    """(frame,) displacement that the dome approaches far from its centre."""
    dome_radius_angstrom: float
    wave_vectors: Tensor
    """(wave, 2) rad/Å of the smooth field."""
    wave_phases_rad: Tensor
    """(wave,)"""
    wave_angstrom: Tensor
    """(frame, wave, 2)"""

    @property
    def n_frames(self) -> int:
        return len(self.drift_angstrom)

    def local(self, position_angstrom: Tensor) -> Tensor:
        """(..., frame, 2) displacement less the drift, of points (..., 2)."""
        away = position_angstrom - self.centre_angstrom
        squared = (away**2).sum(-1, keepdim=True) / self.dome_radius_angstrom**2
        radial = away / self.dome_radius_angstrom / torch.sqrt(1 + squared)
        dome = radial[..., None, :] * self.dome_angstrom[:, None]
        phase = position_angstrom @ self.wave_vectors.T + self.wave_phases_rad
        return dome + torch.einsum("...w,fwi->...fi", torch.cos(phase), self.wave_angstrom)

    def at(self, position_angstrom: Tensor) -> Tensor:
        """(..., frame, 2) displacement in Å since the first frame, of what stood at (..., 2) then."""
        local = self.local(position_angstrom)
        return self.drift_angstrom - self.drift_angstrom[0] + local - local[..., :1, :]


def random_motion(
    n_frames: int,
    dose_per_frame: float,
    field_angstrom: tuple[float, float],
    generator: torch.Generator,
    *,
    drift_angstrom: float = 10.0,
    local_angstrom: float = 4.0,
) -> SpecimenMotion:
    """Motion that is fast at first and slow later, of about the total drift and largest local part given."""
    dose = dose_per_frame * (torch.arange(n_frames) + 0.5)
    total = dose_per_frame * n_frames

    # the stage creeps on in a direction less than a right angle from that of its first jump
    first = 2 * math.pi * torch.rand((), generator=generator)
    second = first + math.pi * (torch.rand((), generator=generator) - 0.5)
    jump = 0.6 * (1 - torch.exp(-dose / 4.0))[:, None] * torch.stack([torch.sin(first), torch.cos(first)])
    creep = 0.4 * (dose / total)[:, None] ** 0.8 * torch.stack([torch.sin(second), torch.cos(second)])
    jitter = 0.15 * torch.randn(n_frames, 2, generator=generator)
    height, width = field_angstrom
    centre = torch.tensor([height, width]) * (0.3 + 0.4 * torch.rand(2, generator=generator))
    n_waves = 6
    # a Gaussian process of correlation length 500 Å, made of a few waves
    vectors = torch.randn(n_waves, 2, generator=generator) / 500.0
    strength = 0.25 * local_angstrom * (2 / n_waves) ** 0.5
    early = torch.randn(n_waves, 2, generator=generator) * strength
    late = torch.randn(n_waves, 2, generator=generator) * strength
    waves = (1 - torch.exp(-dose / 5.0))[:, None, None] * early + (dose / total)[:, None, None] * late
    return SpecimenMotion(
        drift_angstrom=drift_angstrom * (jump + creep) + jitter,
        centre_angstrom=centre,
        dome_angstrom=local_angstrom * (1 - torch.exp(-dose / 6.0)),
        dome_radius_angstrom=0.4 * (height * width) ** 0.5,
        wave_vectors=vectors,
        wave_phases_rad=2 * math.pi * torch.rand(n_waves, generator=generator),
        wave_angstrom=waves,
    )


def random_positions(
    n: int,
    field_angstrom: tuple[float, float],
    spacing_angstrom: float,
    overhang_angstrom: float,
    generator: torch.Generator,
) -> Tensor:
    """(m, 2) points at random, no two nearer than ``spacing_angstrom``, up to ``overhang_angstrom`` outside the field.

    m is n, or less where no more fit.
    """  # fmt: skip
    size = torch.tensor(field_angstrom) + 2 * overhang_angstrom
    placed = torch.empty(0, 2)
    for candidate in torch.rand(60 * n, 2, generator=generator) * size - overhang_angstrom:
        if len(placed) == n:
            break
        if len(placed) == 0 or (placed - candidate).norm(dim=-1).min() >= spacing_angstrom:
            placed = torch.cat([placed, candidate[None]])
    return placed


def interaction_rad_per_volt_angstrom(voltage_kv: float) -> float:
    """Phase shift per projected potential: 6.53e-4 rad/(V Å) at 300 kV.

    Source
    ------
    Kirkland, Advanced Computing in Electron Microscopy, eq. 5.6.
    """
    rest, energy = 510.99895, voltage_kv
    wavelength = electron_wavelength_angstrom(voltage_kv)
    return 2 * math.pi / (wavelength * energy * 1e3) * (rest + energy) / (2 * rest + energy)


def surviving_amplitude(frequency_per_angstrom: Tensor, dose_electrons_per_angstrom2: Tensor) -> Tensor:
    """(frame, \\*frequency shape) share of the structure's amplitude left after a dose (frame,).

    A stretched exponential of 1.1 times the critical dose of Grant & Grigorieff, eLife 2015, 4:e06980: near their
    law, and not the one that a dose filter applies.
    """
    critical = 1.1 * (0.245 * frequency_per_angstrom.clamp(min=1e-3) ** -1.665 + 2.81)
    dose = dose_electrons_per_angstrom2.reshape(-1, *([1] * frequency_per_angstrom.ndim))
    return torch.exp(-((dose / (2 * critical)) ** 0.9))


def coherence_envelope(
    frequency_per_angstrom: Tensor, defocus_angstrom: Tensor | float, optics: Optics, beam: Beam
) -> Tensor:
    """Share of the contrast that a beam of finite coherence leaves at frequencies 1 / d.

    Source
    ------
    Frank, Three-Dimensional Electron Microscopy of Macromolecular Assemblies, 2006, eqs. 2.15 and 2.16.
    """
    k = frequency_per_angstrom
    wavelength = optics.wavelength_angstrom
    gradient = optics.spherical_aberration_mm * 1e7 * wavelength**2 * k**3 - defocus_angstrom * k
    spatial = torch.exp(-((math.pi * beam.convergence_mrad * 1e-3 * gradient) ** 2))
    return spatial * torch.exp(-0.5 * (math.pi * wavelength * beam.focus_spread_angstrom * k**2) ** 2)


def detector_transfer(shape: tuple[int, int]) -> Tensor:
    """(\\*half_shape) MTF of a counting detector whose pixels see what falls on them; its DQE is the square."""
    return torch.sinc(fourier.frequencies(shape)).prod(-1)


def ice_spectrum(frequency_per_angstrom: Tensor, ice: Ice) -> Tensor:
    """Power per area, in (V Å)² Å², of the projected potential of ``ice``.

    Molecules scatter on their own but for the structure factor: 0.06 at low frequency (compressibility), a broad
    ring at 3.7 Å (low-density amorphous ice), 1 beyond.
    """
    k = frequency_per_angstrom
    molecule = VOLT_ANGSTROM3_PER_ANGSTROM * (scattering_factor("O", k) + 2 * scattering_factor("H", k))
    structure = 0.06 + 0.94 * torch.sigmoid((k - 0.24) / 0.025) + 0.9 * torch.exp(-(((k - 0.27) / 0.03) ** 2) / 2)
    molecules = WATER_MOLECULES_PER_ANGSTROM3 * ice.thickness_angstrom * molecule**2 * structure
    corner = 1 / 300
    relief = ice.relief_volt_angstrom**2 / (2 * math.pi * corner**2) * torch.exp(-(k**2) / (2 * corner**2))
    return molecules + relief


def ice_potentials(
    shape: tuple[int, int],
    pixel_size_angstrom: float,
    ice: Ice,
    n_frames: int,
    dose_per_frame: float,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """(\\*half_shape) transform of the projected potential of the ice, V Å, in each frame; periodic in ``shape``.

    Water diffuses under the beam, so what a frame shares with the next falls with frequency: coarse features stay,
    the ring at 3.7 Å is new in every frame (McMullan, Vinothkumar & Henderson, Ultramicroscopy 2015, 158:26).
    """  # fmt: skip
    k = fourier.frequency_length(shape, pixel_size_angstrom)
    rate = 2 * math.pi**2 * k**2 * ice.diffusion_angstrom2 * dose_per_frame
    kept = torch.exp(-rate)
    within_frame = torch.where(rate > 1e-3, 2 * (rate - 1 + kept) / rate.clamp(min=1e-3) ** 2, 1.0)
    amplitude = torch.sqrt(ice_spectrum(k, ice) * within_frame) / pixel_size_angstrom
    amplitude[0, 0] = 0
    renewed = torch.sqrt(1 - kept**2)
    state = _white_transform(shape, generator)
    for frame in range(n_frames):
        if frame:
            state = kept * state + renewed * _white_transform(shape, generator)
        yield state * amplitude


def ice_transfer(shape: tuple[int, int], defocus: Defocus, optics: Optics, beam: Beam, ice: Ice) -> Tensor:
    """(\\*half_shape) contrast per projected potential of ice; molecules at all heights blur the outer Thon rings."""
    grid = fourier.frequencies(shape, optics.pixel_size_angstrom)
    k = grid.norm(dim=-1)
    chi = phase_aberration(grid, defocus, optics)
    over_heights = torch.sinc(optics.wavelength_angstrom * ice.thickness_angstrom * k**2)
    transfer = torch.sqrt((1 - torch.cos(2 * chi) * over_heights) / 2)
    transfer = transfer * coherence_envelope(k, defocus.mean_angstrom, optics, beam) * detector_transfer(shape)
    return 2 * interaction_rad_per_volt_angstrom(optics.voltage_kv) * transfer


def _white_transform(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Half-transform of noise with unit variance a pixel; irfft takes the Hermitian part of its first column."""
    half = (shape[0], shape[1] // 2 + 1)
    return torch.randn(*half, generator=generator, dtype=torch.complex64) * math.sqrt(shape[0] * shape[1])


def contrast_frames(
    atoms: Atoms,
    particles: Particles,
    motion: SpecimenMotion,
    shape: tuple[int, int],
    defocus: Defocus,
    optics: Optics,
    dose_per_frame: float,
    generator: torch.Generator,
    *,
    beam: Beam = Beam(),
    ice: Ice | None = Ice(),
) -> Iterator[Tensor]:
    """(y, x) contrast of each frame, relative to a mean intensity of 1; blurred by the detector, without shot noise.

    Particles follow their own trajectory, the ice is warped by the same motion. With ``ice`` None there is none.
    Memory: about 40 bytes a pixel of the frame and 16 bytes a pixel of a box and particle.
    """
    signal = _particle_frames(atoms, particles, motion, shape, defocus, optics, dose_per_frame, beam)
    if ice is None:
        yield from signal
        return
    pixel_size = optics.pixel_size_angstrom
    margin = 16 + math.ceil(float(_largest_local(motion, shape, optics)) / pixel_size)
    padded = (fourier.fast_size(shape[0] + 2 * margin), fourier.fast_size(shape[1] + 2 * margin))
    potentials = ice_potentials(padded, pixel_size, ice, motion.n_frames, dose_per_frame, generator)
    transfer = ice_transfer(padded, defocus, optics, beam, ice)
    drift_px = (motion.drift_angstrom - motion.drift_angstrom[0]) / pixel_size
    for frame, (contrast, potential) in enumerate(zip(signal, potentials)):
        drifted = torch.fft.irfft2(potential * _ramp(padded, drift_px[frame]), s=padded)
        # the specimen is stretched, then imaged: Thon rings do not stretch with it
        half = torch.fft.rfft2(_warped(drifted, motion, frame, margin, pixel_size)) * transfer
        image = torch.fft.irfft2(half * _motion_blur(padded, _step(motion.drift_angstrom, frame), pixel_size), s=padded)
        yield contrast + image[margin : margin + shape[0], margin : margin + shape[1]]


def _particle_frames(
    atoms: Atoms,
    particles: Particles,
    motion: SpecimenMotion,
    shape: tuple[int, int],
    defocus: Defocus,
    optics: Optics,
    dose_per_frame: float,
    beam: Beam,
) -> Iterator[Tensor]:
    if len(particles.rotation) == 0:
        for _ in range(motion.n_frames):
            yield torch.zeros(shape)
        return
    pixel_size = optics.pixel_size_angstrom
    own = Defocus(
        defocus.u_angstrom + particles.defocus_offset_angstrom,
        defocus.v_angstrom + particles.defocus_offset_angstrom,
        defocus.angle_rad.expand(len(particles.rotation)),
        defocus.phase_shift_rad.expand(len(particles.rotation)),
    )
    n = box_size(atoms, float(own.mean_angstrom.max()), optics)
    grid = fourier.frequencies((n, n), pixel_size)
    k = grid.norm(dim=-1)
    images = _projection_transforms(atoms, particles.rotation, n, pixel_size, None, True, 4)
    images *= ctf(grid, own, optics) * coherence_envelope(k, own.mean_angstrom[:, None, None], optics, beam)
    images *= detector_transfer((n, n)) * 2 * interaction_rad_per_volt_angstrom(optics.voltage_kv)
    trajectory = motion.at(particles.position_angstrom)
    dose = dose_per_frame * (torch.arange(motion.n_frames) + 0.5)
    left = surviving_amplitude(k, dose)
    for frame in range(motion.n_frames):
        position = (particles.position_angstrom + trajectory[:, frame]) / pixel_size
        whole = position.round()
        y, x = (_axis_ramp(n, (position - whole)[:, i], is_half=i == 1) for i in (0, 1))
        factor = left[frame] * _motion_blur((n, n), _step(motion.drift_angstrom, frame), pixel_size)
        boxes = torch.fft.fftshift(torch.fft.irfft2(images * factor * y[:, :, None] * x[:, None, :], s=(n, n)), (1, 2))
        yield _assembled(boxes, whole.long() - n // 2, shape)


def box_size(atoms: Atoms, defocus_angstrom: float, optics: Optics, resolution_angstrom: float = 3.5) -> int:
    """Pixels that hold a particle with what defocus moves out of it, up to ``resolution_angstrom``."""
    radius = float(atoms.coordinates_angstrom.norm(dim=-1).max()) + 5
    spread = optics.wavelength_angstrom * defocus_angstrom / resolution_angstrom
    return fourier.fast_size(math.ceil(2 * (radius + spread) / optics.pixel_size_angstrom))


def _assembled(boxes: Tensor, corner: Tensor, shape: tuple[int, int]) -> Tensor:
    """(y, x) sum of boxes (particle, n, n) whose first pixels lie at ``corner`` (particle, 2); the rest is cut off."""
    n = boxes.shape[-1]
    total = torch.zeros(shape)
    # one addition of a slice per particle costs a tenth of a scattered addition of all pixels
    for box, (y, x) in zip(boxes, corner.tolist()):
        top, left = max(0, y), max(0, x)
        bottom, right = min(shape[0], y + n), min(shape[1], x + n)
        if top < bottom and left < right:
            total[top:bottom, left:right] += box[top - y : bottom - y, left - x : right - x]
    return total


def _axis_ramp(n: int, shift_px: Tensor, *, is_half: bool) -> Tensor:
    """(..., n or n // 2 + 1) factors that shift by (...,) along one axis."""
    k = torch.fft.rfftfreq(n) if is_half else torch.fft.fftfreq(n)
    angle = -2 * math.pi * shift_px[..., None] * k
    return torch.polar(torch.ones_like(angle), angle)


def _ramp(shape: tuple[int, int], shift_px: Tensor) -> Tensor:
    y = _axis_ramp(shape[0], shift_px[0], is_half=False)
    return y[:, None] * _axis_ramp(shape[1], shift_px[1], is_half=True)


def _step(path: Tensor, frame: int) -> Tensor:
    """(2,) way made while a frame is taken."""
    last = len(path) - 1
    before, after = path[max(0, frame - 1)], path[min(last, frame + 1)]
    return (after - before) / max(1, min(last, frame + 1) - max(0, frame - 1))


def _motion_blur(shape: tuple[int, int], step_angstrom: Tensor, pixel_size_angstrom: float) -> Tensor:
    if float(step_angstrom.norm()) < 0.3 * pixel_size_angstrom:
        return torch.ones(())
    return torch.sinc(fourier.frequencies(shape, pixel_size_angstrom) @ step_angstrom)


def _warped(field: Tensor, motion: SpecimenMotion, frame: int, margin: int, pixel_size_angstrom: float) -> Tensor:
    """``field``, whose pixel (margin, margin) is the detector's first, moved by the local motion of a frame."""
    shape = field.shape
    coarse = torch.meshgrid(*(torch.linspace(0, n - 1, n // 32) for n in shape), indexing="ij")
    positions = (torch.stack(coarse, dim=-1) - margin) * pixel_size_angstrom
    positions = positions - (motion.drift_angstrom[frame] - motion.drift_angstrom[0])
    moved = torch.zeros(())
    for _ in range(3):  # what is here now stood where this has converged to in the first frame
        moved = _local_at(motion, positions - moved, frame)
    displacement = torch.nn.functional.interpolate(
        (moved / pixel_size_angstrom).permute(2, 0, 1)[None], size=shape, mode="bicubic", align_corners=True
    )[0]
    y = torch.arange(shape[0], dtype=torch.float32)[:, None] - displacement[0]
    x = torch.arange(shape[1], dtype=torch.float32)[None] - displacement[1]
    grid = torch.stack([2 * x / (shape[1] - 1) - 1, 2 * y / (shape[0] - 1) - 1], dim=-1)
    return torch.nn.functional.grid_sample(
        field[None, None], grid[None], mode="bicubic", padding_mode="reflection", align_corners=True
    )[0, 0]


def _local_at(motion: SpecimenMotion, position_angstrom: Tensor, frame: int) -> Tensor:
    local = motion.local(position_angstrom)
    return local[..., frame, :] - local[..., 0, :]


def _largest_local(motion: SpecimenMotion, shape: tuple[int, int], optics: Optics) -> Tensor:
    corners = torch.tensor([[0.0, 0.0], [0, 1], [1, 0], [1, 1], [0.5, 0.5]]) * torch.tensor(shape)
    return 1.5 * motion.local(corners * optics.pixel_size_angstrom).norm(dim=-1).max()


@dataclass(frozen=True)
class Detector:
    """Response of a counting detector."""

    gain: Tensor
    """(y, x) factor that turns counts into electrons."""
    is_dead: Tensor
    """(y, x) pixels that count nothing."""
    is_hot: Tensor
    """(y, x) pixels that count without electrons."""


def random_detector(shape: tuple[int, int], generator: torch.Generator, n_dead: int = 40, n_hot: int = 40) -> Detector:
    """A detector with a smooth unevenness of 5 %, columns read out by blocks, pixels of 3 %, and bad pixels."""
    y, x = (torch.linspace(-1, 1, n) for n in shape)
    tilt = torch.randn(3, generator=generator) * 0.03
    smooth = tilt[0] * y[:, None] + tilt[1] * x[None] - 0.05 * (y[:, None] ** 2 + x[None] ** 2) + tilt[2] * x * x
    columns = 0.01 * torch.randn(1, shape[1], generator=generator)
    blocks = 0.02 * torch.randn(1, -(-shape[1] // 128), generator=generator).repeat_interleave(128, 1)[:, : shape[1]]
    pixels = 0.03 * torch.randn(shape, generator=generator)
    response = (1 + smooth + columns + blocks + pixels).clamp(min=0.5)
    response = response / response.mean()
    bad = torch.randperm(shape[0] * shape[1], generator=generator)[: n_dead + n_hot]
    is_dead, is_hot = torch.zeros(2, shape[0] * shape[1], dtype=torch.bool)
    is_dead[bad[:n_dead]] = True
    is_hot[bad[n_dead:]] = True
    return Detector(1 / response, is_dead.reshape(shape), is_hot.reshape(shape))


def detected_counts(electrons: Tensor, detector: Detector, generator: torch.Generator) -> Tensor:
    """(y, x) uint8 counts of a frame for the mean number of electrons per pixel."""
    expected = (electrons / detector.gain).clamp(min=0)
    expected = expected.masked_fill(detector.is_dead, 0.0).masked_fill(detector.is_hot, 60.0)
    return torch.poisson(expected, generator=generator).clamp(max=255).to(torch.uint8)


def project_atoms(
    atoms: Atoms,
    rotation: Tensor,
    n: int,
    pixel_size_angstrom: float,
    *,
    shift_angstrom: Tensor | None = None,
    is_in_ice: bool = True,
    block_size: int = 4,
) -> Tensor:
    """Projected potential of atoms in many orientations, in V Å.

    Parameters
    ----------
    rotation
        (particle, 3, 3) map -> image coordinates, both (z, y, x).
    shift_angstrom
        (particle, 2) where the origin of the atoms lies, (y, x) from element n // 2; zero when None.
    block_size
        Particles at a time; memory is about ``block_size`` × 300 bytes an atom.

    Returns
    -------
    (particle, n, n) projections along z, positive where there is matter denser than ice, band-limited to the grid.
    """
    halves = _projection_transforms(atoms, rotation, n, pixel_size_angstrom, shift_angstrom, is_in_ice, block_size)
    return fourier.inverse(halves, (n, n))


def _projection_transforms(
    atoms: Atoms,
    rotation: Tensor,
    n: int,
    pixel_size_angstrom: float,
    shift_angstrom: Tensor | None,
    is_in_ice: bool,
    block_size: int,
) -> Tensor:
    """(particle, \\*half_shape) transforms of the projections."""
    fine = fourier.fast_size(math.ceil(1.5 * n))
    fine_size = n * pixel_size_angstrom / fine
    grid = fourier.frequency_length((n, n), pixel_size_angstrom)
    response = spline_response((n, n), fine / n) * pixel_size_angstrom**2
    kinds = [
        (index, weights, atomic_potential(element, grid, b_factor, is_in_ice=is_in_ice) / response)
        for element, index, weights, b_factor in atoms.kinds()
    ]
    coordinates = atoms.coordinates_angstrom.float()
    halves = torch.zeros(len(rotation), *grid.shape, dtype=torch.complex64)
    for start in range(0, len(rotation), block_size):
        block = slice(start, start + block_size)
        positions = torch.einsum("pij,aj->pai", rotation[block, 1:].float(), coordinates)
        if shift_angstrom is not None:
            positions = positions + shift_angstrom[block, None].float()
        positions = positions / fine_size + fine // 2
        for index, weights, factor in kinds:
            deposited = deposit(positions[:, index], weights, (fine, fine))
            halves[block] += fourier.crop_transform(fourier.transform(deposited), (fine, fine), (n, n)) * factor
    return halves
