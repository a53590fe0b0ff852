"""Atomic models in the store: each as the mmCIF file that a user takes away."""

from __future__ import annotations

import numpy as np

from kernels.models.atomic_model import AtomicModel
from tasks.formats.structure import mmcif_of, parse_mmcif
from tasks.stores.commit import Attempt
from tasks.stores.session_store import SessionStore


def write_model(attempt: Attempt, model: AtomicModel, name: str) -> None:
    """Write the model into a product ``models/<name>``."""
    attempt.write("mmcif", np.frombuffer(mmcif_of(model, name), dtype=np.uint8))
    attempt.figures.update(
        n_residues=model.n_residues,
        n_chains=len({residue.chain for residue in model.residues}),
        n_atoms=len(model),
    )


def mmcif_bytes(store: SessionStore, name: str) -> bytes:
    """The file of the model ``models/<name>``.

    Raises
    ------
    StoreError
        Where it is not there, with the reason.
    """
    product = store.product(f"models/{name}")
    product.done_record(f"model {name!r}")
    return product.read()["mmcif"].tobytes()


def read_model(store: SessionStore, name: str) -> AtomicModel:
    """The model ``models/<name>``, in the frame of its map."""
    return parse_mmcif(mmcif_bytes(store, name), f"models/{name}")
