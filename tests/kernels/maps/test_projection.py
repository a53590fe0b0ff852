"""Projection and insertion against points and Gaussians, whose projections are known, and against real particles."""

from pathlib import Path

import pytest
import starfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from kernels import fourier
from kernels.ctf import Defocus, ctf
from kernels.maps.fsc import fsc
from kernels.maps.projection import (
    Accumulator,
    centred_cube,
    half_disc,
    insert,
    map_of_cube,
    prepare_volume,
    project,
    slices,
)
from kernels.maps.reconstruction import reconstruct
from kernels.optics import Optics
from kernels.rotations import euler_to_matrix, random_rotations

SEED = 11


def axis(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.float32) - n // 2


def gaussians(centres: Tensor, sigma_px: float, n: int) -> Tensor:
    """(z, y, x) map of Gaussians of peak one at centres (m, 3) from the origin."""
    z, y, x = (torch.exp(-((axis(n) - c[:, None]) ** 2) / (2 * sigma_px**2)) for c in centres.unbind(-1))
    return torch.einsum("mz,my,mx->zyx", z, y, x)


def projected_gaussians(centres: Tensor, rotations: Tensor, sigma_px: float, n: int) -> Tensor:
    """(rotation, y, x) analytic projections of `gaussians`."""
    turned = torch.einsum("rij,mj->rmi", rotations, centres)
    y, x = (torch.exp(-((axis(n) - c[..., None]) ** 2) / (2 * sigma_px**2)) for c in turned[..., 1:].unbind(-1))
    return torch.einsum("rmy,rmx->ryx", y, x) * sigma_px * (2 * torch.pi) ** 0.5


def phantom(n: int, sigma_px: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    centres = torch.randn(40, 3, generator=generator)
    centres = centres / centres.norm(dim=-1, keepdim=True) * n * 0.3 * torch.rand(40, 1, generator=generator)
    return gaussians(centres, sigma_px, n), centres


@settings(deadline=None, max_examples=10)
@given(st.tuples(*[st.floats(-torch.pi, torch.pi)] * 3))
def test_a_point_projects_to_a_point(angles):
    n, sigma = 32, 1.2
    point = torch.tensor([[3.0, -5.0, 7.0]])
    rotation = euler_to_matrix(*torch.tensor(angles))
    image = fourier.inverse(project(prepare_volume(gaussians(point, sigma, n)), rotation), (n, n))
    truth = projected_gaussians(point, rotation[None], sigma, n)[0]
    # 8 %: where slice and grid coincide nothing is interpolated, and the correction for it stands alone
    assert_close(image, truth, atol=0.08 * float(truth.max()), rtol=0)
    y, x = torch.meshgrid(axis(n), axis(n), indexing="ij")
    near = truth > 0.1
    centre = torch.stack([(image * near * q).sum() / (image * near).sum() for q in (y, x)])
    true_centre = torch.stack([(truth * near * q).sum() / (truth * near).sum() for q in (y, x)])
    assert_close(centre, true_centre, atol=0.05, rtol=0)


@pytest.mark.parametrize("n", [40, 41])
def test_projections_of_gaussians_are_their_analytic_ones(n):
    density_map, centres = phantom(n, 1.5)
    rotations = random_rotations(8, torch.Generator().manual_seed(2))
    images = fourier.inverse(project(prepare_volume(density_map), rotations), (n, n))
    truth = projected_gaussians(centres, rotations, 1.5, n)
    assert (images - truth).norm() / truth.norm() < 0.015  # linear interpolation, twofold padding


def test_the_central_slice_is_the_transform_of_the_sum_along_z():
    n = 24
    density_map = phantom(n, 1.3)[0]
    points = half_disc(11)
    found = slices(prepare_volume(density_map), torch.eye(3), points)
    # padded coefficients at whole numbers need no interpolation, only the envelope is interpolated away
    corrected = prepare_volume(density_map, padding=4)
    truth = fourier.transform(density_map.sum(0))[points[:, 0], points[:, 1]]
    assert (found - truth).norm() / truth.norm() < 0.03
    assert (slices(corrected, torch.eye(3), points) - truth).norm() / truth.norm() < 0.01


def test_projection_into_a_smaller_box_is_a_fourier_crop():
    n, m = 48, 32
    density_map, centres = phantom(n, 3.0)
    rotations = random_rotations(3, torch.Generator().manual_seed(3))
    small = fourier.inverse(project(prepare_volume(density_map), rotations, box=m), (m, m)) * (m / n) ** 2
    truth = fourier.resample(projected_gaussians(centres, rotations, 3.0, n), (m, m))
    assert (small - truth).norm() / truth.norm() < 0.02


def test_opposite_coefficients_of_a_slice_are_conjugate():
    volume = prepare_volume(phantom(24, 1.5)[0])
    rotations = random_rotations(4, torch.Generator().manual_seed(4))
    points = half_disc(10)
    assert_close(slices(volume, rotations, -points), slices(volume, rotations, points).conj())


def test_the_half_disc_and_its_mates_fill_the_disc_once():
    points = half_disc(7.5)
    both = {tuple(p) for p in torch.cat([points, -points]).tolist()}
    assert len(both) == 2 * len(points)
    assert both == {(y, x) for y in range(-8, 9) for x in range(-8, 9) if 0 < y * y + x * x <= 7.5**2}


@pytest.mark.parametrize("n", [32, 33])
def test_project_and_insert_give_the_map_back(n):
    density_map = phantom(n, 0.9)[0]
    rotations = random_rotations(500, torch.Generator().manual_seed(5))
    points = half_disc(n / 2 - 1)
    accumulator = Accumulator.empty(n, n / 2 - 1)
    insert(accumulator, slices(prepare_volume(density_map), rotations, points), torch.ones(1), rotations, points)
    curve = fsc(reconstruct(accumulator), density_map)
    assert curve[: int(0.8 * n / 2) + 1].min() > 0.99


def test_insertion_is_the_adjoint_of_slicing():
    generator = torch.Generator().manual_seed(6)
    rotations, points = random_rotations(3, generator), half_disc(7)
    volume = prepare_volume(torch.randn(16, 16, 16, generator=generator))
    values = torch.complex(*torch.randn(2, 3, len(points), generator=generator))
    accumulator = Accumulator.empty(16)
    insert(accumulator, values, torch.ones(1), rotations, points)
    assert accumulator.radius == volume.radius
    there = (slices(volume, rotations, points).conj() * values).real.sum()
    back = (volume.coefficients * accumulator.data).sum()
    assert_close(there, back, rtol=1e-4, atol=1e-3)


def test_accumulators_of_parts_add_up_to_that_of_the_whole():
    rotations, points = random_rotations(6, torch.Generator().manual_seed(7)), half_disc(7)
    values = torch.ones(6, len(points), dtype=torch.complex64)
    parts = [Accumulator.empty(16) for _ in range(3)]
    for part, chosen in zip(parts, (slice(0, 2), slice(2, 6), slice(0, 6))):
        insert(part, values[chosen], torch.ones(1), rotations[chosen], points)
    assert_close((parts[0] + parts[1]).data, parts[2].data)
    with pytest.raises(ValueError, match="accumulators differ: box 16"):
        parts[0] + Accumulator.empty(20)


@pytest.mark.parametrize("n", [12, 13])
def test_a_cube_holds_the_padded_transform_and_gives_the_map_back(n):
    density_map = torch.randn(n, n, n, generator=torch.Generator().manual_seed(8))
    cube = centred_cube(density_map, 2 * n, 9)
    before = (2 * n) // 2 - n // 2
    padded = torch.nn.functional.pad(density_map, (before, n - before) * 3)
    full = fourier.transform(padded, 3)
    order = torch.arange(-9, 10) % (2 * n)
    assert_close(cube, full[order][:, order][..., :10], atol=1e-4, rtol=1e-4)
    smooth = gaussians(torch.tensor([[1.0, -0.5, 0.3]]), 1.2, n)
    back = map_of_cube(centred_cube(smooth, 2 * n, n), 2 * n, n)
    assert_close(back, smooth, atol=0.01, rtol=0)


def test_a_map_with_unequal_sides_is_refused():
    with pytest.raises(ValueError, match=r"three equal sides, found \(4, 4, 5\)"):
        prepare_volume(torch.zeros(4, 4, 5))


@pytest.mark.real
def test_published_poses_project_to_the_real_particles(real_data: Path):
    """TRPV1, EMPIAR-10059: Euler angles, origins and CTF as RELION wrote them; particles stored white."""
    import mrcfile

    folder = real_data / "particles" / "trpv1_EMPIAR-10059"
    tables = starfile.read(folder / "trpv1_small_stack.star")
    particles, optics_row = tables["particles"], tables["optics"]
    pixel = 4.88
    images = torch.from_numpy(mrcfile.read(folder / "trpv1_small_stack.mrcs").copy())
    density_map = torch.from_numpy(mrcfile.read(folder / "trpv1_volume.mrc").copy())
    row = optics_row.iloc[0] if hasattr(optics_row, "iloc") else optics_row
    optics = Optics(float(row["rlnVoltage"]), float(row["rlnSphericalAberration"]), 0.1, pixel)

    def column(name: str) -> Tensor:
        return torch.tensor(particles[name].to_numpy(), dtype=torch.float32)

    rotation = euler_to_matrix(*(torch.deg2rad(column(f"rlnAngle{name}")) for name in ("Rot", "Tilt", "Psi")))
    # an origin is the shift that centres the image
    shift_px = -torch.stack([column("rlnOriginYAngst"), column("rlnOriginXAngst")], dim=-1) / pixel
    defocus = Defocus(
        column("rlnDefocusU"), column("rlnDefocusV"), torch.deg2rad(column("rlnDefocusAngle")), torch.zeros(10)
    )
    transfer = ctf(fourier.frequencies((48, 48), pixel), defocus, optics)
    y, x = torch.meshgrid(axis(48), axis(48), indexing="ij")
    inside = torch.hypot(y, x) <= 20

    def correlations(rotation: Tensor, shift_px: Tensor) -> Tensor:
        projections = project(prepare_volume(density_map), rotation) * transfer * fourier.phase_ramp((48, 48), shift_px)
        a, b = (stack[:, inside] - stack[:, inside].mean(-1, keepdim=True) for stack in (
            fourier.inverse(projections, (48, 48)), images))  # fmt: skip
        return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))

    right = correlations(rotation, shift_px)
    assert (right < 0).all()  # white particles, and our CTF is negative at low frequency
    assert 0.24 < -right.mean() < 0.26
    assert -right.max() > 0.18 and -right.min() < 0.30
    assert -correlations(rotation.mT, shift_px).mean() < 0.20
    assert correlations(rotation, -shift_px).mean().abs() < 0.05
