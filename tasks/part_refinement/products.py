"""The products of a local refinement, from its last iteration."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from kernels.maps.fsc import crossing_shell, significant_correlation
from kernels.maps.part_refinement import middle_in_image, to_whole
from tasks.part_refinement.scratch import PartScratch, place_in, whole_particles
from tasks.records.density_map import DensityMap
from tasks.refinement.iterations import State, iteration_name
from tasks.stores.products.map_store import describe
from tasks.stores.products.observations import Geometry
from tasks.stores.products.particle_store import write_particles

_SURE = 2.0
"""Standard deviations of chance that the part's map has to gain over that of the whole to count as better."""


def write_part(scratch: PartScratch, state: State) -> None:
    """``particles/<name>``, then ``maps/<name>``, in the frame of the whole, from the last iteration."""
    store, params = scratch.store, scratch.params
    particles, geometry = whole_particles(scratch)
    first, last, place = (
        scratch.read(iteration_name(0)),
        scratch.read(iteration_name(state.iteration)),
        place_in(scratch),
    )
    rotation = torch.from_numpy(last["rotation"])
    shift_px = torch.from_numpy(last["shift_px"]) - middle_in_image(rotation, place)
    refined = particles.select(first["row"]).with_columns(
        rotation=last["rotation"],
        shift_angstrom=shift_px.numpy() * geometry.pixel_size_angstrom,
        half_set=last["half_set"],
        log_likelihood=last["log_likelihood"],
    )
    identity = (scratch.stage, scratch.version, params, scratch.inputs)
    with store.product(f"particles/{params.name}").write(*identity) as attempt:
        write_particles(attempt, refined)
        attempt.figures["n_particles"] = len(refined)
    share = float(np.square(first["mask"]).mean())
    found = compared(first["whole_curves"][3], last["fsc_curves"][3], share, geometry)
    turn_rad, move_px = last["prior"].tolist()
    record = DensityMap(
        name=params.name,
        kind="refined",
        pixel_size_angstrom=geometry.pixel_size_angstrom,
        symmetry="C1",
        resolution_angstrom=found.part_angstrom,
        n_particles=len(particles),
    )
    with store.product(f"maps/{params.name}").write(*identity) as attempt:
        for name in ("map", "half_1", "half_2"):
            attempt.write(name, to_whole(torch.from_numpy(last[name]), place).numpy())
        attempt.write("mask", to_whole(torch.from_numpy(first["mask"]), place).numpy())
        frequency = np.arange(last["fsc_curves"].shape[1], dtype=np.float32) / geometry.field_angstrom
        attempt.write("fsc_curves", np.concatenate([frequency[None], last["fsc_curves"]]).astype(np.float32))
        describe(attempt, record)
        attempt.details["whole_fsc_in_mask"] = [round(value, 4) for value in first["whole_curves"][3].tolist()]
        attempt.figures.update(
            is_better=found.is_better,
            resolution_angstrom=found.part_angstrom,
            whole_resolution_angstrom=found.whole_angstrom,
            fsc_gain=found.fsc_gain,
            fsc_gain_by_chance=found.by_chance,
            turn_rms_deg=round(math.degrees(turn_rad) * math.sqrt(3), 2),
            move_rms_angstrom=round(move_px * math.sqrt(2) * geometry.pixel_size_angstrom, 2),
            n_particles=len(particles),
            n_iterations=state.iteration,
        )


class Compared(NamedTuple):
    """How well a part is seen in the map of the whole, and in its own."""

    is_better: bool
    whole_angstrom: float | None
    part_angstrom: float | None
    fsc_gain: float
    """Mean over shells up to where the better of both ends."""
    by_chance: float
    """Standard deviation of that mean, were both measured with noise of their own: more than it is."""


def compared(whole: NDArray, part: NDArray, share: float, geometry: Geometry) -> Compared:
    """By the corrected FSC (shell,) of independent halves, both inside the mask of the part.

    ``share`` is that of the box inside the mask, and of the coefficients of a shell that are independent.
    """
    curves = [torch.from_numpy(curve) for curve in (whole, part)]
    threshold = significant_correlation(len(whole))
    before, after = (crossing_shell(curve, threshold) for curve in curves)
    last = max(1, math.ceil(max(before, after)))
    gain = float((curves[1] - curves[0])[1 : last + 1].mean())
    shell = torch.arange(1, last + 1)
    variance = sum((1 - curve[1 : last + 1].clamp(-1, 1).square()).square() for curve in curves)
    by_chance = float((variance / (2 * math.pi * shell**2 * share).clamp(min=1)).sum().sqrt() / last)
    is_better = after > before and gain > _SURE * by_chance
    resolutions = (_angstrom(before, geometry), _angstrom(after, geometry))
    return Compared(is_better, *resolutions, round(gain, 4), round(by_chance, 4))


def _angstrom(shell: float, geometry: Geometry) -> float | None:
    return round(geometry.field_angstrom / shell, 3) if shell else None
