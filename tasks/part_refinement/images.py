"""The coefficients of a block of particles from which the rest of each was taken off."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.maps.part_refinement import middle_in_image, subtracted
from kernels.particles.expectation import Disc, disc
from tasks.part_refinement.scratch import PartScratch, place_in, whole_particles
from tasks.refinement.images import CACHED_BLOCKS, block_bytes
from tasks.refinement.iterations import Block, iteration_name, rows_of
from tasks.stores.products.observations import read_coefficients
from tasks.workers.allotment import kept, n_pieces
from tasks.workers.device import device


def part_coefficients(block: Block, scratch: PartScratch) -> tuple[Disc, Tensor, Tensor]:
    """What is left of the images of a block, and their CTFs; a worker keeps the last few blocks."""
    _, geometry = whole_particles(scratch)
    n_kept = n_pieces(block_bytes(block[2] - block[1], geometry.box), CACHED_BLOCKS)
    return kept(scratch.stage, (block, scratch), lambda: _read_block(block, scratch), n_kept)


def _read_block(block: Block, scratch: PartScratch) -> tuple[Disc, Tensor, Tensor]:
    particles, geometry = whole_particles(scratch)
    first = scratch.read(iteration_name(0))
    rows = rows_of(first, block)
    coefficients, to = disc(geometry.box, geometry.box // 2 - 1), device()
    images, transfer = read_coefficients(
        scratch.store, particles.select(first["row"][rows]), geometry, coefficients, to
    )
    coefficients = coefficients.to(to)
    rest, rotation, shift_px = (
        torch.from_numpy(values).to(to)
        for values in (first[f"rest_{block[0]}"], first["rotation"][rows], first["shift_px"][rows])
    )
    whole_shift_px = shift_px - middle_in_image(rotation, place_in(scratch))
    return coefficients, subtracted(images, transfer, coefficients, rest, rotation, whole_shift_px), transfer
