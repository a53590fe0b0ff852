"""Side chains of a map through the network that reads them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from kernels.maps.cutting import box_of
from kernels.maps.grid import DensityGrid
from kernels.models.detections import ProteinDetections
from kernels.networks.detection import resampled
from kernels.networks.side_chain_reader import REACH_ANGSTROM, SideChainReader, finer, side_chain_frames, surroundings

_CORE = 40
"""Voxels of 1 Å along each side of the places that are looked at together."""
_MARGIN = int(REACH_ANGSTROM) + 4  # the transform of a cube is periodic
_BATCH = 256
_LEAST_PROBABILITY = 1e-6


@torch.inference_mode()
def read_side_chains(reader: SideChainReader, grid: DensityGrid, backbone_angstrom: Tensor) -> Tensor:
    """(residue, 20) logits of the amino acids that side chains look like.

    Parameters
    ----------
    reader
        In evaluation mode; the map is moved to where it lives.
    grid
        A sharpened map of the right hand.
    backbone_angstrom
        (residue, 3, 3) N, Cα and C in the frame of the map.

    Memory: 80 MB beside the map.
    """
    device = next(reader.parameters()).device
    density, spacing = resampled(grid.voxels.to(device).float(), grid.voxel_size_angstrom)
    voxels = ((backbone_angstrom.to(device) - grid.origin_angstrom.to(device)) / spacing.to(device)).float()
    logits = torch.zeros(len(voxels), reader.n_types, device=device)
    corners, group = torch.unique((voxels[:, 1] / _CORE).floor().long(), dim=0, return_inverse=True)
    for number, corner in enumerate(corners):
        first = corner * _CORE - _MARGIN
        fine = finer(box_of(density, first.tolist(), [_CORE + 2 * _MARGIN] * 3)[None])[0]
        for rows in torch.nonzero(group == number).squeeze(1).split(_BATCH):
            seen = surroundings(fine, side_chain_frames(voxels[rows]), voxels[rows, 1] - first)
            with torch.autocast(device.type, torch.bfloat16):
                logits[rows] = reader(seen).float()
    return logits


def with_side_chains_read(reader: SideChainReader, grid: DensityGrid, found: ProteinDetections) -> ProteinDetections:
    """Candidates of a map whose amino acids are told by both networks together."""
    alpha = found.alpha_angstrom
    offset = found.backbone_offset_angstrom.to(alpha)
    logits = read_side_chains(reader, grid, torch.stack([alpha + offset[:, 0], alpha, alpha + offset[:, 1]], dim=1))
    return replace(found, amino_acid=told_together(reader.calibration, logits, found.amino_acid.to(logits)))


def told_together(weights: Tensor, logits: Tensor, detected: Tensor) -> Tensor:
    """(residue, 20) probabilities from the logits of one network and the probabilities of the other.

    Parameters
    ----------
    weights
        (2,) of the reader's logarithms and the detector's.
    """
    own = logits.log_softmax(-1)
    return (weights[0] * own + weights[1] * detected.clamp(min=_LEAST_PROBABILITY).log()).softmax(-1)
