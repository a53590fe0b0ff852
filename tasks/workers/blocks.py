"""Scratch products of blocks, each made once; an iteration over all particles is made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tasks.records.session import StageParams
from tasks.stores.products.scratch import Scratch
from tasks.workers.connection import Label
from tasks.workers.items import run_all

Params = TypeVar("Params", bound=StageParams)


def run_blocks(
    scratch: Scratch[Params],
    make: Callable[..., None],
    blocks: Mapping[str, Any],
    *arguments: Any,
    label: Label = "GPU",
    advance: Callable[[], None] | None = None,
) -> None:
    """Make the scratch product of every block that is not there yet; raises what ends one of them.

    On a worker ``make(block, scratch, attempt, *arguments)`` fills the product that ``blocks`` has the block under.
    """
    run_all(
        _make_block, list(blocks.items()), scratch, make, *arguments,
        label=label, name=scratch.stage, advance=advance,
    )  # fmt: skip


def _make_block(
    item: tuple[str, Any], scratch: Scratch[Params], make: Callable[..., None], *arguments: Any
) -> None:  # fmt: skip
    name, block = item
    if scratch.record(name) is None:
        with scratch.write(name) as attempt:
            make(block, scratch, attempt, *arguments)
