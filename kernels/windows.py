"""Square windows of an image around many points at once: cutting them out and adding them in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def cut_windows(image: Tensor, centre_px: Tensor, n: int) -> Tensor:
    """(window, n, n) parts of a (y, x) image; element ``n // 2`` of each is at its whole-pixel centre (window, 2).

    What lies outside of the image is NaN, so that nobody takes it for data.
    """
    flat, is_inside = _indices(image.shape, centre_px, n)
    return torch.where(is_inside, image.reshape(-1)[flat], torch.nan)


def add_windows(image: Tensor, centre_px: Tensor, windows: Tensor) -> Tensor:
    """Image (y, x) plus every (window, n, n) at its whole-pixel centre; undoes no more than it is given."""
    flat, is_inside = _indices(image.shape, centre_px, windows.shape[-1])
    values = torch.where(is_inside, windows, 0.0)
    return image.reshape(-1).index_add(0, flat.reshape(-1), values.reshape(-1).to(image)).reshape(image.shape)


def is_within(shape: Sequence[int], centre_px: Tensor, n: int) -> Tensor:
    """(window,) whether the whole window of ``n`` pixels around a whole-pixel centre lies in an image of a shape."""
    extent = torch.tensor(list(shape), device=centre_px.device)
    first = centre_px.long() - n // 2
    return ((first >= 0) & (first + n <= extent)).all(-1)


def _indices(shape: Sequence[int], centre_px: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """(window, n, n) flat index into the image, clamped to it, and whether it lies inside."""
    step = torch.arange(n, device=centre_px.device) - n // 2
    y = centre_px[:, 0].long()[:, None, None] + step[:, None]
    x = centre_px[:, 1].long()[:, None, None] + step
    rows, columns = shape
    is_inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    return y.clamp(0, rows - 1) * columns + x.clamp(0, columns - 1), is_inside
