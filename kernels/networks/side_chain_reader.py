"""The network that reads side chains: the density around one residue, in the frame of its backbone, to an amino acid.

The detection network sees a map in whatever orientation it comes in; here every side chain points the same way, so that
much less has to be learned.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample, normalize

from kernels import fourier
from kernels.models.residues import AMINO_ACIDS
from kernels.networks.layers import Residual
from kernels.networks.residue_detector import normalised

SIDE = 16
STEP_ANGSTROM = 0.75
_BEHIND_ANGSTROM = 3.0
"""What is seen on the far side of the Cα; the longest side chains end 7 Å before it."""
REACH_ANGSTROM = 12.0
"""Nothing beyond it is looked at."""
_FINER = 2
"""Voxels are made so much finer before they are read between."""
_OUT_OF_PLANE_RAD = 0.9
"""Angle of the bond from Cα to Cβ with the plane of N, Cα and C, between a half and a whole tetrahedral angle."""


class SideChainReader(nn.Module):
    """Convolutions over a cube of 12 Å, then a choice of the amino acid."""

    calibration: Tensor
    """(2,) weights of its own logarithms of probabilities and of the detection network's, when both are asked; fitted
    after training, see `tasks.training.side_chains`."""

    def __init__(self, first: int = 16, second: int = 32, third: int = 64, hidden: int = 256) -> None:
        super().__init__()
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))
        self.n_types = len(AMINO_ACIDS)
        quarter = SIDE // 4
        self.body = nn.Sequential(
            *_convolution(1, first, 5, 2),
            *_convolution(first, second, 3, 1),
            *_convolution(second, third, 3, 2),
            Residual(third),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(third * quarter**3, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.SiLU(),
            nn.Dropout(0.2),
            nn.Linear(hidden, self.n_types),
        )

    def forward(self, density: Tensor) -> Tensor:
        """Density (residue, `SIDE`, `SIDE`, `SIDE`) of `surroundings` to (residue, 20) logits."""
        return self.body(normalised(density)[:, None].contiguous(memory_format=torch.channels_last_3d))


def _convolution(width: int, wider: int, size: int, stride: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv3d(width, wider, size, stride, size // 2, bias=False),
        nn.BatchNorm3d(wider),
        nn.SiLU(),
    )


def side_chain_frames(backbone: Tensor) -> Tensor:
    """(..., 3, 3) axes, in rows, of residues whose N, Cα and C stand at (..., 3, 3), all (z, y, x).

    The first points along the side chain, the second from N to C across it, the third makes the hand.
    """
    nitrogen, alpha, carbon = backbone.unbind(-2)
    to_nitrogen, to_carbon = normalize(nitrogen - alpha, dim=-1), normalize(carbon - alpha, dim=-1)
    away = normalize(-(to_nitrogen + to_carbon), dim=-1)
    # in (z, y, x) a cross product has the other sign
    up = normalize(torch.linalg.cross(to_carbon, to_nitrogen, dim=-1), dim=-1)
    along = math.cos(_OUT_OF_PLANE_RAD) * away + math.sin(_OUT_OF_PLANE_RAD) * up
    across = to_carbon - to_nitrogen
    across = normalize(across - (across * along).sum(-1, keepdim=True) * along, dim=-1)
    return torch.stack([along, across, torch.linalg.cross(along, across, dim=-1)], dim=-2)


def finer(cubes: Tensor) -> Tensor:
    """Cubes (cube, z, y, x) of even sides at half the voxel size, by their transform."""
    shape = tuple(cubes.shape[-3:])
    larger = tuple(_FINER * n for n in shape)
    return torch.fft.irfftn(
        fourier.crop_transform(torch.fft.rfftn(cubes, dim=(-3, -2, -1)), shape, larger), s=larger, dim=(-3, -2, -1)
    ) * (_FINER**3)


def surroundings(fine: Tensor, frames: Tensor, alpha: Tensor) -> Tensor:
    """(residue, `SIDE`, `SIDE`, `SIDE`) density around residues of one cube, in their frames.

    Parameters
    ----------
    fine
        (z, y, x) of `finer`; outside of it there is nothing.
    frames
        (residue, 3, 3) of `side_chain_frames`.
    alpha
        (residue, 3) Cα in voxels of 1 Å, before they were made finer.
    """
    ahead = torch.arange(SIDE, device=fine.device) * STEP_ANGSTROM - _BEHIND_ANGSTROM
    beside = (torch.arange(SIDE, device=fine.device) - (SIDE - 1) / 2) * STEP_ANGSTROM
    inside = torch.stack(torch.meshgrid(ahead, beside, beside, indexing="ij"), dim=-1).reshape(-1, 3)
    points = _FINER * (inside @ frames + alpha[:, None])
    last = torch.tensor(fine.shape, device=fine.device) - 1
    places = (2 * points / last - 1).flip(-1).to(fine)
    seen = grid_sample(fine[None, None], places[None, None], align_corners=True)
    return seen.reshape(len(alpha), SIDE, SIDE, SIDE)
