"""From the last byte of a movie to the start of its processing, while movies are written page by page.

Two microscopes write into folders that `watch_sessions` watches as its deployment does: it starts runs of
`process_live` on a work pool that a Prefect worker serves. One writes TIFF, whose file is whole after every page, the
other MRC, whose header states all frames from the beginning. Nobody tells how many frames a movie has. Processing
starts when a worker has read the file and claims its content, before anything of it is stored; a claim that is older
than the last byte is a premature read.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import mrcfile
import numpy as np
import tifffile
from numpy.typing import NDArray
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import services
from flows.declarations import read_declarations
from flows.deploy import deploy
from flows.settings import Settings
from flows.watch_sessions import watch_sessions
from tasks.records.comparison import Comparison
from tasks.stores.files.content_claims import all_claims
from tasks.stores.session_store import SessionStore
from tests.torture.feed import N_FRAMES, Feed
from tests.torture.site import RECIPE

_SECONDS_TO_WRITE = 3.0
_SECONDS_BETWEEN_MOVIES = 6.0


def latency(folder: Path, n_movies: int = 16) -> list[Comparison]:
    """Median and worst latency over two sessions of ``n_movies`` each, and how often a file was read too early."""
    settings = Settings(home=folder / "home", dask_address=None, prefect_api_url=None, serves_pools=True)
    found = services.up(settings)
    environment = {"VITRIFLOW_HOME": str(settings.home), "VITRIFLOW_DASK_ADDRESS": found.dask_address}
    root, stores = folder / "microscopes", folder / "stores"
    finished: dict[str, dict[str, float]] = {"tiff": {}, "mrc": {}}
    root.mkdir()
    stores.mkdir()
    try:
        with temporary_settings({PREFECT_API_URL: found.prefect_api_url}), patch.dict("os.environ", environment):
            deploy(read_declarations(), settings)
            microscopes = [
                threading.Thread(target=_collect, args=(root / name, n_movies, write, finished[name]), daemon=True)
                for name, write in (("tiff", _write_tiff), ("mrc", _write_mrc))
            ]
            for microscope in microscopes:
                microscope.start()
            seconds = n_movies * (_SECONDS_TO_WRITE + _SECONDS_BETWEEN_MOVIES) + 45
            watch_sessions([str(root)], str(stores), "default", RECIPE, seconds=seconds)
            for microscope in microscopes:
                microscope.join()
    finally:
        services.down(settings)
    lines: list[Comparison] = []
    n_premature = n_missing = 0
    for name, last_bytes in finished.items():
        found_at = _claimed_at(SessionStore.open(str(stores / f"{name}.zarr")))
        waits = [found_at[stem][0] - last_bytes[stem] for stem in last_bytes if stem in found_at]
        n_missing += len(last_bytes) - len(waits)
        n_premature += sum(at < last_bytes[stem] for stem, times in found_at.items() for at in times)
        print(f"{name}: seconds from the last byte to the start of its processing: {[round(w, 1) for w in waits]}")
        lines += [
            _line(f"last byte to processing, {name}, median", statistics.median(waits), "s", 15),
            _line(f"last byte to processing, {name}, worst", max(waits), "s", 15),
        ]
    return [*lines, _line("premature reads", n_premature, "", 0), _line("movies not processed", n_missing, "", 0)]


def _line(figure: str, value: float, unit: str, reach: float) -> Comparison:
    return Comparison(stage="latency", figure=figure, value=value, unit=unit, reach=reach)


def _claimed_at(store: SessionStore) -> dict[str, list[float]]:
    """Stem of a file -> seconds since 1970 at which a worker claimed a content of it, the first time first."""
    found: dict[str, list[float]] = {}
    for claim in sorted(all_claims(store)):
        found.setdefault(claim.exposure_id.rsplit("-", 1)[0], []).append(claim.claimed_at_ns / 1e9)
    return found


def _collect(folder: Path, n_movies: int, write: Callable[[Path, NDArray], Path], finished: dict[str, float]) -> None:
    feed = Feed(folder, n_movies, 0, 0, 0, 0, 0, 0)
    for number in range(n_movies):
        path = write(folder / f"movie_{number:05d}", feed.frames_of(number))
        finished[path.stem] = time.time()
        time.sleep(_SECONDS_BETWEEN_MOVIES)


def _write_tiff(stem: Path, frames: NDArray) -> Path:
    path = stem.with_suffix(".tif")
    with tifffile.TiffWriter(path) as writer:
        for frame in frames:
            time.sleep(_SECONDS_TO_WRITE / N_FRAMES)
            writer.write(frame, photometric="minisblack", contiguous=False)
            writer._fh.flush()
    return path


def _write_mrc(stem: Path, frames: NDArray) -> Path:
    path, whole = stem.with_suffix(".mrc"), stem.with_name(f".{stem.name}.whole")
    with mrcfile.new(whole) as mrc:
        mrc.set_data(frames.astype(np.int8))
    content = whole.read_bytes()
    whole.unlink()
    blocks = N_FRAMES * 4
    with open(path, "wb", buffering=0) as file:
        for block in range(blocks):
            time.sleep(_SECONDS_TO_WRITE / blocks)
            file.write(content[block * len(content) // blocks : (block + 1) * len(content) // blocks])
    return path
