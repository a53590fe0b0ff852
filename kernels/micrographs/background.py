"""The background around particles: its slope taken away, its noise brought to one, its outliers mended."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from kernels.masks import distance_from_origin


def normalised(images: Tensor, radius_px: float) -> Tensor:
    """Images (particle, y, x) whose background, all beyond ``radius_px``, has no slope, mean 0 and deviation 1.

    An image without any variation there becomes zero.
    """
    outside = distance_from_origin(images.shape[-2:], device=images.device) > radius_px
    if int(outside.sum()) < 16:
        raise ValueError(
            f"background: {int(outside.sum())} pixels of a {images.shape[-2]} × {images.shape[-1]} image lie beyond "
            f"{radius_px:.1f} px; expected at least 16, so use a larger box"
        )
    terms = _plane(images.shape[-2], images.shape[-1], images.device)
    solve = torch.linalg.pinv(terms[outside].double()).to(images)
    slope = images[:, outside] @ solve.T
    level = images - (slope @ terms.reshape(-1, 3).T).reshape(images.shape)
    deviation = level[:, outside].std(-1)
    is_flat = deviation <= 1e-6 * images.flatten(1).abs().amax(-1)
    scale = torch.where(is_flat, 0.0, 1 / deviation.clamp(min=1e-30))
    return level * scale[:, None, None]


def without_outliers(images: Tensor, spreads: float = 6.0) -> tuple[Tensor, Tensor]:
    """Images (particle, y, x) whose single wild pixels are replaced by the median of their eight neighbours.

    A pixel is wild when it lies more than ``spreads`` robust standard deviations of its image away from that median.
    Also gives the (particle,) number of them.
    """
    wide = pad(images[:, None], (1, 1, 1, 1), mode="reflect")
    around = (9 * avg_pool2d(wide, 3, 1)[:, 0] - images) / 8
    difference = (images - around).abs()
    limit = spreads * 1.4826 * difference.flatten(1).median(-1).values
    # the mean of the neighbours is quick and finds them all; beside a wild pixel it finds some that are well
    particle, y, x = torch.nonzero(difference > limit[:, None, None], as_tuple=True)
    steps = [(dy, dx) for dy in (0, 1, 2) for dx in (0, 1, 2) if (dy, dx) != (1, 1)]
    typical = torch.stack([wide[particle, 0, y + dy, x + dx] for dy, dx in steps], dim=-1).median(-1).values
    is_wild = (images[particle, y, x] - typical).abs() > limit[particle]
    particle, y, x = particle[is_wild], y[is_wild], x[is_wild]
    mended = images.clone()
    mended[particle, y, x] = typical[is_wild]
    return mended, torch.bincount(particle, minlength=len(images))


def _plane(rows: int, columns: int, device: torch.device) -> Tensor:
    """(y, x, 3) terms of a plane, of order one."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, rows, device=device), torch.linspace(-1, 1, columns, device=device), indexing="ij"
    )
    return torch.stack([torch.ones_like(y), y, x], dim=-1)
