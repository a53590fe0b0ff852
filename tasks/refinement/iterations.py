"""What lies in scratch while a refinement runs: its iterations, their blocks, and the state between them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from tasks.refinement.params import RefineMapParams, RefinementParams
from tasks.stores.commit import Attempt, Reader
from tasks.stores.products.scratch import Scratch

STAGE, VERSION = "refine_map", 2
MAP, PARTICLES = "maps/refined", "particles/refined"

Block = tuple[int, int, int]
"""Half (1 or 2), and first and last row + 1 among the particles of that half."""
RefinementScratch = Scratch[RefineMapParams]
Params = TypeVar("Params", bound=RefinementParams)


class State(BaseModel):
    """What an iteration leaves to the next, beside its arrays."""

    iteration: int
    radius: int
    """Fourier radius that poses are refined to next, in coefficients of the particle images."""
    is_amplitude_known: bool = False
    """Whether the references have the scale of the images."""
    shell_143: float = 0.0
    n_stalled: int = 0
    """Iterations in a row that did not gain half a shell."""
    is_renewal: bool = False
    is_final: bool = False


def state_of(scratch: Scratch[Params], iteration: int) -> State | None:
    """What an iteration left, None where it is not in scratch (any more)."""
    record = scratch.record(iteration_name(iteration))
    return State.model_validate(record.details["state"]) if record else None


def blocks_of(scratch: Scratch[Params]) -> list[Block]:
    """All blocks of both halves, of even sizes, as iteration 0 divided the particles."""
    half_set = scratch.read(iteration_name(0))["half_set"]
    blocks = []
    for half in (1, 2):
        n = int((half_set == half).sum())
        edges = np.linspace(0, n, math.ceil(n / scratch.params.particles_per_block) + 1).round().astype(int).tolist()
        blocks += [(half, a, b) for a, b in pairwise(edges)]
    return blocks


def rows_of(iteration: Reader, block: Block) -> NDArray:
    """(particle,) rows of a block in the tables of an iteration."""
    half, first, last = block
    return np.flatnonzero(iteration["half_set"] == half)[first:last]


def iteration_name(iteration: int) -> str:
    return f"iteration_{iteration:03d}"


def block_name(iteration: int, block: Block) -> str:
    return f"{iteration_name(iteration)}_half_{block[0]}_block_{block[1]:08d}"


def write_iteration(attempt: Attempt, state: State, **arrays: NDArray) -> None:
    """Fill the scratch product of an iteration."""
    for name, values in arrays.items():
        attempt.write(name, values)
    attempt.details["state"] = state.model_dump()
