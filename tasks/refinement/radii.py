"""How far in Fourier space a refinement looks, believes and inserts, and the maps that hold it."""

from __future__ import annotations

import math

import torch

from kernels import fourier
from kernels.maps.fsc import crossing_shell
from tasks.refinement.iterations import State
from tasks.refinement.params import RefineMapParams
from tasks.stores.commit import Reader
from tasks.stores.products.observations import Geometry

SEARCH_ANGSTROM = 12.0
_WELL_ABOVE = 0.5
"""FSC of the last halves up to which they are believed as references."""


def first_radius(geometry: Geometry, params: RefineMapParams) -> int:
    """Fourier radius that the initial map has content to; no later iteration aligns at less."""
    return max(4, round(geometry.field_angstrom / params.initial_low_pass_angstrom))


def search_radius(geometry: Geometry) -> int:
    """Fourier radius beyond which no search looks."""
    return round(geometry.field_angstrom / SEARCH_ANGSTROM)


def insert_radius(state: State, box: int, is_final: bool) -> int:
    """Far enough beyond the references to see what the next ones may hold; to Nyquist in the end."""
    nyquist = box // 2 - 1
    return nyquist if is_final else min(nyquist, math.ceil(1.25 * state.radius) + 6)


def trusted_shell(refined: Reader) -> int:
    """Last shell that the halves of a finished refinement are believed to, in coefficients of the particle images."""
    return math.floor(crossing_shell(torch.from_numpy(refined["fsc_curves"][4]), _WELL_ABOVE))


def map_size(radius: int, box: int) -> int:
    """Voxels a side that hold a map out to a Fourier radius."""
    return min(box, fourier.fast_size(2 * radius + 4))
