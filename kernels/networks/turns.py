"""The 24 turns of a cube: ways to show a network the same map, and to turn back what it says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product

import torch
from torch import Tensor

from kernels.networks.residue_detector import VECTOR_CHANNELS


@dataclass(frozen=True)
class Turn:
    """Axes in another order, some of them backwards, that together are a rotation."""

    axes: tuple[int, int, int]
    """Which old axis each new one is."""
    is_backwards: tuple[bool, bool, bool]
    """Of the new axes."""

    def of_density(self, density: Tensor) -> Tensor:
        """Density (..., z, y, x) turned."""
        first = density.ndim - 3
        turned = density.permute(*range(first), *(first + axis for axis in self.axes))
        return turned.flip([first + i for i, flips in enumerate(self.is_backwards) if flips])

    def back(self, channels: Tensor) -> Tensor:
        """The network's channels (..., z, y, x, channel) for the turned density, as if it had not been turned."""
        first = channels.ndim - 4
        upright = channels.flip([first + i for i, flips in enumerate(self.is_backwards) if flips])
        old = [self.axes.index(axis) for axis in range(3)]
        upright = upright.permute(*range(first), *(first + axis for axis in old), first + 3).clone()
        sign = torch.tensor([-1.0 if flips else 1.0 for flips in self.is_backwards], device=channels.device)
        vectors = upright[..., VECTOR_CHANNELS]
        vectors = vectors.reshape(*vectors.shape[:-1], -1, 3) * sign.to(vectors.dtype)
        upright[..., VECTOR_CHANNELS] = vectors[..., old].flatten(-2)
        return upright


@lru_cache(maxsize=1)
def turns() -> tuple[Turn, ...]:
    """All of them, so ordered that the first few point in directions as different as they can."""
    found = []
    for axes in permutations(range(3)):
        for is_backwards in product((False, True), repeat=3):
            matrix = torch.zeros(3, 3)
            for new, (old, flips) in enumerate(zip(axes, is_backwards)):
                matrix[new, old] = -1.0 if flips else 1.0
            if float(torch.linalg.det(matrix)) > 0:
                found.append((matrix, Turn(axes, is_backwards)))  # type: ignore[arg-type]
    chosen = [0]
    while len(chosen) < len(found):
        traces = torch.tensor([[float((found[i][0] * matrix).sum()) for i in chosen] for matrix, _ in found])
        closest = traces.amax(1)  # a trace of 3 is no turn, of -1 half a turn
        closest[chosen] = torch.inf
        chosen.append(int(closest.argmin()))
    return tuple(found[i][1] for i in chosen)
