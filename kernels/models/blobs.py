"""Connected pieces of density that nothing explains, and its peaks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool3d

from kernels.maps.grid import DensityGrid


@dataclass(frozen=True, eq=False)
class Blobs:
    """Pieces above a level, the one with the largest sum first."""

    voxel: Tensor
    """(n, 3) int64 all voxels above the level that belong to a piece, piece after piece."""
    blob: Tensor
    """(n,) int64 the piece of each."""
    volume_angstrom3: Tensor
    """(blob,)"""
    total: Tensor
    """(blob,) sum over voxels, times their volume."""
    peak: Tensor
    """(blob,)"""
    peak_angstrom: Tensor
    """(blob, 3) where the highest voxel lies, (z, y, x)."""
    middle_angstrom: Tensor
    """(blob, 3) mean place, weighted."""

    def __len__(self) -> int:
        return len(self.peak)


def blobs(grid: DensityGrid, level: float, allowed: Tensor | None = None, gap_voxels: int = 0) -> Blobs:
    """Pieces of what is above a level.

    Parameters
    ----------
    allowed
        (z, y, x) where density may count; everywhere when None.
    gap_voxels
        Pieces that come so near to each other, in steps of voxels, are one.
    """
    above = grid.voxels > level
    if allowed is not None:
        above = above & allowed
    reached = _widened(above, gap_voxels)
    label = _labels(reached)
    voxel = torch.nonzero(above)
    if not len(voxel):
        none = torch.zeros(0)
        return Blobs(voxel, none.long(), none, none, none, torch.zeros(0, 3), torch.zeros(0, 3))
    _, number = torch.unique(label[tuple(voxel.T)], return_inverse=True)
    value = grid.voxels[tuple(voxel.T)].double()
    n = int(number.max()) + 1
    total = torch.zeros(n, dtype=torch.float64).index_add_(0, number, value)
    order = total.argsort(descending=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(n)
    number, total = rank[number], total[order]
    by_blob = number.argsort(stable=True)
    voxel, number, value = voxel[by_blob], number[by_blob], value[by_blob]
    place = grid.to_angstrom(voxel)
    weighted = torch.zeros(n, 3, dtype=torch.float64).index_add_(0, number, place * value[:, None])
    peak = torch.full((n,), -torch.inf, dtype=torch.float64).scatter_reduce(0, number, value, "amax")
    is_peak = torch.nonzero(value == peak[number]).squeeze(1)
    highest = torch.zeros(n, dtype=torch.int64)
    highest[number[is_peak]] = is_peak
    each = grid.voxel_size_angstrom**3
    return Blobs(
        voxel, number, torch.bincount(number, minlength=n) * each, total * each, peak, place[highest],
        weighted / total[:, None],
    )  # fmt: skip


def _widened(inside: Tensor, steps: int) -> Tensor:
    return max_pool3d(inside.float()[None], 2 * steps + 1, 1, steps)[0] > 0 if steps else inside


def _labels(inside: Tensor) -> Tensor:
    """(z, y, x) the same number for all that is connected by faces, edges or corners; 0 outside."""
    numbers = torch.arange(1, inside.numel() + 1, dtype=torch.float64).reshape(inside.shape)
    label = torch.where(inside, numbers, 0.0)
    while True:
        wider = torch.where(inside, max_pool3d(label[None], 3, 1, 1)[0], 0.0)
        # a number also takes that of the voxel it names, so that long pieces need few rounds
        flat = wider.reshape(-1)
        followed = torch.where(flat > 0, flat[(flat.long() - 1).clamp(min=0)], 0.0).reshape(inside.shape)
        wider = torch.maximum(wider, followed)
        if torch.equal(wider, label):
            return label.long()
        label = wider


def spread_places(places: Tensor, n: int) -> Tensor:
    """(k,) indices of up to n places (m, 3), each the one furthest from all before; the first one first."""
    chosen = [0]
    nearest = (places - places[0]).norm(dim=1)
    while len(chosen) < min(n, len(places)) and float(nearest.max()) > 0:
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (places - places[chosen[-1]]).norm(dim=1))
    return torch.tensor(chosen)


@dataclass(frozen=True, eq=False)
class Peaks:
    """Local maxima, the highest first."""

    place_angstrom: Tensor
    """(peak, 3) between the voxels."""
    height: Tensor
    """(peak,)"""
    roundness: Tensor
    """(peak,) of the curvatures along the three axes of the peak, the smallest over the largest; 1 for a ball."""

    def __len__(self) -> int:
        return len(self.height)

    def take(self, index: Tensor) -> Peaks:
        """Some of them."""
        return Peaks(*(values[index] for values in vars(self).values()))


def peaks(grid: DensityGrid, level: float, allowed: Tensor | None = None) -> Peaks:
    """Voxels above a level and all their neighbours, refined by the parabola through these."""
    values = grid.voxels
    is_peak = (values > level) & (values == max_pool3d(values[None], 3, 1, 1)[0])
    if allowed is not None:
        is_peak &= allowed
    inside = torch.zeros_like(is_peak)
    inside[1:-1, 1:-1, 1:-1] = is_peak[1:-1, 1:-1, 1:-1]
    voxel = torch.nonzero(inside)
    steps = torch.tensor([-1, 0, 1])
    around = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    index = voxel[:, None] + around
    near = values[tuple(index.movedim(-1, 0))].double()
    # least squares of 1, x, x² and xy over the 27 voxels
    x = around.double()
    columns = [torch.ones(27, dtype=torch.float64), *x.T, *(x.T**2), x[:, 0] * x[:, 1], x[:, 0] * x[:, 2],
               x[:, 1] * x[:, 2]]  # fmt: skip
    fitted = near @ torch.linalg.pinv(torch.stack(columns, 1)).T
    slope, own, mixed = fitted[:, 1:4], fitted[:, 4:7], fitted[:, 7:10]
    curvature = torch.diag_embed(2 * own)
    for k, (a, b) in enumerate(((0, 1), (0, 2), (1, 2))):
        curvature[:, a, b] = curvature[:, b, a] = mixed[:, k]
    bend = torch.linalg.eigvalsh(curvature)
    is_top = bend[:, 2] < 0
    voxel, slope, curvature, bend, near = (v[is_top] for v in (voxel, slope, curvature, bend, near))
    shift = -torch.linalg.solve(curvature, slope[:, :, None])[:, :, 0].clamp(-0.7, 0.7)
    height = near[:, 13] + (slope * shift).sum(1).clamp(min=0) / 2
    order = height.argsort(descending=True)
    place = grid.to_angstrom(voxel.double() + shift)
    return Peaks(place[order], height[order], (bend[:, 2] / bend[:, 0])[order])
