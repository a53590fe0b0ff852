"""Projection through the Fourier slice theorem, and its adjoint: slices of a padded volume, and insertion into one.

A map is padded in real space, so that linear interpolation between its Fourier coefficients is good enough, and
divided by the envelope that linear interpolation multiplies it with. Volumes in Fourier space hold a cube around the
origin only: centred in z and y, x >= 0, out to the radius that is needed. The frequency of coefficient ``k`` of an
image is ``k / box`` cycles per pixel; images and maps may have different boxes over one field of view.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FourierVolume:
    """Fourier coefficients of a padded map, ready for slicing."""

    coefficients: Tensor
    """(2, 2 r + 1, 2 r + 1, r + 1) real and imaginary part; z and y centred, x from zero. (8, …) with the transforms
    of the map times z, y and x after them, which slopes are made of."""
    box: int
    """Edge of the map in pixels before padding."""
    padding: int

    @property
    def radius(self) -> int:
        return self.coefficients.shape[-1] - 1

    @property
    def max_radius_px(self) -> float:
        """Largest radius, in coefficients of an image, that a slice has values at."""
        return (self.radius - 1) / self.padding


@dataclass(frozen=True)
class Accumulator:
    """Sums of back-projected coefficients; accumulators of parts of a data set add up (`__add__`)."""

    data: Tensor
    """(2, 2 r + 1, 2 r + 1, r + 1) sum of weighted coefficients, real and imaginary part."""
    weight: Tensor
    """(2 r + 1, 2 r + 1, r + 1) sum of weights, for instance CTF² / noise power."""
    box: int
    padding: int

    @classmethod
    def empty(
        cls, box: int, max_radius_px: float | None = None, padding: int = 2, *, device: torch.device | str = "cpu"
    ) -> Accumulator:
        """Sums of nothing, for images of ``box`` pixels out to ``max_radius_px`` coefficients (default Nyquist)."""
        shape = _cube(_radius(box, max_radius_px, padding))
        return cls(torch.zeros(2, *shape, device=device), torch.zeros(shape, device=device), box, padding)

    @property
    def radius(self) -> int:
        return self.weight.shape[-1] - 1

    @property
    def max_radius_px(self) -> float:
        return (self.radius - 1) / self.padding

    def __add__(self, other: Accumulator) -> Accumulator:
        if (self.box, self.padding, self.radius) != (other.box, other.padding, other.radius):
            raise ValueError(
                f"accumulators differ: box {self.box}, padding {self.padding}, radius {self.radius} and box "
                f"{other.box}, padding {other.padding}, radius {other.radius}; they must come from one geometry"
            )
        return Accumulator(self.data + other.data, self.weight + other.weight, self.box, self.padding)


def prepare_volume(
    density_map: Tensor, padding: int = 2, max_radius_px: float | None = None, *, with_slopes: bool = False
) -> FourierVolume:
    """Padded, interpolation-corrected transform of a map (z, y, x), out to ``max_radius_px`` (default Nyquist).

    With slopes, `slices_and_slopes` can be taken of it.
    """
    box = density_map.shape[-1]
    if density_map.shape != (box, box, box):
        raise ValueError(f"a map to project has three equal sides, found {tuple(density_map.shape)}")
    corrected = density_map / interpolation_envelope(box, padding, device=density_map.device).to(density_map)
    axis = torch.arange(box, device=density_map.device).to(density_map) - box // 2
    moments = [torch.ones_like(axis)[:, None, None]]
    if with_slopes:
        moments += [axis[:, None, None], axis[:, None], axis]
    cubes = []
    for moment in moments:
        cube = centred_cube(corrected * moment, padding * box, _radius(box, max_radius_px, padding))
        cubes += [cube.real, cube.imag]
    # values of one coefficient side by side in memory: interpolation is bound by where it reads
    return FourierVolume(torch.stack(cubes, dim=-1).movedim(-1, 0), box, padding)


def half_disc(max_radius_px: float, *, device: torch.device | str = "cpu") -> Tensor:
    """(c, 2) int64 coefficient numbers (y, x) of a half-transform within a radius, each independent one once.

    The origin is left out, and so is the half of the column x = 0 that repeats the other; of a box they fit into,
    all other coefficients follow by Friedel symmetry. Sums over them need no Hermitian weights.
    """
    r = math.floor(max_radius_px)
    y, x = torch.meshgrid(torch.arange(-r, r + 1, device=device), torch.arange(0, r + 1, device=device), indexing="ij")
    kept = (y * y + x * x <= max_radius_px**2) & ((x > 0) | (y > 0))
    points = torch.stack([y[kept], x[kept]], dim=-1)
    return points[points.float().norm(dim=-1).argsort(stable=True)]


def gather(half_transform: Tensor, points: Tensor) -> Tensor:
    """(..., c) coefficients of centred half-transforms (..., y, x_half) at ``points`` (c, 2) of `half_disc`."""
    return half_transform[..., points[:, 0], points[:, 1]]


def slices(volume: FourierVolume, rotations: Tensor, points: Tensor) -> Tensor:
    """Central slices at chosen coefficients.

    Parameters
    ----------
    rotations
        (..., 3, 3) take map to image coordinates.
    points
        (c, 2) coefficients (y, x) of the image, not necessarily whole numbers.

    Returns
    -------
    (..., c) complex; phase origin at element n // 2. Zero beyond the volume's radius.
    """
    return _interpolated(volume, rotations, points, 2).squeeze(-2)


def slices_and_slopes(volume: FourierVolume, rotations: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Central slices (..., c), and their derivatives (..., c, 3) by a small rotation of the particle.

    The rotation is ``from_rotation_vector(v) @ rotation`` with v in the frame of the image, (z, y, x), in radians;
    the derivative is that of the transform itself, not of its interpolation. Needs a volume with slopes.
    """
    found = _interpolated(volume, rotations, points, 8)
    # transforms of (z, y, x) · map in the frame of the image
    moment_z, moment_y, moment_x = torch.einsum("...ij,...jc->i...c", rotations.to(found), found[..., 1:, :])
    y, x = (points.to(rotations) * (2 * math.pi / volume.box)).unbind(-1)
    # v moves the frequency k of the slice to k - v × k, and d/dk is -2 πi · position
    slopes = torch.stack([moment_x * y - moment_y * x, moment_z * x, -moment_z * y], dim=-1) * -1j
    return found[..., 0, :], slopes


def _interpolated(volume: FourierVolume, rotations: Tensor, points: Tensor, n_channels: int) -> Tensor:
    """(..., n_channels / 2, c) complex coefficients of the quantities that a volume holds."""
    batch = rotations.shape[:-2]
    position, is_mate = _positions(rotations.reshape(-1, 3, 3), points, volume.padding)
    grid = position.flip(-1) / volume.radius
    grid = torch.cat([2 * grid[..., :1] - 1, grid[..., 1:]], dim=-1)
    values = torch.nn.functional.grid_sample(
        volume.coefficients[None, :n_channels], grid.reshape(1, -1, 1, 1, 3).to(volume.coefficients), align_corners=True
    )
    real, imaginary = values.reshape(n_channels // 2, 2, *is_mate.shape).unbind(1)
    found = torch.complex(real, torch.where(is_mate, -imaginary, imaginary))
    return found.movedim(0, -2).reshape(*batch, n_channels // 2, -1)


def project(
    volume: FourierVolume, rotations: Tensor, box: int | None = None, max_radius_px: float | None = None
) -> Tensor:
    """(..., y, x_half) centred half-transforms of the projections of a map along the z axis of the image.

    ``box`` is the size of the images over the field of view of the map (default: that of the map). Coefficients
    beyond ``max_radius_px`` and at the Nyquist frequency are zero; the mean is that of the map.
    """
    box = volume.box if box is None else box
    limit = min(volume.max_radius_px, (box - 1) / 2, math.inf if max_radius_px is None else max_radius_px)
    points = half_disc(limit, device=rotations.device)
    return scatter(slices(volume, rotations, torch.cat([points.new_zeros(1, 2), points])), points, box)


def scatter(values: Tensor, points: Tensor, box: int) -> Tensor:
    """(..., y, x_half) half-transform from values (..., c + 1) at the origin and at ``points`` of `half_disc`."""
    out = torch.zeros(*values.shape[:-1], box, box // 2 + 1, dtype=values.dtype, device=values.device)
    out[..., 0, 0] = values[..., 0].real.to(values.dtype)
    out[..., points[:, 0] % box, points[:, 1]] = values[..., 1:]
    on_axis = points[:, 1] == 0
    out[..., -points[on_axis, 0] % box, 0] = values[..., 1:][..., on_axis].conj()
    return out


def insert(accumulator: Accumulator, values: Tensor, weights: Tensor, rotations: Tensor, points: Tensor) -> None:
    """Add slices to the sums, in place; the adjoint of `slices`.

    Parameters
    ----------
    values
        (..., c) weighted coefficients, for instance CTF · image / noise power, centred on the particle.
    weights
        (..., c) their weights, for instance CTF² / noise power.
    rotations
        (..., 3, 3) map to image.
    points
        (c, 2) coefficients (y, x); each Friedel pair once, as `half_disc` gives them.
    """
    position, is_mate = _positions(rotations.reshape(-1, 3, 3), points, accumulator.padding)
    r = accumulator.radius
    inside = ((position[..., :2].abs() <= r - 1) & (position[..., 2:] <= r - 1)).all(-1).reshape(-1)
    position = position.reshape(-1, 3)[inside] + position.new_tensor([r, r, 0])
    corner = position.floor()
    fraction = position - corner
    stride_z, stride_y = (2 * r + 1) * (r + 1), r + 1
    whole = corner.long()
    first = whole[:, 0] * stride_z + whole[:, 1] * stride_y + whole[:, 2]
    values = values.expand(*rotations.shape[:-2], len(points)).reshape(-1)[inside]
    imaginary = torch.where(is_mate.reshape(-1)[inside], -values.imag, values.imag)
    weights = weights.expand(*rotations.shape[:-2], len(points)).reshape(-1)[inside]
    channels = (
        (accumulator.data[0].view(-1), values.real),
        (accumulator.data[1].view(-1), imaginary),
        (accumulator.weight.view(-1), weights),
    )
    z, y, x = fraction.unbind(-1)
    for dz, share_z in ((0, 1 - z), (1, z)):
        for dy, share_y in ((0, 1 - y), (1, y)):
            for dx, share_x in ((0, 1 - x), (1, x)):
                index = first + (dz * stride_z + dy * stride_y + dx)
                share = share_z * share_y * share_x
                for total, part in channels:
                    total.index_add_(0, index, part * share)


def interpolation_envelope(box: int, padding: int, *, device: torch.device | str = "cpu") -> Tensor:
    """(z, y, x) factor by which linear interpolation in a padded Fourier volume multiplies the map."""
    position = (torch.arange(box, device=device) - box // 2) / (padding * box)
    profile = torch.sinc(position) ** 2
    return profile[:, None, None] * profile[:, None] * profile


def centred_cube(density_map: Tensor, padded: int, radius: int) -> Tensor:
    """(2 r + 1, 2 r + 1, r + 1) coefficients of a map (z, y, x), zero-padded to ``padded``: z, y centred, x from zero.

    The phase origin is element n // 2. One axis is transformed after the other and cut at once, a fifth of the work
    of the padded transform.
    """
    n = density_map.shape[-1]
    reach = min(radius, (padded - 1) // 2)
    values = density_map
    for axis in (2, 1, 0):
        order = torch.arange(0 if axis == 2 else -reach, reach + 1, device=density_map.device)
        transform = torch.fft.rfft if axis == 2 else torch.fft.fft
        values = transform(values, n=padded, dim=axis).index_select(axis, order % padded)
        angle = order * (2 * math.pi * (n // 2) / padded)
        values = values * torch.polar(torch.ones_like(angle), angle).view([-1 if a == axis else 1 for a in range(3)])
    margin = radius - reach
    return torch.nn.functional.pad(values, (0, margin, margin, margin, margin, margin)) if margin else values


def map_of_cube(cube: Tensor, padded: int, size: int) -> Tensor:
    """(z, y, x) innermost ``size`` voxels a side of the map of edge ``padded`` with these coefficients.

    Undoes `centred_cube` up to what lies beyond its radius, axis after axis too.
    """
    radius = cube.shape[-1] - 1
    reach = min(radius, (padded - 1) // 2)
    inner = slice(radius - reach, radius + reach + 1)
    values = cube[inner, inner, : reach + 1]
    order = torch.arange(-reach, reach + 1, device=cube.device) % padded
    place = (torch.arange(size, device=cube.device) - size // 2) % padded
    for axis in (0, 1):
        shape = list(values.shape)
        shape[axis] = padded
        spread = torch.zeros(shape, dtype=cube.dtype, device=cube.device).index_copy_(axis, order, values)
        values = torch.fft.ifft(spread, dim=axis).index_select(axis, place)
    return torch.fft.irfft(values, n=padded, dim=2).index_select(2, place)


def _positions(rotations: Tensor, points: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """(m, c, 3) coordinates R^T (0, y, x) in the padded volume with x >= 0, and (m, c) where Friedel's mate stands."""
    in_plane = points.to(rotations) * padding
    position = in_plane @ rotations[:, 1:, :]
    is_mate = position[..., 2] < 0
    return torch.where(is_mate[..., None], -position, position), is_mate


def _radius(box: int, max_radius_px: float | None, padding: int) -> int:
    """Radius of the cube in padded coefficients: one more than needed, for the neighbours of interpolation."""
    limit = box / 2 if max_radius_px is None else min(max_radius_px, box / 2)
    return math.ceil(limit * padding) + 1


def _cube(radius: int) -> tuple[int, int, int]:
    return (2 * radius + 1, 2 * radius + 1, radius + 1)
