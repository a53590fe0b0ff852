"""States beside each other in the store: what moves, and the other state laid on the session's own."""

from __future__ import annotations

import numpy as np

from kernels.models.atomic_model import AtomicModel
from tasks.formats.structure import mmcif_of, parse_mmcif
from tasks.records.state_comparison import StateComparison
from tasks.stores.commit import Attempt
from tasks.stores.products.json_records import read_record, write_record
from tasks.stores.session_store import SessionStore


def write_comparison(attempt: Attempt, found: StateComparison, laid: AtomicModel, name: str) -> None:
    """Write what moves, and the other state in the frame of the first one, into a product ``comparisons/<name>``."""
    write_record(attempt, found)
    attempt.write("mmcif", np.frombuffer(mmcif_of(laid, name), dtype=np.uint8))
    changes = [one.change for one in found.pockets]
    attempt.figures.update(
        first=found.first,
        second=found.second,
        n_same=found.n_same,
        n_flexible=found.n_flexible,
        n_domains=len(found.domains),
        largest_turn_deg=max((one.angle_deg for one in found.motions), default=0.0),
        rmsd_angstrom=found.rmsd_angstrom,
        n_pockets_opened=changes.count("opened"),
        n_pockets_closed=changes.count("closed"),
    )


def read_comparison(store: SessionStore, name: str) -> StateComparison:
    """What moves between the states of ``comparisons/<name>``.

    Raises
    ------
    StoreError
        Where it is not there, with the reason.
    """
    return read_record(store, f"comparisons/{name}", StateComparison, f"comparison {name!r}", "compare_states")


def laid_model(store: SessionStore, name: str) -> AtomicModel:
    """The other state of ``comparisons/<name>``, in the frame of the session's model."""
    address = f"comparisons/{name}"
    return parse_mmcif(store.product(address).read()["mmcif"].tobytes(), address)
