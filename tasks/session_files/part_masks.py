"""Masks of parts that a map shows less well than the rest, as MRC files for a refinement of each part by itself."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from tasks.formats.map_file import write_map
from tasks.session_files.exposures import SessionFile, file_name
from tasks.stores.products.map_store import density_grid
from tasks.stores.products.verdict_store import read_verdict, verdict_address
from tasks.stores.session_store import SessionStore


def mask_files(store: SessionStore) -> Iterator[SessionFile]:
    """``masks/<model>_mask_1.mrc`` of every model that was judged."""
    for model in store.names("verdicts"):
        record = store.product(verdict_address(model)).record_if_done()
        if record is not None and record.expired is None:
            for part in read_verdict(store, model).weak_parts:
                name = f"masks/{file_name(model)}_{part.mask}.mrc"
                yield SessionFile(name, partial(_write_mask, store, model, part.mask))


def _write_mask(store: SessionStore, model: str, mask: str, path: Path) -> None:
    """In the frame of the map that the model lies in."""
    grid = density_grid(store, read_verdict(store, model).map)
    write_map(path, grid.with_voxels(torch.from_numpy(store.product(verdict_address(model)).read()[mask])))
