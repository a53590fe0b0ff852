"""The map that is built in, so that another one is left to compare rounds by."""

from __future__ import annotations

from kernels import fourier
from kernels.maps.grid import DensityGrid
from tasks.stores.products.map_store import density_grid, half_grids
from tasks.stores.session_store import SessionStore


def first_half_like(store: SessionStore, name: str, halves: str | None) -> DensityGrid | None:
    """The first half map of ``maps/<halves>``, filtered as ``maps/<name>`` is; None without one on its voxels."""
    found = half_grids(store, halves)
    if found is None:
        return None
    grid = density_grid(store, name)
    return like_the_map(*found, grid) if found[0].voxels.shape == grid.voxels.shape else None


def like_the_map(half: DensityGrid, other: DensityGrid, grid: DensityGrid) -> DensityGrid:
    """A half map filtered as the map was: each shell times what took the mean of both halves to the map.

    Parameters
    ----------
    grid
        Made of both halves by a filter that depends on resolution alone; what masks and local filters did is left out.
    """
    shape = grid.voxels.shape
    first, second, whole = (fourier.transform(g.voxels.float(), 3) for g in (half, other, grid))
    mean = (first + second) / 2
    index = fourier.shell_index(shape)
    weights = fourier.hermitian_weights(shape).expand(index.shape)
    n_shells = int(index.max()) + 1
    both = fourier.shell_sums((whole * mean.conj()).real * weights, index, n_shells)
    own = fourier.shell_sums(mean.abs().square() * weights, index, n_shells)
    transfer = (both / own.clamp(min=1e-30)).clamp(min=0)
    return half.with_voxels(fourier.inverse(first * transfer[index].to(first.real.dtype), shape))
