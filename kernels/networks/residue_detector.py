"""The detection network: a map of 1 Å voxels to what stands in each cell of 2 Å.

Residues are told as objects: each cell says how probable it is that a Cα (or a C4') lies near its centre, and where
exactly; where its N, C and O are, where the chain leads on and where it came from; and what the residue is. No two
residues share a cell, and positions are regressed, so they are finer than any voxel.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import accumulate

import torch
from torch import Tensor, nn

from kernels.networks.layers import Residual

VOXEL_ANGSTROM = 1.0
CELL_VOXELS = 2
TILE_STEP_VOXELS = 8
"""Sides of the network's input are multiples of it."""
_RARE_LOGIT = -3.0
"""Of a Cα or C4' before training: nearly all cells are empty."""


@dataclass(frozen=True, eq=False)
class CellPredictions:
    """What the network tells of each cell; offsets in Å from the centre of the cell, (z, y, x)."""

    alpha: Tensor
    """(..., 1) logit that a Cα lies within `detection_targets.NEAR_ANGSTROM`."""
    backbone: Tensor
    """(..., 12) offsets of N, Cα, C and O."""
    neighbours: Tensor
    """(..., 6) offsets of the next and the previous Cα."""
    amino_acid: Tensor
    """(..., 20) logits."""
    secondary_structure: Tensor
    """(..., 3) logits."""
    sugar: Tensor
    """(..., 1) logit that a C4' lies near."""
    nucleotide: Tensor
    """(..., 9) offsets of C4', P and the centre of the base."""
    nucleotide_neighbours: Tensor
    """(..., 6) offsets of the next and the previous C4'."""
    base: Tensor
    """(..., 4) logits."""
    content: Tensor
    """(..., 3) logits that an atom of a protein, of a nucleic acid, or of something else lies in the cell."""


_WIDTHS = {
    "alpha": 1, "backbone": 12, "neighbours": 6, "amino_acid": 20, "secondary_structure": 3,
    "sugar": 1, "nucleotide": 9, "nucleotide_neighbours": 6, "base": 4, "content": 3,
}  # fmt: skip
assert list(_WIDTHS) == [f.name for f in fields(CellPredictions)]

_VECTORS = ("backbone", "neighbours", "nucleotide", "nucleotide_neighbours")
VECTOR_CHANNELS = tuple(
    channel
    for name, last in zip(_WIDTHS, accumulate(_WIDTHS.values()))
    if name in _VECTORS
    for channel in range(last - _WIDTHS[name], last)
)
"""Channels that hold vectors (z, y, x), three by three."""


class ResidueDetector(nn.Module):
    """A U-Net of residual blocks that works at 1, 2, 4 and 8 Å and answers at 2 Å.

    Its field of view is about 60 Å. Convolutions run fastest with ``memory_format=torch.channels_last_3d``.
    """

    calibration: Tensor
    """(5, 2) scale and offset that turn logits into calibrated ones: of a Cα, a C4', amino acids, secondary structure
    and bases; the offset of a choice is not used. Fitted after training, see `tasks.training.calibration`."""

    def __init__(self, stem: int = 16, fine: int = 48, middle: int = 96, coarse: int = 160) -> None:
        super().__init__()
        self.register_buffer("calibration", torch.tensor([[1.0, 0.0]] * 5))
        self.stem = nn.Sequential(
            nn.Conv3d(1, stem, 3, padding=1, bias=False),
            nn.BatchNorm3d(stem),
            nn.SiLU(),
            nn.Conv3d(stem, stem, 3, padding=1, bias=False),
            nn.BatchNorm3d(stem),
            nn.SiLU(),
        )
        self.to_fine = _down(stem, fine)
        self.fine = _blocks(fine, 3)
        self.to_middle = _down(fine, middle)
        self.middle = _blocks(middle, 4)
        self.to_coarse = _down(middle, coarse)
        self.coarse = _blocks(coarse, 3)
        self.from_coarse = nn.ConvTranspose3d(coarse, middle, 2, stride=2)
        self.middle_again = _blocks(middle, 2)
        self.from_middle = nn.ConvTranspose3d(middle, fine, 2, stride=2)
        self.fine_again = _blocks(fine, 2)
        hidden = 2 * fine
        last = nn.Conv3d(hidden, sum(_WIDTHS.values()), 1)
        assert last.bias is not None
        self.heads = nn.Sequential(
            nn.Conv3d(fine, hidden, 3, padding=1, bias=False),
            nn.BatchNorm3d(hidden),
            nn.SiLU(),
            last,
        )
        told = split(last.bias.detach())
        for rare in (told.alpha, told.sugar):
            rare.fill_(_RARE_LOGIT)

    def forward(self, density: Tensor) -> Tensor:
        """Density (batch, 1, z, y, x), normalised by `normalised`, to (batch, channel, cell z, cell y, cell x)."""
        fine = self.fine(self.to_fine(self.stem(density)))
        middle = self.middle(self.to_middle(fine))
        coarse = self.coarse(self.to_coarse(middle))
        middle = self.middle_again(middle + self.from_coarse(coarse))
        return self.heads(self.fine_again(fine + self.from_middle(middle)))


def split(channels: Tensor) -> CellPredictions:
    """Channels (..., channel) of the network's answer by their meaning."""
    return CellPredictions(*channels.split(list(_WIDTHS.values()), dim=-1))


def normalised(density: Tensor) -> Tensor:
    """Density (..., z, y, x) in units of its own strong part, so that neither scale nor empty solvent matter."""
    return (density / density_unit(density).clamp(min=1e-12)).clamp(-4, 4)


def density_unit(density: Tensor) -> Tensor:
    """(..., 1, 1, 1) mean of the positive density (..., z, y, x), weighted by its square."""
    positive = density.clamp(min=0)
    squared = positive**2
    return (positive * squared).sum((-3, -2, -1), keepdim=True) / squared.sum((-3, -2, -1), keepdim=True).clamp(1e-20)


def _blocks(width: int, n: int) -> nn.Sequential:
    return nn.Sequential(*(Residual(width) for _ in range(n)))


def _down(width: int, wider: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(width, wider, 2, stride=2, bias=False), nn.BatchNorm3d(wider), nn.SiLU())


def cell_centres(shape: tuple[int, ...], *, device: torch.device | str = "cpu") -> Tensor:
    """(\\*cells, 3) centres of the cells of a map of ``shape`` voxels, in voxels."""
    axes = [torch.arange(n // CELL_VOXELS, device=device) * float(CELL_VOXELS) + (CELL_VOXELS - 1) / 2 for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
