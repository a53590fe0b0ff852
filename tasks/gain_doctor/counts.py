"""The counts of one exposure, from the store or, where its import set it aside, from its file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tasks.formats import FormatError
from tasks.formats.exposure_file import FileParams, open_exposure
from tasks.stores.commit import Record
from tasks.stores.products.exposure_store import exposure
from tasks.stores.session_store import SessionStore
from tasks.workers.device import device
from tasks.workers.stage import SkipItem

FRAMES_AT_A_TIME = 4


def summed_counts(store: SessionStore, exposure_id: str) -> Tensor:
    """(y, x) float32 sum of the frames that are finite, read a few at a time."""
    record = store.exposure_product(exposure_id, "import_session").record()
    path = file_set_aside(record)
    if record is not None and path is not None:
        return _sum(_frames_of_file(path, FileParams.model_validate(record.params)))
    about = exposure(store, exposure_id)
    reader = store.exposure_product(exposure_id, "import_session").read()
    steps = range(0, about.n_frames, FRAMES_AT_A_TIME)
    return _sum(frame for start in steps for frame in reader.slice("frames", slice(start, start + FRAMES_AT_A_TIME)))


def file_set_aside(record: Record | None) -> Path | None:
    """The file of an exposure that its import would not take, for instance as its gain does not fit."""
    if record is None or record.state != "quarantined" or not record.details.get("file"):
        return None
    return Path(record.details["file"]["path"])


def _frames_of_file(path: Path, params: FileParams) -> Iterator[NDArray]:
    try:
        image = open_exposure(path, params)
        if image.n_frames == 1:
            raise SkipItem(f"{path}: has one frame and is no movie")
        for frame in range(image.n_frames):
            yield image.frame(frame)
    except (FormatError, OSError) as error:
        raise SkipItem(f"{path}: cannot be read ({error})") from error


def _sum(frames: Iterable[NDArray]) -> Tensor:
    total: Tensor | None = None
    for frame in frames:
        image = torch.from_numpy(np.ascontiguousarray(frame)).to(device()).float()
        if bool(image.isfinite().all()):
            total = image if total is None else total + image
    if total is None:
        raise ValueError("no frame is free of NaN; import the movie again")
    return total
