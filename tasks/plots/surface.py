"""A map as a lit surface, seen along one of its axes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

_LIGHT = np.array([0.75, -0.45, -0.5])
"""Towards the viewer, up and to the left, as (z, y, x)."""
_COLOUR, _GROUND = np.array([124, 186, 240]), 255
_AMBIENT, _DIMMED = 0.35, 0.45
_SAMPLES = 240
"""Along the longest side of what is shown."""
_MARGIN_PX = 3


def surface_image(density: NDArray, level: float, side_px: int) -> Image.Image:
    """The surface of a (z, y, x) map at a density, seen along z from its end; square, white where there is nothing.

    Each line of sight ends where the density first rises above the level, between samples by linear interpolation;
    what is further away is darker.
    """
    seen: NDArray = _sampled(_shown(density, level))[::-1]
    inside: NDArray = np.asarray(seen > level)
    inside[0] = False
    first = inside.argmax(0)
    is_hit: NDArray = np.logical_or.reduce(inside, axis=0)
    rows, columns = np.indices(first.shape)
    after, before = seen[first, rows, columns], seen[np.maximum(first - 1, 0), rows, columns]
    depth = first - np.clip((after - level) / np.maximum(after - before, 1e-12), 0, 1)
    normal = -np.stack([slope[first, rows, columns] for slope in np.gradient(seen)], -1)
    normal[..., 0] *= -1  # towards the viewer
    normal = normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    lit = np.clip(normal @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)
    brightness = (_AMBIENT + (1 - _AMBIENT) * lit) * (1 - _DIMMED * np.clip(depth / len(seen), 0, 1))
    pixels = np.where(is_hit[..., None], _COLOUR * brightness[..., None], _GROUND)
    image = Image.fromarray(pixels.astype(np.uint8))
    longest = round(1.1 * max(image.size))
    square = Image.new("RGB", (longest, longest), (_GROUND,) * 3)
    square.paste(image, ((longest - image.size[0]) // 2, (longest - image.size[1]) // 2))
    return square.resize((side_px, side_px), Image.Resampling.BICUBIC)


def _shown(density: NDArray, level: float) -> NDArray:
    """The box around what rises above the level."""
    above = np.argwhere(density > level)
    if not len(above):
        return density
    first = np.maximum(above.min(0) - _MARGIN_PX, 0)
    end = above.max(0) + _MARGIN_PX + 1
    return density[tuple(slice(a, b) for a, b in zip(first, end))]


def _sampled(density: NDArray) -> NDArray[np.float32]:
    """On finer or coarser voxels, so that pictures of small and large maps look alike."""
    factor = _SAMPLES / max(density.shape)
    shape = [max(2, round(n * factor)) for n in density.shape]
    whole = torch.from_numpy(np.ascontiguousarray(density, dtype=np.float32))[None, None]
    finer: NDArray[np.float32] = torch.nn.functional.interpolate(whole, shape, mode="trilinear", align_corners=True)[
        0, 0
    ].numpy()
    return finer
