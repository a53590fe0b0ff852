"""Maps on other grids: voxels that are not cubes made cubic."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def on_cubic_voxels(voxels: Tensor, voxel_sizes: Sequence[float]) -> tuple[Tensor, float]:
    """A map sampled on cubes of its finest voxel size; element (0, 0, 0) stays where it is.

    Along each axis the map is its own periodic band-limited continuation, so nothing of it is lost.

    Parameters
    ----------
    voxels
        (z, y, x)
    voxel_sizes
        Size of a voxel along z, y and x, in any unit.

    Returns
    -------
    The map, with as many voxels as lie between the first and the last given sample, and the size of a voxel.
    """
    finest = min(voxel_sizes)
    for axis, (n, size) in enumerate(zip(voxels.shape, voxel_sizes)):
        if size == finest:
            continue
        n_new = int((n - 1) * size / finest + 1e-6) + 1
        position = torch.arange(n_new, dtype=torch.float64, device=voxels.device) * (finest / size)
        weights = _periodic_sinc(position, n).to(voxels.dtype)
        voxels = torch.tensordot(voxels, weights, dims=([axis], [1])).movedim(-1, axis)
    return voxels.contiguous(), finest


def _periodic_sinc(position: Tensor, n: int) -> Tensor:
    """(position, n) weights of n samples in the band-limited function of period n through them."""
    distance = torch.pi * (position[:, None] - torch.arange(n, dtype=position.dtype, device=position.device))
    # sin is divided by tan for even n, so that the Nyquist term stays a cosine
    envelope = torch.sin(distance / n) if n % 2 else torch.tan(distance / n)
    is_hit = envelope.abs() < 1e-12
    weights = torch.sin(distance) / (n * envelope.masked_fill(is_hit, 1.0))
    return weights.masked_fill(is_hit, 1.0)
