"""Frequency grids, transforms, shifts and resampling: the one home of the transform conventions.

Images have their origin at element ``n // 2`` of each axis. ``transform`` moves that origin to the phase
origin before the FFT, so that the transform of a centred, symmetric object is real. Half-transforms are as
``rfft`` returns them, zero frequency first; nothing is normalised on the way in, ``inverse`` divides by n.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

Shape = tuple[int, ...]


def transform(image: Tensor, ndim: int = 2) -> Tensor:
    """Half-transform over the last ``ndim`` axes with the phase origin at element ``n // 2``."""
    axes = tuple(range(-ndim, 0))
    return torch.fft.rfftn(torch.fft.ifftshift(image, dim=axes), dim=axes)


def inverse(half_transform: Tensor, shape: Sequence[int]) -> Tensor:
    """Real image of the given ``shape`` (last ``len(shape)`` axes) from a half-transform; undoes `transform`."""
    axes = tuple(range(-len(shape), 0))
    return torch.fft.fftshift(torch.fft.irfftn(half_transform, s=tuple(shape), dim=axes), dim=axes)


def frequencies(shape: Sequence[int], spacing: float = 1.0, *, device: torch.device | str = "cpu") -> Tensor:
    """Frequency vectors of a half-transform, slowest axis first.

    Parameters
    ----------
    shape
        Real-space shape, for instance (y, x) or (z, y, x).
    spacing
        Pixel size; with Å the result is in 1/Å, with 1 in cycles per pixel.

    Returns
    -------
    (\\*half_shape, ndim) float32 frequencies.
    """
    return _frequencies(tuple(int(n) for n in shape), float(spacing), str(device))


@lru_cache(maxsize=32)
def _frequencies(shape: Shape, spacing: float, device: str) -> Tensor:
    axes = [torch.fft.fftfreq(n, d=spacing, device=device) for n in shape[:-1]]
    axes.append(torch.fft.rfftfreq(shape[-1], d=spacing, device=device))
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def frequency_length(shape: Sequence[int], spacing: float = 1.0, *, device: torch.device | str = "cpu") -> Tensor:
    """(\\*half_shape) length of the frequency vectors of `frequencies`."""
    return frequencies(shape, spacing, device=device).norm(dim=-1)


def shell_index(shape: Sequence[int], *, device: torch.device | str = "cpu") -> Tensor:
    """(\\*half_shape) int64 shell number of each coefficient; shell s lies at s / max(shape) cycles per pixel.

    For a square or cubic shape this is the Fourier radius in pixels; corners exceed ``n // 2``.
    """
    return (frequency_length(shape, device=device) * max(shape)).round().long()


def shell_sums(values: Tensor, index: Tensor, n_shells: int) -> Tensor:
    """(..., shell) sums of ``values`` (..., \\*half_shape) by ``index`` (\\*half_shape); larger shells are dropped."""
    flat_index = index.reshape(-1)
    kept = flat_index < n_shells
    flat = values.reshape(*values.shape[: values.ndim - index.ndim], -1)[..., kept]
    sums = torch.zeros(*flat.shape[:-1], n_shells, dtype=values.dtype, device=values.device)
    return sums.index_add_(-1, flat_index[kept], flat)


def hermitian_weights(shape: Sequence[int], *, device: torch.device | str = "cpu") -> Tensor:
    """(x_half,) how often each column of a half-transform stands in the full one: 1 at zero and Nyquist, else 2."""
    n = int(shape[-1])
    weights = torch.full((n // 2 + 1,), 2.0, device=device)
    weights[0] = 1.0
    if n % 2 == 0:
        weights[-1] = 1.0
    return weights


def phase_ramp(shape: Sequence[int], shift_px: Tensor) -> Tensor:
    """Factors that move an image by ``shift_px``.

    Parameters
    ----------
    shift_px
        (..., ndim) shift in the order of the axes; positive moves the content to larger indices.

    Returns
    -------
    (..., \\*half_shape) complex factors for a half-transform.
    """
    ndim = len(shape)
    factors = torch.ones((), device=shift_px.device)
    for axis, n in enumerate(shape):  # a product of one ramp an axis: no sine and cosine for every coefficient
        axis_frequencies = torch.fft.fftfreq if axis < ndim - 1 else torch.fft.rfftfreq
        along = axis_frequencies(n, device=shift_px.device, dtype=shift_px.dtype)
        angle = -2 * torch.pi * along * shift_px[..., axis, None]
        ramp = torch.polar(torch.ones_like(angle), angle)
        factors = factors * ramp.reshape(*ramp.shape[:-1], *[1] * axis, ramp.shape[-1], *[1] * (ndim - 1 - axis))
    return factors


def shift(image: Tensor, shift_px: Tensor) -> Tensor:
    """Image moved periodically by ``shift_px`` (..., ndim), sub-pixel steps included; ndim is that of the shift."""
    ndim = shift_px.shape[-1]
    shape = image.shape[-ndim:]
    axes = tuple(range(-ndim, 0))
    moved = torch.fft.rfftn(image, dim=axes) * phase_ramp(shape, shift_px.to(image))
    return torch.fft.irfftn(moved, s=shape, dim=axes)


def crop_transform(half_transform: Tensor, shape: Sequence[int], new_shape: Sequence[int]) -> Tensor:
    """Half-transform for another real-space shape: cut off or zero-pad high frequencies.

    The coefficients are kept as they are; values in real space scale with prod(shape) / prod(new_shape).
    A Nyquist row that only one of the two shapes has is zeroed, so the result stays the transform of a real
    image.
    """
    ndim = len(shape)
    half_new = (*new_shape[:-1], new_shape[-1] // 2 + 1)
    out = torch.zeros(
        *half_transform.shape[:-ndim], *half_new, dtype=half_transform.dtype, device=half_transform.device
    )
    source: list[Tensor] = []
    target: list[Tensor] = []
    for axis, (n, m) in enumerate(zip(shape, new_shape)):
        kept = (min(n, m) - 1) // 2 if n != m else n // 2
        positive = torch.arange(0, kept + 1)
        if axis == ndim - 1:
            source.append(positive)
            target.append(positive)
            continue
        negative = torch.arange(-kept if n != m else -((n - 1) // 2), 0)
        source.append(torch.cat([positive, negative + n]))
        target.append(torch.cat([positive, negative + m]))
    rows, columns = torch.meshgrid(*target, indexing="ij"), torch.meshgrid(*source, indexing="ij")
    out[(Ellipsis, *rows)] = half_transform[(Ellipsis, *columns)]  # type: ignore[index]
    return out


def resample(image: Tensor, new_shape: Sequence[int]) -> Tensor:
    """Image sampled on another number of pixels over the same field of view (Fourier crop or pad).

    Grey values are kept: a constant stays that constant. The origin stays at element ``n // 2``.
    """
    ndim = len(new_shape)
    shape = tuple(image.shape[-ndim:])
    if shape == tuple(new_shape):
        return image
    scale = 1.0
    for n, m in zip(shape, new_shape):
        scale *= m / n
    return inverse(crop_transform(transform(image, ndim), shape, new_shape), new_shape) * scale


def low_passed(image: Tensor, spacing: float, resolution: float, ndim: int = 3) -> Tensor:
    """Image or map without anything finer than ``resolution``, which has the unit of ``spacing``; a sharp edge."""
    shape = tuple(image.shape[-ndim:])
    inside = frequency_length(shape, spacing, device=image.device) < 1 / resolution
    return inverse(transform(image, ndim) * inside, shape)


def fast_size(n: int) -> int:
    """Smallest even number not below ``n`` whose prime factors are 2, 3 and 5, so that FFTs of it are quick."""
    size = n + n % 2
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 2
