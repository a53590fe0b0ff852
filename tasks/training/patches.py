"""Simulated patches for training: the same number always gives the same patch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import Tensor
from torch.utils.data import Dataset

from kernels.networks.detection_targets import CellTargets, targets_of
from kernels.networks.residue_detector import normalised
from kernels.specimen.map_simulation import Draw, SimulatedPatch, simulate_patch
from tasks.training.structures import TrainingStructure, sampling_weights

_ONLY_AT_FIRST = 0.6
"""Of all patches: among the others none is better than maps are."""


class SimulatedPatches(Dataset[tuple[Tensor, CellTargets]]):
    """Patches of maps simulated on the fly, each from a seed of its own; none is ever stored."""

    def __init__(
        self,
        structures: Sequence[TrainingStructure],
        seed: int,
        n: int,
        size: int,
        nucleic_share: float,
        good_at_first: float = 0.0,
    ) -> None:
        self._structures = structures
        self._cumulative = sampling_weights(structures, nucleic_share).cumsum(0)
        self._seed = seed
        self._n = n
        self._size = size
        self._good_at_first = good_at_first

    def __len__(self) -> int:
        return self._n

    def simulate(self, number: int) -> SimulatedPatch:
        """Patch of a number, not normalised."""
        good = self._good_at_first * max(0.0, 1 - number / (_ONLY_AT_FIRST * self._n))
        return drawn_patch(self._structures, self._cumulative, self._size, draw_of(self._seed, number), good)

    def __getitem__(self, number: int) -> tuple[Tensor, CellTargets]:
        """Normalised density (1, z, y, x) and what is true of its cells."""
        return example_of(self.simulate(number))


def draw_of(seed: int, number: int) -> Draw:
    """Random numbers of the patch of a number."""
    return Draw(torch.Generator().manual_seed((seed << 32) + number))


def drawn_patch(
    structures: Sequence[TrainingStructure], cumulative: Tensor, size: int, draw: Draw, good: float = 0.0
) -> SimulatedPatch:
    """A patch of a structure drawn by cumulative weights (structure,); ``good`` as for `simulate_patch`."""
    at = torch.searchsorted(cumulative, torch.tensor(draw.uniform(0, 1)))
    return simulate_patch(structures[min(int(at), len(structures) - 1)].molecule, size, draw, good)


def example_of(patch: SimulatedPatch) -> tuple[Tensor, CellTargets]:
    """What a network is shown of a patch, (1, z, y, x), and what it is to answer."""
    return normalised(patch.density)[None], targets_of(patch)


def batch_of(patches: Sequence[tuple[Tensor, CellTargets]]) -> tuple[Tensor, CellTargets]:
    """Several patches as one batch."""
    density = torch.stack([density for density, _ in patches])
    targets = [target for _, target in patches]
    return density, CellTargets(*(torch.stack([getattr(t, f.name) for t in targets]) for f in fields(CellTargets)))


def moved(targets: CellTargets, device: torch.device) -> CellTargets:
    """The same on a device."""
    return CellTargets(*(getattr(targets, f.name).to(device) for f in fields(CellTargets)))
