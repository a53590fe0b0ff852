"""The iterations of a refinement, from the first that is not in scratch yet to the last."""

from __future__ import annotations

from collections.abc import Callable

from tasks.progress import progress
from tasks.refinement.iterations import Params, State, block_name, blocks_of, iteration_name, state_of
from tasks.stores.products.scratch import Scratch
from tasks.workers.blocks import run_blocks

_EARLIEST_END = 5


def run_iterations(
    scratch: Scratch[Params], start: Callable[..., None], align: Callable[..., None], merge: Callable[..., None]
) -> State:
    """The state that the last iteration left; its arrays lie in scratch.

    On workers ``start(None, scratch, attempt)`` makes iteration 0, ``align(block, scratch, attempt, state, is_final)``
    the poses and sums of a block, ``merge(iteration, scratch, attempt, state, blocks, is_final)`` the next iteration.
    """
    run_blocks(scratch, start, {iteration_name(0): None})
    blocks, last = blocks_of(scratch), scratch.params.max_iterations
    # of the iterations, the first and the newest are kept
    state = next(found for k in range(last, -1, -1) if (found := state_of(scratch, k)) is not None)
    with progress(scratch.stage, last) as advance:
        for iteration in range(1, last + 1):
            if iteration > state.iteration and not state.is_final:
                n_allowed = 1 if iteration >= _EARLIEST_END or state.is_renewal else 2
                is_final = iteration == last or state.n_stalled >= n_allowed
                sums = {block_name(iteration, block): block for block in blocks}
                run_blocks(scratch, align, sums, state, is_final)
                run_blocks(scratch, merge, {iteration_name(iteration): iteration}, state, blocks, is_final)
                scratch.remove(*sums, *([iteration_name(iteration - 1)] if iteration > 1 else []))
                found = state_of(scratch, iteration)
                assert found is not None
                state = found
            advance()
    return state
