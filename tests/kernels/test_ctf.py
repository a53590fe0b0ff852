"""The contrast transfer function against its defining properties."""

import math

import pytest
import torch
from torch.testing import assert_close

from kernels import fourier
from kernels.ctf import Defocus, ctf, phase_aberration
from kernels.optics import Optics, electron_wavelength_angstrom

KRIOS = Optics(voltage_kv=300, spherical_aberration_mm=2.7, amplitude_contrast=0.07, pixel_size_angstrom=1.0)


def test_the_wavelength_is_the_tabulated_one():
    # Reimer & Kohl, Transmission Electron Microscopy, table 2.1
    assert electron_wavelength_angstrom(300) == pytest.approx(0.019687, rel=1e-4)
    assert electron_wavelength_angstrom(200) == pytest.approx(0.025079, rel=1e-4)


def test_at_zero_frequency_only_amplitude_contrast_is_left():
    zero = torch.zeros(1, 2)
    assert_close(ctf(zero, Defocus.of(15000), KRIOS), torch.tensor([-0.07]))


def test_the_first_zero_lies_where_the_phase_is_pi():
    defocus = 20000.0
    k = math.sqrt(1 / (KRIOS.wavelength_angstrom * defocus))  # without Cs and amplitude contrast
    plain = Optics(300, 0.0, 0.0, 1.0)
    assert ctf(torch.tensor([[0.0, k]]), Defocus.of(defocus), plain).abs() < 1e-5


def test_the_larger_defocus_lies_along_its_angle():
    astigmatic = Defocus.of(20000, 15000, math.radians(30))
    k = 0.05
    for angle, value in ((30, 20000.0), (120, 15000.0)):
        vector = k * torch.tensor([[math.sin(math.radians(angle)), math.cos(math.radians(angle))]])
        expected = phase_aberration(vector, Defocus.of(value), KRIOS)
        assert_close(phase_aberration(vector, astigmatic, KRIOS), expected, atol=1e-3, rtol=0)


def test_a_batch_is_the_loop_over_its_members():
    grid = fourier.frequencies((16, 15), 1.2)
    values = [(20000.0, 18000.0, 0.3, 0.0), (9000.0, 9000.0, 0.0, 0.5)]
    batch = Defocus(*torch.tensor(values).T)
    assert_close(ctf(grid, batch, KRIOS), torch.stack([ctf(grid, Defocus.of(*v), KRIOS) for v in values]))


def test_impossible_optics_are_refused():
    with pytest.raises(ValueError, match="voltage_kv is 0"):
        Optics(0, 2.7, 0.1, 1.0)
