"""Exposures behind a detector whose response is known: the specimen differs from one to the next, the pattern stays."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from kernels.optics import Optics
from kernels.specimen.simulation import Detector, random_detector
from tasks.records.exposure import Exposure
from tasks.stores.session_store import SessionStore

OPTICS = Optics(300.0, 2.7, 0.1, 1.1)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def specimen(shape: tuple[int, int], random: torch.Generator) -> Tensor:
    """(y, x) intensity around 1: ice that varies over hundreds of pixels, and fine grain, 10 % RMS together."""
    frequency = torch.hypot(torch.fft.fftfreq(shape[0])[:, None], torch.fft.rfftfreq(shape[1])[None])
    amplitude = 0.5 / (1 + (frequency / 0.01) ** 2) + 0.06
    image = torch.fft.irfft2(torch.fft.rfft2(torch.randn(shape, generator=random)) * amplitude, s=shape)
    return (1 + 0.1 * image / image.std()).clamp(min=0)


def counts(detector: Detector, mean: float, random: torch.Generator, broken: Tensor | None = None) -> Tensor:
    """(y, x) counts of a whole exposure; ``broken`` (y, x) multiplies the response."""
    expected = mean * specimen(tuple(detector.gain.shape), random) / detector.gain  # type: ignore[arg-type]
    expected = expected.masked_fill(detector.is_dead, 0.0).masked_fill(detector.is_hot, 40 * mean)
    return torch.poisson(expected if broken is None else expected * broken, generator=random)


def with_other_pixels(detector: Detector, share: float, random: torch.Generator) -> Detector:
    """A detector whose response is in part that of another: what a new gain reference amounts to."""
    other = random_detector(tuple(detector.gain.shape), random)  # type: ignore[arg-type]
    return replace(detector, gain=1 / ((1 - share) / detector.gain + share / other.gain))


class _Params(BaseModel):
    rotation_deg: int = 0
    flip: str = "none"
    meaning: str = "auto"
    is_for_eer: bool = False


def _hash(values: Tensor) -> str:
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()


def add_exposure(store: SessionStore, exposure_id: str, total: Tensor, n_frames: int = 2) -> None:
    """A movie in the store whose frames sum to ``total`` (y, x)."""
    first = (total / n_frames).floor()
    frames = torch.stack([first] * (n_frames - 1) + [total - (n_frames - 1) * first]).numpy()
    if not (frames % 1).any() and frames.max() < 65536:
        frames = frames.astype(np.uint16)
    about = Exposure(
        id=exposure_id, name=f"{exposure_id}.tiff", source="", content_hash="0", kind="movie", n_frames=n_frames,
        shape=frames.shape[1:], optics=OPTICS, dose_per_frame=1.0,
    )  # fmt: skip
    product = store.exposure_product(exposure_id, "import_session")
    with product.write("import_session", 1, _Params(), {"file": _hash(total)}) as attempt:
        attempt.write("frames", frames)
        attempt.details["exposure"] = about.model_dump(mode="json")


def add_gain(store: SessionStore, gain: Tensor, **params: object) -> None:
    """``session/gain``, as an import with these parameters would have left it."""
    inputs = {"gain": _hash(gain)}
    with store.product("session/gain").write("import_session", 1, _Params(**params), inputs) as attempt:  # type: ignore[arg-type]
        attempt.write("gain", gain.contiguous().numpy().astype(np.float32))
        attempt.write("is_defect", (gain <= 0).to(torch.uint8).contiguous().numpy())
        attempt.details = {"shape": list(gain.shape), "is_gain_given": True}
