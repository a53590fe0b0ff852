"""A microscope that writes small movies, some of them badly, and says what has to become of each."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import tifffile
import torch

from kernels.ctf import Defocus
from kernels.optics import Optics
from tests.truth.thon_rings import micrograph

N_FRAMES = 6
SHAPE = (256, 288)
OPTICS = Optics(300, 2.7, 0.1, 2.0)

Fate = Literal["done", "quarantined", "skipped"]


@dataclass(eq=False)
class Feed(threading.Thread):
    """Writes ``n_files`` movies into ``folder``, one every ``seconds_between``."""

    folder: Path
    n_files: int
    seconds_between: float
    n_truncated: int
    n_duplicates: int
    n_growing: int
    n_other_frame_count: int
    growth_pause_seconds: float
    fates: dict[str, Fate] = field(default_factory=dict)
    """File name -> what has to become of it."""
    twins: dict[str, str] = field(default_factory=dict)
    """Copy -> the file that it is a copy of; one of the two is done, the other is skipped."""
    finished_at: dict[str, float] = field(default_factory=dict)
    """File name -> when its last byte was written, seconds since 1970."""

    def __post_init__(self) -> None:
        super().__init__(name="feed", daemon=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._base = [_frames(seed) for seed in range(8)]

    def run(self) -> None:
        kinds = self._kinds()
        growing = []
        for number, kind in enumerate(kinds):
            name = f"movie_{number:05d}.tif"
            path = self.folder / name
            frames = self.frames_of(number)
            if kind == "growing":
                growing.append(self._grow(path, frames))
            elif kind == "other":
                self._write(path, frames[: N_FRAMES - 2], "quarantined")
            elif kind == "truncated":
                self._write_truncated(path, frames)
            elif kind == "duplicate":
                original = self.folder / f"movie_{number - 1:05d}.tif"
                self.twins[name] = original.name
                self._finish(name, "skipped", lambda original=original, path=path: shutil.copyfile(original, path))
            else:
                self._write(path, frames, "done")
            time.sleep(self.seconds_between)
        for thread in growing:
            thread.join()

    def frames_of(self, number: int) -> np.ndarray:
        """(frame, y, x) counts; every movie differs from every other."""
        frames = self._base[number % len(self._base)].copy()
        frames[:, 0, : len(str(number))] = [int(digit) + 1 for digit in str(number)]
        return frames

    def _kinds(self) -> list[str]:
        """Bad files spread over the session, never two together: a duplicate is of the good file before it."""
        kinds = ["good"] * self.n_files
        wanted = [
            ("truncated", self.n_truncated),
            ("duplicate", self.n_duplicates),
            ("growing", self.n_growing),
            ("other", self.n_other_frame_count),
        ]
        bad = [kind for kind, n in wanted for _ in range(n)]
        rng = np.random.default_rng(11)
        rng.shuffle(bad)
        step = (self.n_files - 4) // max(1, len(bad))
        assert step >= 2, "give more files, so that bad ones stand apart"
        for i, kind in enumerate(bad):
            kinds[3 + i * step] = kind
        return kinds

    def _finish(self, name: str, fate: Fate, write) -> None:
        self.fates[name] = fate
        write()
        self.finished_at[name] = time.time()

    def _write(self, path: Path, frames: np.ndarray, fate: Fate) -> None:
        self._finish(path.name, fate, lambda: tifffile.imwrite(path, frames, photometric="minisblack"))

    def _write_truncated(self, path: Path, frames: np.ndarray) -> None:
        whole = path.with_name(f".{path.name}.partial")
        tifffile.imwrite(whole, frames, photometric="minisblack")
        content = whole.read_bytes()
        whole.unlink()
        self._finish(path.name, "quarantined", lambda: path.write_bytes(content[: len(content) * 2 // 3]))

    def _grow(self, path: Path, frames: np.ndarray) -> threading.Thread:
        """Page by page in two bursts: a whole TIFF file after each of them."""

        def grow() -> None:
            self.fates[path.name] = "done"
            with tifffile.TiffWriter(path) as writer:
                for i, frame in enumerate(frames):
                    writer.write(frame, photometric="minisblack", contiguous=False)
                    if i in (1, 3):
                        writer._fh.flush()
                        time.sleep(self.growth_pause_seconds)
            self.finished_at[path.name] = time.time()

        thread = threading.Thread(target=grow, daemon=True)
        thread.start()
        return thread


def _frames(seed: int) -> np.ndarray:
    image = micrograph(Defocus.of(1.5e4 + 500.0 * seed), optics=OPTICS, shape=SHAPE, seed=seed)
    rate = 20.0 * (image / image.mean()).clamp(min=0.01)
    generator = torch.Generator().manual_seed(seed)
    return torch.poisson(rate.expand(N_FRAMES, *SHAPE), generator=generator).clamp(max=255).to(torch.uint8).numpy()
