"""Iteration 0: the part's place, the rest of each half, and the poses of the whole about the part's middle."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from kernels import fourier
from kernels.maps.alignment import inverted
from kernels.maps.fsc import corrected_fsc, crossing_shell, significant_correlation
from kernels.maps.part_refinement import middle_in_image, place_of, to_part
from kernels.maps.refinement import half_reference
from kernels.rotations import symmetry_group
from tasks.part_refinement.scratch import WHOLE, PartScratch, whole_particles
from tasks.refinement.iterations import State, write_iteration
from tasks.refinement.radii import map_size, search_radius
from tasks.refinement.start import image_power
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import density_map, read_map
from tasks.workers.device import device

_WELL_ABOVE = 0.5
"""FSC of the halves in the mask up to which they are believed as references."""


def start_part(_item: None, scratch: PartScratch, attempt: Attempt) -> None:
    """Iteration 0: references and rests of both halves, known poses, and how well the whole shows the part.

    A part of a symmetric map is sought in every copy: each particle stands once for each operation.
    """
    particles, geometry = whole_particles(scratch)
    params, whole = scratch.params, read_map(scratch.store, WHOLE)
    pixel_size = geometry.pixel_size_angstrom
    mask = part_mask(scratch)
    place = place_of(mask)
    halves = {half: torch.from_numpy(whole[f"half_{half}"]).to(device()) / geometry.box for half in (1, 2)}
    generator = torch.Generator().manual_seed(0)
    curves = corrected_fsc(halves[1], halves[2], mask, generator)
    shell_143 = crossing_shell(curves.corrected, significant_correlation(len(curves.corrected)).to(mask.device))
    radius = max(search_radius(geometry), math.floor(crossing_shell(curves.corrected, _WELL_ABOVE)))
    size = map_size(math.ceil(1.3 * radius), geometry.box)
    around, curve = (torch.from_numpy(values).to(device()) for values in (whole["mask"], whole["fsc_curves"][4]))
    arrays: dict[str, Tensor] = {"mask": to_part(mask, place)}
    for half, density in halves.items():
        shell = max(crossing_shell(curve, 0.143), 1.0)
        arrays[f"rest_{half}"] = half_reference(density, around * (1 - mask), curve, pixel_size, shell)
        reference = half_reference(density, mask, curves.corrected, pixel_size, radius)
        arrays[f"reference_{half}"] = fourier.resample(to_part(reference, place), (size,) * 3)
    operations = symmetry_group(density_map(scratch.store, WHOLE).symmetry).float()
    row = np.repeat(np.arange(len(particles)), len(operations))
    rotation = torch.from_numpy(particles["rotation"])[:, None] @ operations
    rotation = rotation.flatten(0, 1)
    shift_px = torch.from_numpy(particles["shift_angstrom"])[row] / pixel_size + middle_in_image(rotation, place)
    half_set = particles["half_set"][row]
    noise = image_power(scratch.store, particles, geometry, particles["half_set"])
    widest = (math.radians(params.turn_range_deg) / 2, params.shift_range_angstrom / pixel_size / 2)
    state = State(iteration=0, radius=radius, shell_143=shell_143, is_amplitude_known=True)
    write_iteration(
        attempt, state, row=row, half_set=half_set, rotation=rotation.numpy(), shift_px=shift_px.numpy(), noise=noise,
        log_likelihood=np.zeros(len(row), np.float32), prior=np.array(widest),
        deviation=np.zeros((len(row), 5), np.float32), precision=np.zeros((len(row), 5, 5), np.float32),
        whole_curves=torch.stack([curves.unmasked, curves.masked, curves.randomised, curves.corrected]).cpu().numpy(),
        **{name: values.cpu().numpy() for name, values in arrays.items()},
    )  # fmt: skip
    attempt.details["middle_px"], attempt.details["diameter_px"] = list(place.middle_px), place.diameter_px


def part_mask(scratch: PartScratch) -> Tensor:
    """(z, y, x) the mask around the part, in the frame of the particles' map."""
    product, _, array = scratch.params.mask.rpartition("/")
    mask = torch.from_numpy(scratch.store.product(product).read()[array]).to(device())
    return (inverted(mask) if scratch.params.is_mask_mirrored else mask).clamp(0, 1)
