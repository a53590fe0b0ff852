"""Atomic models in the store: each as the mmCIF file that a user takes away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels.models.atomic_model import AtomicModel
from kernels.models.mates import Mates
from tasks.formats.structure import mmcif_of, parse_assembly, parse_mmcif
from tasks.records.forecast import Need
from tasks.records.placement import Placement
from tasks.stores.commit import Attempt
from tasks.stores.products.json_records import read_record, write_record
from tasks.stores.products.map_store import MapSizes, has_map, map_sizes
from tasks.stores.session_store import SessionStore

_COUNTS = ("n_residues", "n_chains", "n_atoms", "n_copies")


def write_model(attempt: Attempt, model: AtomicModel, name: str, mates: Mates | None = None) -> None:
    """Write the model into a product ``models/<name>``; its mates are told as its assembly."""
    attempt.write("mmcif", np.frombuffer(mmcif_of(model, name, mates), dtype=np.uint8))
    attempt.figures.update(
        n_residues=model.n_residues,
        n_chains=len({residue.chain for residue in model.residues}),
        n_atoms=len(model),
    )
    if mates is not None and len(mates) > 1:
        attempt.figures["n_copies"] = len(mates)


def copy_model(store: SessionStore, attempt: Attempt, source: str) -> None:
    """Write the model ``models/<source>`` as it stands, with its assembly, into another product."""
    attempt.write("mmcif", np.frombuffer(mmcif_bytes(store, source), dtype=np.uint8))
    figures = store.product(f"models/{source}").done_record(f"model {source!r}").figures
    attempt.figures.update({name: figures[name] for name in _COUNTS if name in figures})


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


def read_assembly(store: SessionStore, name: str) -> AtomicModel:
    """All copies of the model ``models/<name>`` that its map's point group makes, as chains A, B …; else the model."""
    return parse_assembly(mmcif_bytes(store, name), f"models/{name}") or read_model(store, name)


def n_copies_of(store: SessionStore, name: str) -> int:
    """Copies of the model ``models/<name>`` in its assembly, itself included."""
    record = store.product(f"models/{name}").record()
    return 1 if record is None else int(record.figures.get("n_copies") or 1)


def n_residues_of(store: SessionStore, name: str) -> int | None:
    """Of the model ``models/<name>``, without reading it; None where it is not there."""
    record = store.product(f"models/{name}").record_if_done()
    return None if record is None else int(record.figures.get("n_residues") or 0)


@dataclass(frozen=True)
class ModelInMap:
    """What the needs of a stage that works on a model in its map follow from."""

    n_residues: int
    sizes: MapSizes

    def need(
        self,
        stage: str,
        *,
        memory_bytes: int,
        disk_bytes: int,
        cpu_seconds: float,
        remedy: str = "cut the map out around the molecule",
    ) -> Need:
        """Of a stage of one item."""
        return Need(
            stage=stage,
            n_items=1,
            memory_bytes=memory_bytes,
            disk_bytes=disk_bytes,
            cpu_seconds=cpu_seconds,
            told_from=f"{self.n_residues} residues in {self.sizes.words}",
            remedy=remedy,
        )


def model_in_map(store: SessionStore, model: str, density: str) -> ModelInMap | None:
    """A model and the map that it lies in, without reading them; None where one of them is not there."""
    n_residues = n_residues_of(store, model)
    if n_residues is None or not has_map(store, density):
        return None
    return ModelInMap(n_residues, map_sizes(store, density))


def write_placement(attempt: Attempt, found: Placement) -> None:
    """Write what was placed beside the chains of a model into its product."""
    write_record(attempt, found, "placement")


def read_placement(store: SessionStore, name: str) -> Placement:
    """What was placed in the model ``models/<name>``.

    Raises
    ------
    StoreError
        Where there is none, with the reason.
    """
    return read_record(store, f"models/{name}", Placement, f"model {name!r}", "place_ligands", "placement")
