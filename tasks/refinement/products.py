"""The products of a refinement, from its last iteration."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from kernels.maps.fsc import resolution_angstrom, significant_correlation
from kernels.rotations import symmetry_group
from tasks.records.density_map import DensityMap
from tasks.records.renewal import Renewal
from tasks.refinement.images import particles_of
from tasks.refinement.iterations import MAP, PARTICLES, STAGE, VERSION, RefinementScratch, State, iteration_name
from tasks.stores.products.map_store import describe
from tasks.stores.products.observations import Geometry
from tasks.stores.products.particle_store import write_particles


def write_products(
    scratch: RefinementScratch, state: State, renewed_from: Renewal | None, inputs: dict[str, str]
) -> None:
    """``particles/refined``, then ``maps/refined`` from the last iteration."""
    store, params = scratch.store, scratch.params
    particles, geometry = particles_of(scratch)
    last = scratch.read(iteration_name(state.iteration))
    refined = particles.with_columns(
        rotation=last["rotation"],
        shift_angstrom=last["shift_px"] * geometry.pixel_size_angstrom,
        half_set=last["half_set"],
        log_likelihood=last["log_likelihood"],
    )
    with store.product(PARTICLES).write(STAGE, VERSION, params, inputs) as attempt:
        write_particles(attempt, refined)
        attempt.figures["n_particles"] = len(refined)
    curves = last["fsc_curves"]
    frequency = np.arange(curves.shape[1], dtype=np.float32) / geometry.field_angstrom
    significant = significant_correlation(curves.shape[1], len(symmetry_group(params.symmetry)))
    resolution = {
        name: _resolution(torch.from_numpy(curves[row]), threshold, geometry)
        for name, row, threshold in (
            ("resolution_angstrom", 3, significant),
            ("resolution_unmasked_angstrom", 0, significant),
            ("fsc_0143_angstrom", 3, 0.143),
            ("fsc_half_angstrom", 3, 0.5),
        )
    }
    record = DensityMap(
        name="refined",
        kind="refined",
        pixel_size_angstrom=geometry.pixel_size_angstrom,
        symmetry=params.symmetry.upper(),
        resolution_angstrom=resolution["resolution_angstrom"],
        n_particles=len(refined),
    )
    with store.product(MAP).write(STAGE, VERSION, params, inputs) as attempt:
        for name in ("map", "half_1", "half_2", "mask"):
            attempt.write(name, last[name])
        attempt.write("fsc_curves", np.concatenate([frequency[None], curves]).astype(np.float32))
        describe(attempt, record)
        attempt.details["renewed_from"] = renewed_from.model_dump() if renewed_from else None
        attempt.figures.update(
            generation=renewed_from.generation if renewed_from else 0,
            n_particles=len(refined),
            symmetry=record.symmetry,
            n_iterations=state.iteration,
            **resolution,
        )


def _resolution(curve: Tensor, threshold: float | Tensor, geometry: Geometry) -> float | None:
    """Å where a curve crosses a threshold, None where it starts below."""
    found = resolution_angstrom(curve, geometry.box, geometry.pixel_size_angstrom, threshold)
    return round(found, 3) if math.isfinite(found) else None
