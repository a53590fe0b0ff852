"""Power spectra and CTF fits against micrographs whose CTF, drift and noise are known."""

import math

import pytest
import torch
from torch.testing import assert_close

from kernels import fourier
from kernels.ctf import Defocus, ctf
from kernels.micrographs.ctf_fit import fit_ctf
from kernels.micrographs.power_spectrum import (
    Blur,
    averaged_power_spectrum,
    directional_blur,
    ice_ring_ratio,
    polar_spectrum,
    square_spectrum,
)
from kernels.optics import Optics
from tests.truth.thon_rings import KRIOS, SHAPE, micrograph


@pytest.fixture(autouse=True)
def _one_thread():
    """Many small operations: on a busy machine, threads that wait for each other cost more than they do."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def fitted(image: torch.Tensor, optics: Optics = KRIOS, resolution=(30.0, 3.5), **options):
    spectrum = polar_spectrum(averaged_power_spectrum(image, optics.pixel_size_angstrom))
    return fit_ctf(spectrum.between(1 / resolution[0], 1 / resolution[1]), optics, **options)


def angle_error_deg(fit, angle_deg: float) -> float:
    return abs((math.degrees(float(fit.defocus.angle_rad)) - angle_deg + 90) % 180 - 90)


@pytest.mark.parametrize(
    ("u", "v", "angle_deg"),
    [
        (21300.0, 20200.0, 25.0),
        (21300.0, 20200.0, 155.0),
        (15100.0, 13000.0, 85.0),
        (9000.0, 8800.0, 0.0),
        (32000.0, 31000.0, 50.0),
    ],
)
def test_the_fit_gives_back_defocus_and_astigmatism_and_not_its_mirror(u, v, angle_deg):
    fit = fitted(micrograph(Defocus.of(u, v, math.radians(angle_deg)), rings=6.0))
    assert float(fit.defocus.mean_angstrom) == pytest.approx((u + v) / 2, abs=40)
    assert float(fit.defocus.astigmatism_angstrom) == pytest.approx(u - v, abs=60)
    assert angle_error_deg(fit, angle_deg) < 60 / (u - v) * 57.3 / 2 + 1
    assert fit.correlation > 0.8


def test_the_reported_deviation_is_the_scatter_of_the_fits():
    fits = [fitted(micrograph(Defocus.of(18000, 17600, 0.4), seed=s, rings=2.0, shape=(640, 700))) for s in range(8)]
    means = torch.stack([f.defocus.mean_angstrom for f in fits])
    scatter = float((means - 17800).square().mean().sqrt())
    assert 0.4 < scatter / fits[0].deviation_angstrom < 2.5


def test_fainter_rings_are_trusted_to_a_lower_resolution():
    strong = fitted(micrograph(Defocus.of(16000), rings=3.0))
    faint = fitted(micrograph(Defocus.of(16000), rings=0.4))
    assert strong.fit_resolution_angstrom < 4.5
    assert faint.fit_resolution_angstrom > 1.2 * strong.fit_resolution_angstrom


def test_noise_without_rings_is_trusted_nowhere():
    fit = fitted(micrograph(None))
    assert fit.fit_resolution_angstrom > 8


def test_a_phase_plate_is_fitted_with_the_defocus():
    candidates = torch.arange(12) * (math.pi / 12)
    fit = fitted(micrograph(Defocus.of(8000, 7800, 0.3, math.radians(70)), rings=3.0), phase_shifts_rad=candidates)
    assert math.degrees(float(fit.defocus.phase_shift_rad)) == pytest.approx(70, abs=8)
    assert float(fit.defocus.mean_angstrom) == pytest.approx(7900, abs=150)


def test_a_super_resolution_micrograph_keeps_its_rings():
    fine = Optics(300, 2.7, 0.1, 0.55)
    spectrum = averaged_power_spectrum(micrograph(Defocus.of(15000), optics=fine, shape=(1400, 1500)), 0.55)
    fit = fit_ctf(polar_spectrum(spectrum).between(1 / 30, 1 / 3.5), fine)
    assert float(fit.defocus.mean_angstrom) == pytest.approx(15000, abs=40)


def test_white_noise_has_a_flat_spectrum_equal_to_one():
    image = torch.randn(700, 900, generator=torch.Generator().manual_seed(3))
    spectrum = polar_spectrum(averaged_power_spectrum(image, 1.5))
    profile = spectrum.between(1 / 50, 1 / 3.1).profile
    assert_close(profile, torch.ones_like(profile), atol=0.3, rtol=0)


def test_the_picture_of_a_spectrum_shows_the_rings_of_its_ctf():
    defocus = Defocus.of(12000, 11000, 0.5)
    picture = square_spectrum(averaged_power_spectrum(micrograph(defocus, rings=6.0), 1.1), 256)
    assert picture.shape == (256, 129)
    grid = fourier.frequencies((256, 256), 1.1)
    band = (grid.norm(dim=-1) > 1 / 20) & (grid.norm(dim=-1) < 1 / 8)
    right, mirrored = (ctf(grid, d, KRIOS).square()[band] for d in (defocus, Defocus.of(12000, 11000, -0.5)))
    agreement = [float(torch.corrcoef(torch.stack([picture[band], model]))[0, 1]) for model in (right, mirrored)]
    assert agreement[0] > 0.5
    assert agreement[0] > agreement[1] + 0.02


def test_each_coefficient_is_in_one_bin_along_its_own_direction():
    spectrum = polar_spectrum(averaged_power_spectrum(torch.randn(300, 300), 2.0), n_directions=30)
    used = spectrum.n_pixels > 0
    middle = (torch.arange(30) + 0.5) * (math.pi / 30)
    difference = (spectrum.angle_rad - middle[:, None] + math.pi / 2) % math.pi - math.pi / 2
    assert float(difference[used].abs().max()) <= math.pi / 60 + 1e-4


@pytest.mark.parametrize(("extent", "angle_deg"), [(12.0, 30.0), (30.0, 120.0), (70.0, 96.0)])
def test_drift_is_measured_in_length_and_direction(extent, angle_deg):
    drifted = micrograph(Defocus.of(20000, 19500, 0.3), blur=Blur(extent, math.radians(angle_deg)))
    spectrum = polar_spectrum(averaged_power_spectrum(drifted, 1.1))
    blur = directional_blur(spectrum.between(1 / 100, 1 / 8))
    assert blur.extent_angstrom == pytest.approx(extent, rel=0.2)
    assert abs((math.degrees(blur.angle_rad) - angle_deg + 90) % 180 - 90) < 8


@pytest.mark.parametrize("defocus", [Defocus.of(18000), Defocus.of(18000, 14500, 0.7)])
def test_a_still_specimen_shows_little_drift_even_when_astigmatic(defocus):
    spectrum = polar_spectrum(averaged_power_spectrum(micrograph(defocus), 1.1))
    assert directional_blur(spectrum.between(1 / 100, 1 / 8)).extent_angstrom < 8


def test_drift_does_not_mislead_the_defocus():
    blur = Blur(10.0, math.radians(20))
    image = micrograph(Defocus.of(17000, 16200, 1.0), blur=blur, rings=6.0)
    spectrum = polar_spectrum(averaged_power_spectrum(image, 1.1)).between(1 / 30, 1 / 4)
    fit = fit_ctf(spectrum, KRIOS, blur=blur)
    assert float(fit.defocus.mean_angstrom) == pytest.approx(16600, abs=60)
    assert float(fit.defocus.astigmatism_angstrom) == pytest.approx(800, abs=150)


def test_crystalline_ice_stands_out_of_the_spectrum():
    image = micrograph(Defocus.of(15000))
    grid = fourier.frequency_length(SHAPE, 1.1)
    crystals = torch.fft.rfftn(torch.randn(SHAPE, generator=torch.Generator().manual_seed(9)))
    ring = torch.fft.irfftn(crystals * torch.exp(-(((grid - 1 / 3.67) / 0.002) ** 2)), s=SHAPE) * 9
    clean, icy = (polar_spectrum(averaged_power_spectrum(i, 1.1)) for i in (image, image + ring))
    assert ice_ring_ratio(clean) == pytest.approx(1.0, abs=0.15)
    assert ice_ring_ratio(icy) > 2
    assert ice_ring_ratio(polar_spectrum(averaged_power_spectrum(image, 2.5))) is None


def test_a_micrograph_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match=r"128 px or more .* found \(100, 400\)"):
        averaged_power_spectrum(torch.randn(100, 400), 1.1)


def test_a_range_with_too_few_shells_is_refused():
    spectrum = polar_spectrum(averaged_power_spectrum(torch.randn(256, 256), 1.1))
    with pytest.raises(ValueError, match="20 or more frequency shells"):
        fit_ctf(spectrum.between(1 / 30, 1 / 20), KRIOS)
