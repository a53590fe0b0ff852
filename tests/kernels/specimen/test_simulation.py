"""Image formation against analytic projections, known motion and the statistics of counting."""

import math

import pytest
import torch
from torch.testing import assert_close

from kernels import fourier
from kernels.ctf import Defocus, phase_aberration
from kernels.optics import Optics
from kernels.rotations import from_rotation_vector, random_rotations
from kernels.specimen.cage import cage_atoms
from kernels.specimen.potential import PENG_COEFFICIENTS, VOLT_ANGSTROM3_PER_ANGSTROM, Atoms, density_map
from kernels.specimen.simulation import (
    Beam,
    Ice,
    Particles,
    SpecimenMotion,
    box_size,
    coherence_envelope,
    contrast_frames,
    detected_counts,
    ice_spectrum,
    interaction_rad_per_volt_angstrom,
    project_atoms,
    random_detector,
    random_motion,
    random_positions,
    surviving_amplitude,
)

KRIOS = Optics(voltage_kv=300, spherical_aberration_mm=2.7, amplitude_contrast=0.1, pixel_size_angstrom=1.1)
SHAPE = (240, 288)
FIELD = (240 * 1.1, 288 * 1.1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_atoms(n: int, seed: int) -> Atoms:
    positions = (torch.rand(n, 3, generator=seeded(seed)) - 0.5) * 30
    return Atoms(positions, tuple("CNOS"[i % 4] for i in range(n)), torch.arange(n) % 3)


def one_particle_at(y_px: float, x_px: float, seed: int = 3) -> Particles:
    return Particles(torch.tensor([[y_px, x_px]]) * 1.1, random_rotations(1, seeded(seed)), torch.zeros(1))


def no_particles() -> Particles:
    return Particles(torch.zeros(0, 2), torch.zeros(0, 3, 3), torch.zeros(0))


def at_rest(n_frames: int) -> SpecimenMotion:
    zero = torch.zeros(n_frames)
    flat = torch.zeros(n_frames, 1, 2)
    return SpecimenMotion(
        torch.zeros(n_frames, 2), torch.zeros(2), zero, 100.0, torch.zeros(1, 2), torch.zeros(1), flat
    )


def shift_between(image, reference, lowest_angstrom=12.0):
    """(2,) Å by which ``image`` is moved against ``reference``: a plane fitted to phases at low frequency."""
    a, b = torch.fft.rfft2(image.double()), torch.fft.rfft2(reference.double())
    grid = fourier.frequencies(image.shape, 1.1).double()
    kept = (grid.norm(dim=-1) < 1 / lowest_angstrom) & (grid.norm(dim=-1) > 0)
    shift = torch.zeros(2, dtype=torch.float64)
    for _ in range(4):  # phases are taken about the last shift, so that they do not wrap
        product = a * b.conj() * torch.polar(torch.ones(1).double(), 2 * math.pi * (grid @ shift))
        weight = product.abs()[kept].sqrt()
        phase = product.angle()[kept] / (-2 * math.pi)
        shift = shift + torch.linalg.lstsq(grid[kept] * weight[:, None], (phase * weight)[:, None]).solution[:, 0]
    return shift.float()


def test_a_projection_is_the_sum_of_the_map_along_z():
    atoms = random_atoms(300, 1)
    projected = project_atoms(atoms, torch.eye(3)[None], 48, 1.2)[0]
    summed = density_map(atoms, 48, 1.2).sum(0) * 1.2
    assert_close(projected, summed, atol=2e-3 * float(summed.abs().max()), rtol=0)


def test_the_projection_of_an_atom_is_the_transform_of_its_scattering_factor():
    n, pixel_size, b = 64, 0.6, 40.0
    atom = Atoms(torch.tensor([[5.0, 2.1, -3.3]]), ("C",), torch.zeros(1), b)
    rotation = random_rotations(1, seeded(2))
    shift = torch.tensor([[1.3, -0.4]])
    image = project_atoms(atom, rotation, n, pixel_size, shift_angstrom=shift, is_in_ice=False)[0]
    centre = (rotation[0] @ atom.coordinates_angstrom[0])[1:] + shift[0]
    axis = (torch.arange(n) - n // 2) * pixel_size
    squared = (axis[:, None] - centre[0]) ** 2 + (axis[None] - centre[1]) ** 2
    expected = torch.zeros(n, n)
    for a, width in zip(*PENG_COEFFICIENTS["C"]):
        expected += a * 4 * math.pi / (width + b) * torch.exp(-4 * math.pi**2 * squared / (width + b))
    expected *= VOLT_ANGSTROM3_PER_ANGSTROM
    # 0.6 Å pixels cut the sharpest Gaussians off at 1.2 Å
    assert_close(image, expected, atol=0.01 * float(expected.max()), rtol=0)


def test_the_cage_looks_the_same_after_a_symmetry_rotation():
    quarter = from_rotation_vector(torch.tensor([math.pi / 2, 0.0, 0.0]))
    turn = random_rotations(1, seeded(4))[0]
    pair = project_atoms(cage_atoms(), torch.stack([turn, turn @ quarter]), 80, 2.0)
    assert_close(pair[0], pair[1], atol=1e-2 * float(pair.max()), rtol=0)


def test_the_interaction_parameter_is_the_tabulated_one():
    # Kirkland 2010, table 5.1 in rad/(V Å): 0.6526e-3 at 300 kV, 0.7288e-3 at 200 kV
    assert interaction_rad_per_volt_angstrom(300) == pytest.approx(0.6526e-3, rel=2e-3)
    assert interaction_rad_per_volt_angstrom(200) == pytest.approx(0.7288e-3, rel=2e-3)


def test_damage_is_near_the_published_law_but_not_the_same():
    k = torch.tensor([0.0, 0.05, 0.1, 0.2, 0.3])
    dose = torch.tensor([0.0, 5.0, 20.0, 40.0])
    left = surviving_amplitude(k, dose)
    published = torch.exp(-dose[:, None] / (2 * (0.245 * k.clamp(min=1e-3) ** -1.665 + 2.81)))
    assert_close(left[0], torch.ones(5))
    assert (left[1:] < left[:-1]).all()
    assert 0.01 < (left - published).abs().max() < 0.1


def test_coherence_leaves_low_frequencies_alone_and_no_contrast_grows():
    k = torch.linspace(0, 0.5, 50)
    envelope = coherence_envelope(k, 15000.0, KRIOS, Beam())
    assert envelope[0] == 1
    assert (envelope.diff() <= 0).all()
    assert 0.5 < envelope[(k - 1 / 3.5).abs().argmin()] < 0.98


def test_motion_starts_at_zero_and_slows_down():
    motion = random_motion(20, 2.0, FIELD, seeded(6), drift_angstrom=12.0, local_angstrom=5.0)
    corners = torch.tensor([[0.0, 0.0], [FIELD[0], FIELD[1]], [0.0, FIELD[1]], [FIELD[0] / 2, FIELD[1] / 2]])
    path = motion.at(corners)
    assert_close(path[:, 0], torch.zeros(4, 2))
    speed = path.diff(dim=1).norm(dim=-1)
    assert (speed[:, :3].mean(1) > 2 * speed[:, 10:].mean(1)).all()
    assert 1 < (path[:, -1] - path[:, -1].mean(0)).norm(dim=-1).max() < 10


@pytest.mark.parametrize("where", [(100.0, 120.0), (70.3, 201.6)])
def test_a_particle_moves_as_its_motion_says(where):
    motion = random_motion(6, 6.0, FIELD, seeded(21), drift_angstrom=8.0, local_angstrom=4.0)
    particles = one_particle_at(*where)
    frames = list(
        contrast_frames(cage_atoms(), particles, motion, SHAPE, Defocus.of(9000), KRIOS, 6.0, seeded(8), ice=None)
    )
    expected = motion.at(particles.position_angstrom)[0]
    found = torch.stack([shift_between(frame, frames[0]) for frame in frames])
    assert expected.norm(dim=-1).max() > 3
    assert_close(found, expected, atol=0.05, rtol=0)  # in Å


def test_ice_moves_as_the_specimen_does_drift_and_dome_included():
    motion = random_motion(4, 10.0, FIELD, seeded(9), drift_angstrom=9.0, local_angstrom=6.0)
    ice = Ice(diffusion_angstrom2=0.0, relief_volt_angstrom=0.0)
    frames = list(
        contrast_frames(
            cage_atoms(), no_particles(), motion, SHAPE, Defocus.of(12000), KRIOS, 10.0, seeded(10), ice=ice
        )
    )
    window = torch.hann_window(96, periodic=False)[:, None] * torch.hann_window(96, periodic=False)[None]
    for top, left in ((12, 20), (124, 170)):
        path = motion.at(torch.tensor([top + 47.5, left + 47.5]) * 1.1)
        # tiles that follow the specimen show the same piece of it
        followed = fourier.shift(torch.stack(frames), -path / 1.1)[:, top : top + 96, left : left + 96] * window
        found = torch.stack([shift_between(tile, followed[0], lowest_angstrom=6.0) for tile in followed])
        assert path.norm(dim=-1).max() > 3
        assert_close(found, torch.zeros_like(found), atol=0.15, rtol=0)  # the motion varies across a tile


def test_a_particle_at_the_edge_is_the_cut_of_one_in_a_larger_frame():
    motion = at_rest(1)
    inside = next(
        contrast_frames(
            cage_atoms(),
            one_particle_at(105, 120),
            motion,
            (300, 300),
            Defocus.of(12000),
            KRIOS,
            2.0,
            seeded(1),
            ice=None,
        )
    )
    cut = next(
        contrast_frames(
            cage_atoms(), one_particle_at(5, 20), motion, (150, 130), Defocus.of(12000), KRIOS, 2.0, seeded(1), ice=None
        )
    )
    assert_close(cut, inside[100:250, 100:230], atol=1e-5, rtol=0)


def test_protein_is_dark_and_its_own_height_changes_its_rings():
    particles = Particles(torch.tensor([[132.0, 158.0]]), torch.eye(3)[None], torch.zeros(1))
    high = Particles(particles.position_angstrom, particles.rotation, torch.tensor([3000.0]))
    arguments = (at_rest(1), SHAPE)
    rest = (KRIOS, 2.0, seeded(1))
    image = next(contrast_frames(cage_atoms(), particles, *arguments, Defocus.of(12000), *rest, ice=None))
    lifted = next(contrast_frames(cage_atoms(), high, *arguments, Defocus.of(12000), *rest, ice=None))
    elsewhere = next(contrast_frames(cage_atoms(), particles, *arguments, Defocus.of(15000), *rest, ice=None))
    disc = fourier.frequency_length(SHAPE).new_zeros(SHAPE)
    disc[80:160, 104:184] = 1
    assert (image * disc).sum() < 0
    assert_close(lifted, elsewhere, atol=0.01 * float(elsewhere.abs().max()), rtol=0)
    assert (lifted - image).abs().max() > 0.2 * image.abs().max()


def test_ice_has_the_spectrum_of_water_and_renews_itself_with_dose():
    shape, n_frames, dose = (400, 432), 12, 3.0
    frames = torch.stack(
        list(
            contrast_frames(
                cage_atoms(), no_particles(), at_rest(n_frames), shape, Defocus.of(10000), KRIOS, dose, seeded(11)
            )
        )
    )
    spectrum = torch.fft.rfft2(frames)
    k = fourier.frequency_length(shape, 1.1)

    def kept(low, high, lag):
        band = (k > low) & (k < high)
        a, b = spectrum[:-lag, band], spectrum[lag:, band]
        return float((a * b.conj()).real.mean() / (spectrum[:, band].abs() ** 2).mean())

    for low, high in ((0.025, 0.035), (0.09, 0.11)):
        middle = (low + high) / 2
        for lag in (1, 3):
            expected = math.exp(-2 * math.pi**2 * middle**2 * dose * lag)
            assert kept(low, high, lag) == pytest.approx(expected, abs=0.1)
    assert abs(kept(0.26, 0.28, 1)) < 0.1
    bulk = ice_spectrum(torch.tensor([0.03, 0.1, 0.27, 0.4]), Ice(relief_volt_angstrom=0.0))
    assert bulk[2] > 3 * bulk[1]  # the ring at 3.7 Å
    assert bulk[0] < 2 * bulk[1]


def test_thon_rings_lie_where_the_ctf_has_its_zeros():
    shape = (480, 512)
    defocus = Defocus.of(15000)
    frames = list(contrast_frames(cage_atoms(), no_particles(), at_rest(6), shape, defocus, KRIOS, 2.0, seeded(12)))
    power = (torch.fft.rfft2(torch.stack(frames).sum(0)).abs() ** 2).flatten()
    grid = fourier.frequencies(shape, 1.1)
    order = (phase_aberration(grid, defocus, KRIOS) / math.pi).flatten()
    for n in range(1, 6):
        at_zero = power[(order - n).abs() < 0.08].mean()
        at_maximum = power[(order - n - 0.5).abs() < 0.08].mean()
        assert at_zero < 0.3 * at_maximum


def test_counts_are_those_of_poisson_behind_the_gain():
    shape = (220, 260)
    detector = random_detector(shape, seeded(13), n_dead=20, n_hot=15)
    generator = seeded(14)
    counts = torch.stack([detected_counts(torch.full(shape, 2.4), detector, generator) for _ in range(40)])
    assert counts.dtype == torch.uint8
    good = ~(detector.is_dead | detector.is_hot)
    assert int((~good).sum()) == 35
    assert (counts[:, detector.is_dead] == 0).all()
    assert counts[:, detector.is_hot].float().mean() > 50
    values = counts[:, good].float()
    expected = 2.4 / detector.gain[good]
    # 40 frames of 57,165 pixels: the mean is known to 0.001
    assert float(values.mean()) == pytest.approx(float(expected.mean()), abs=0.004)
    assert float((values.var(0) / expected).mean()) == pytest.approx(1.0, abs=0.01)
    corrected = values.mean(0) * detector.gain[good]
    assert float(corrected.std()) == pytest.approx(math.sqrt(2.4 / 40), rel=0.05)
    assert 0.03 < float(detector.gain[good].std()) < 0.1


def test_particles_stand_out_as_in_a_good_session():
    frames = list(
        contrast_frames(
            cage_atoms(),
            one_particle_at(120, 144),
            at_rest(5),
            SHAPE,
            Defocus.of(14000),
            KRIOS,
            8.0,
            seeded(1),
            ice=None,
        )
    )
    image = torch.stack(frames).mean(0)
    y, x = torch.meshgrid(torch.arange(240.0) - 120, torch.arange(288.0) - 144, indexing="ij")
    inside = image[(y**2 + x**2) < (62.5 / 1.1) ** 2]
    shot = 1 / (40 * 1.1**2)
    assert 0.03 < float(inside.var()) / shot < 0.2


def test_positions_keep_their_distance_and_stay_near_the_field():
    points = random_positions(30, (1000.0, 1200.0), 140.0, 30.0, seeded(15))
    assert len(points) == 30
    distance = torch.cdist(points, points) + 1e6 * torch.eye(30)
    assert distance.min() >= 140
    assert points.min() >= -30
    assert (points.amax(0) <= torch.tensor([1030.0, 1230.0])).all()
    assert len(random_positions(100, (300.0, 300.0), 140.0, 0.0, seeded(16))) < 20


def test_a_box_holds_what_defocus_moves_out_of_the_particle():
    atoms = cage_atoms()
    radius = float(atoms.coordinates_angstrom.norm(dim=-1).max())
    for defocus in (8000.0, 20000.0):
        reach = radius + KRIOS.wavelength_angstrom * defocus / 3.5
        assert box_size(atoms, defocus, KRIOS) * 1.1 / 2 > reach
