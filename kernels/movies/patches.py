"""Overlapping windowed patches of a movie, whose transforms are made when they are asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from kernels import fourier
from kernels.interpolation import spline_basis


class Patches:
    """Patches that overlap by half under windows whose squares add up to one, so every pixel counts once.

    Those at the field's edges reach over them by half a spacing, and fade out there to a half. Memory:
    the frames once more, and one patch at a time.
    """

    def __init__(self, frames: Tensor, n_patches: tuple[int, int]) -> None:
        """``frames`` are (frame, y, x), their mean zero."""
        device = frames.device
        self._windows, self._starts, self._inside = [], [], []
        margins = []
        for n, count in zip(frames.shape[-2:], n_patches):
            spacing = n / count
            size = round(2 * spacing)
            start = [round((i - 0.5) * spacing) for i in range(count)]
            window = torch.sin(torch.pi * (torch.arange(size, device=device) + 0.5) / size)
            position = torch.arange(size, device=device) + torch.tensor(start, device=device)[:, None]
            weight = window.square() * ((position >= 0) & (position < n))
            self._inside.append((weight, (position.clamp(0, n - 1) + 0.5) / n))
            self._windows.append(window)
            self._starts.append(start)
            margins.append((-min(start), max(0, max(start) + size - n)))
        self.shape = (fourier.fast_size(len(self._windows[0])), fourier.fast_size(len(self._windows[1])))
        """(y, x) that the transforms are of."""
        self.area_px = torch.outer(*(weight.sum(1) for weight, _ in self._inside)).flatten()
        """(patch,) pixels under the squared window."""
        self._offset = (margins[0][0], margins[1][0])
        self._padded = pad(frames, (*margins[1], *margins[0]))

    def __iter__(self) -> Iterator[Tensor]:
        """(frame, y, x_half) `rfft2` of one patch after the other, row by row."""
        window = self._windows[0][:, None] * self._windows[1]
        size_y, size_x = window.shape
        for y, x in itertools.product(*self._starts):
            top, left = y + self._offset[0], x + self._offset[1]
            yield torch.fft.rfft2(self._padded[:, top : top + size_y, left : left + size_x] * window, s=self.shape)

    def spline_weights(self, n_control: tuple[int, int]) -> Tensor:
        """(patch, control point) share of each control point (y, x) in the mean of a spline under a patch's window."""
        along = [
            torch.einsum("pi,pic->pc", weight, spline_basis(position, n)) / weight.sum(1, keepdim=True)
            for (weight, position), n in zip(self._inside, n_control)
        ]
        return torch.einsum("ya,xb->yxab", *along).flatten(2).flatten(0, 1)
