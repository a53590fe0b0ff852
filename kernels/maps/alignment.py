"""One map laid over another: over all rotations, shifts and, where it is unknown, both hands."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import fourier
from kernels.masks import soft_sphere
from kernels.rotations import from_rotation_vector, rotation_grid

_SEARCH_BOX = 20
_REFINEMENT_BOX = 48
_SEARCH_SPACING_RAD = 0.27
_N_CANDIDATES = 8
_N_STEPS = 12


@dataclass(frozen=True)
class MapAlignment:
    """How a moving map lies over a fixed one: ``r_fixed = rotation r_moving + shift``, mirrored before if so."""

    rotation: Tensor
    """(3, 3), in (z, y, x) order."""
    shift_px: Tensor
    """(3,) in pixels of the maps, (z, y, x)."""
    correlation: float
    """Of the aligned and the fixed map within the sphere that fits into the box."""
    aligned: Tensor
    """(z, y, x) the moving map on the grid of the fixed one."""
    is_mirrored: bool
    """Whether the moving map was inverted through its origin, which changes its hand, before it was rotated."""


def align_map(moving: Tensor, fixed: Tensor, symmetry: str = "C1", is_hand_tested: bool = True) -> MapAlignment:
    """Lay one map over another by their correlation.

    A grid of rotations with all shifts at low resolution, then the best few are refined, the best of them at higher
    resolution: maps are low-passed by 48 samples over the field of view at best. The correlation that is returned is
    that of the maps as given: low-pass them before to compare them at one resolution. Under 2 CPU-seconds for 48
    voxels a side; memory about 12 times that of a map.

    Parameters
    ----------
    moving, fixed
        (z, y, x), one shape and pixel size; only rotations that differ under ``symmetry`` of the moving map are tried.
    """
    if moving.shape != fixed.shape or len(set(moving.shape)) != 1 or moving.ndim != 3:
        raise ValueError(
            f"maps to align are {tuple(moving.shape)} and {tuple(fixed.shape)}; expected two cubes of one size: "
            "resample one of them first"
        )
    moving, fixed = moving.float(), fixed.float()
    n = fixed.shape[-1]
    coarse, fine = min(n, _SEARCH_BOX), min(n, _REFINEMENT_BOX)
    grid = rotation_grid(_SEARCH_SPACING_RAD, symmetry).to(fixed.device)
    best: tuple[float, Tensor, Tensor, bool] | None = None
    for is_mirrored in (False, True) if is_hand_tested else (False,):
        start = inverted(moving) if is_mirrored else moving
        small_moving, small_fixed = _resampled(start, coarse), _resampled(fixed, coarse)
        candidates = [_refined(small_moving, small_fixed, *pose) for pose in _search(small_moving, small_fixed, grid)]
        _, rotation, shift_px = max(candidates, key=lambda candidate: candidate[0])
        found = _refined(_resampled(start, fine), _resampled(fixed, fine), rotation, shift_px * (fine / coarse))
        if best is None or found[0] > best[0]:
            best = (*found, is_mirrored)
    assert best is not None
    _, rotation, shift_px, is_mirrored = best
    shift_px = shift_px * (n / fine)
    aligned = transformed(inverted(moving) if is_mirrored else moving, rotation, shift_px)
    return MapAlignment(rotation, shift_px, map_correlation(aligned, fixed), aligned, is_mirrored)


def map_correlation(a: Tensor, b: Tensor) -> float:
    """Correlation coefficient of two maps within the sphere that fits into their box."""
    return float(_correlation(a, b, _sphere(a)))


def inverted(density_map: Tensor) -> Tensor:
    """The map inverted through its origin, element ``n // 2``: the other hand."""
    return density_map.flip(0, 1, 2).roll([1 - n % 2 for n in density_map.shape], (0, 1, 2))


def transformed(density_map: Tensor, rotation: Tensor, shift_px: Tensor) -> Tensor:
    """(z, y, x) map rotated about its origin, then shifted; sampled linearly in a map of twice the sampling."""
    n = density_map.shape[-1]
    fine = fourier.resample(density_map, (2 * n,) * 3)
    planes = []
    for start in range(0, n, 16):
        positions = _positions(n, density_map.device, slice(start, start + 16))
        planes.append(_sampled(fine, positions, rotation[None], shift_px[None], 2)[0])
    return torch.cat(planes)


def _search(moving: Tensor, fixed: Tensor, rotations: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The best rotations of a grid, each with its best shift, no two of them neighbours."""
    n = fixed.shape[-1]
    mask = _sphere(fixed)
    zero_mean = (fixed - (fixed * mask).sum() / mask.sum()) * mask
    of_fixed = torch.fft.rfftn(zero_mean)
    positions = _positions(n, fixed.device)
    scores, shifts = [], []
    for start in range(0, len(rotations), 256):
        batch = rotations[start : start + 256]
        turned = _sampled(moving, positions, batch, torch.zeros(len(batch), 3, device=batch.device), 1) * mask
        turned = turned - turned.mean(dim=(1, 2, 3), keepdim=True)
        correlation = torch.fft.irfftn(
            torch.fft.rfftn(turned, dim=(1, 2, 3)).conj() * of_fixed, s=(n, n, n), dim=(1, 2, 3)
        ).flatten(1)
        score, place = (correlation / turned.flatten(1).norm(dim=1, keepdim=True).clamp_min(1e-20)).max(dim=1)
        index = torch.stack([place // (n * n), place // n % n, place % n], dim=1)
        shifts.append((index + n // 2) % n - n // 2)
        scores.append(score)
    score, shift = torch.cat(scores), torch.cat(shifts).float()
    chosen: list[int] = []
    for candidate in score.argsort(descending=True)[:200].tolist():
        traces = [float((rotations[candidate] * rotations[c]).sum()) for c in chosen]
        if all(trace < 1 + 2 * 0.95 for trace in traces):  # 18 degrees apart at least
            chosen.append(candidate)
        if len(chosen) == _N_CANDIDATES:
            break
    return [(rotations[c], shift[c]) for c in chosen]


def _refined(moving: Tensor, fixed: Tensor, rotation: Tensor, shift_px: Tensor) -> tuple[float, Tensor, Tensor]:
    """Correlation, rotation and shift at the nearest maximum, by Gauss-Newton steps."""
    n = fixed.shape[-1]
    mask = _sphere(fixed)
    inside = mask.flatten() > 0
    target = fixed.flatten()[inside]
    positions = _positions(n, fixed.device)
    # a step of one half in any parameter moves the rim by half a pixel
    steps = torch.cat([torch.zeros(1, 6), 0.5 * torch.eye(6)]).to(fixed)

    def poses(step: Tensor) -> tuple[Tensor, Tensor]:
        return from_rotation_vector(step[:, :3] * (2 / n)) @ rotation, shift_px + step[:, 3:]

    best, best_step, scale = -2.0, torch.zeros(1, 6).to(fixed), 1.0
    step = best_step
    for _ in range(_N_STEPS):
        values = _sampled(moving, positions, *poses(step + steps), 1).flatten(1)[:, inside]
        correlation = float(torch.corrcoef(torch.stack([values[0], target]))[0, 1])
        if correlation > best:
            converged = correlation - best < 1e-6
            best, best_step = correlation, step
            # target = gain × (values + derivatives × change) + offset, linear in all but the products
            columns = torch.stack([*((values[1:] - values[0]) / 0.5), values[0]]).double()
            columns = columns - columns.mean(dim=1, keepdim=True)
            ridge = 1e-6 * torch.diag((columns * columns).sum(dim=1))
            solution = torch.linalg.solve(columns @ columns.T + ridge, columns @ target.double())
            change, scale = (solution[:6] / solution[6]).float(), 1.0
            change = change * min(1.0, 3.0 / float(change.norm()))
            if converged or not bool(torch.isfinite(change).all()):
                break
        else:
            scale /= 3
        step = best_step + scale * change
    turn, move = poses(best_step)
    return best, turn[0], move[0]


def _sampled(density_map: Tensor, positions: Tensor, rotations: Tensor, shifts_px: Tensor, oversampling: int) -> Tensor:
    """(pose, z, y, x) values of a map at R^T (r - shift) of the positions (z, y, x, 3) about the origin."""
    size = density_map.shape[-1]
    source = (positions - shifts_px[:, None, None, None]).flatten(1, 3) @ rotations
    grid = (source * oversampling + size // 2) * (2 / (size - 1)) - 1
    grid = grid.flip(-1).unflatten(1, positions.shape[:3])
    batch = density_map.expand(len(rotations), 1, *density_map.shape)
    return torch.nn.functional.grid_sample(batch, grid, align_corners=True)[:, 0]


def _positions(n: int, device: torch.device, planes: slice = slice(None)) -> Tensor:
    axis = torch.arange(n, dtype=torch.float32, device=device) - n // 2
    return torch.stack(torch.meshgrid(axis[planes], axis, axis, indexing="ij"), dim=-1)


def _resampled(density_map: Tensor, n: int) -> Tensor:
    """The map on n samples a side, low-passed smoothly towards their Nyquist frequency."""
    half = fourier.crop_transform(fourier.transform(density_map, 3), density_map.shape, (n, n, n))
    falloff = torch.exp(-0.5 * (fourier.frequency_length((n, n, n), device=half.device) / 0.25) ** 2)
    return fourier.inverse(half * falloff, (n, n, n)) * (n / density_map.shape[-1]) ** 3


def _sphere(density_map: Tensor) -> Tensor:
    n = density_map.shape[-1]
    return soft_sphere(n, n / 2 - 1, device=density_map.device)


def _correlation(a: Tensor, b: Tensor, mask: Tensor) -> Tensor:
    total = mask.sum()
    a = (a - (a * mask).sum() / total) * mask
    b = (b - (b * mask).sum() / total) * mask
    return (a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-20)
