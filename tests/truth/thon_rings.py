"""Micrographs of amorphous specimens under a known CTF, drift and noise, and exposures made of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kernels import fourier
from kernels.ctf import Defocus, ctf
from kernels.micrographs.power_spectrum import Blur
from kernels.optics import Optics
from tasks.records.exposure import Exposure
from tasks.records.session import StageParams
from tasks.stores.session_store import SessionStore

KRIOS = Optics(voltage_kv=300, spherical_aberration_mm=2.7, amplitude_contrast=0.1, pixel_size_angstrom=1.1)
SHAPE = (901, 1037)


def micrograph(
    defocus: Defocus | None, *, optics: Optics = KRIOS, shape=SHAPE, seed=1, blur: Blur | None = None, rings=2.0
) -> torch.Tensor:
    """Amorphous specimen under a CTF and an envelope, over noise whose spectrum is no polynomial."""
    generator = torch.Generator().manual_seed(seed)
    grid = fourier.frequencies(shape, optics.pixel_size_angstrom)
    k = grid.norm(dim=-1)
    camera = torch.fft.rfftn(torch.randn(shape, generator=generator)) * (0.9 + 0.15 * torch.cos(14 * k)).sqrt()
    ice = torch.fft.rfftn(torch.randn(shape, generator=generator)) * (0.5 * torch.exp(-k / 0.03)).sqrt()
    image = ice
    if defocus is not None:
        specimen = torch.fft.rfftn(torch.randn(shape, generator=generator))
        form = rings * (torch.exp(-60 * k**2) + 6 * torch.exp(-((k / 0.02) ** 2)))
        image = ice + specimen * form.sqrt() * ctf(grid, defocus, optics) * torch.exp(-5 * k**2)
    if blur is not None:
        image = image * blur.loss(grid).sqrt()
    return torch.fft.irfftn(image + camera, s=shape) * 3.0 + 100.0


def put_micrograph(store: SessionStore, exposure_id: str, image: Tensor, optics: Optics = KRIOS) -> None:
    """An exposure that was imported as a ready-made micrograph."""
    _put_exposure(store, exposure_id, image, optics, "micrograph")


def put_movie(
    store: SessionStore, exposure_id: str, weighted: Tensor, unweighted: Tensor, **motion_figures: float
) -> None:
    """An exposure whose movie was corrected."""
    _put_exposure(store, exposure_id, None, KRIOS, "movie")
    inputs = store.fingerprints([f"exposures/{exposure_id}/import_session"])
    product = store.exposure_product(exposure_id, "correct_motion")
    with product.write("correct_motion", 1, StageParams(), inputs) as attempt:
        attempt.write("micrograph", weighted.numpy().astype(np.float32))
        attempt.write("unweighted_micrograph", unweighted.numpy().astype(np.float32))
        attempt.figures.update(motion_figures)


def _put_exposure(store: SessionStore, exposure_id: str, image: Tensor | None, optics: Optics, kind) -> None:
    about = Exposure(
        id=exposure_id,
        name=f"{exposure_id}.mrc",
        source=f"/data/{exposure_id}.mrc",
        content_hash="0" * 64,
        kind=kind,
        n_frames=1 if kind == "micrograph" else 10,
        shape=SHAPE if image is None else tuple(image.shape),
        optics=optics,
    )
    product = store.exposure_product(exposure_id, "import_session")
    with product.write("import_session", 1, StageParams(), {}) as attempt:
        if image is not None:
            attempt.write("micrograph", image.numpy().astype(np.float32))
        attempt.details["exposure"] = about.model_dump(mode="json")
