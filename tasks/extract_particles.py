"""Stacks of particle images, cut from the micrographs, and the table of all particles of the session.

A window is centred on the whole pixel nearest to its coordinate. What is left of the coordinate is where the particle
lies in its image, and stands in the column ``shift_angstrom``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from kernels.fourier import fast_size, resample
from kernels.micrographs.background import normalised, without_outliers
from kernels.windows import cut_windows, is_within
from tasks.records.exposure import Exposure, ExposureCtf
from tasks.records.forecast import Need, Outline
from tasks.records.particles import ParticleSet, concatenate
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt, fingerprint
from tasks.stores.products.exposure_store import exposure, exposure_ctf, micrograph, micrograph_address
from tasks.stores.products.optics_groups import digest_of, optics_groups
from tasks.stores.products.outline import exposures_outline
from tasks.stores.products.particle_store import read_particles, write_particles
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError
from tasks.workers.allotment import n_pieces
from tasks.workers.device import device
from tasks.workers.stage import SkipItem, Stage, run_stage

logger = logging.getLogger(__name__)

TABLE = "particles/extracted"
_VERSION = 1
_PARTICLES_AT_ONCE, _FEWEST_AT_ONCE = 128, 16
_BYTES_PER_PX_AT_ONCE = 17.2
_LARGEST_FLOAT16 = 65000.0


class ExtractParticlesParams(StageParams):
    diameter_angstrom: float = Field(gt=0)
    """Of the particle; what lies beyond it is background."""
    box_size_px: int | None = Field(default=None, ge=16)
    """Side of the window in pixels of the micrograph; None for 1.4 diameters, rounded up to a side with a quick FFT."""
    output_box_px: int | None = Field(default=None, ge=16)
    """Side of the stored image, Fourier-cropped from the window; None for the window's own."""

    @field_validator("box_size_px", "output_box_px")
    @classmethod
    def _sides_are_even(cls, side: int | None) -> int | None:
        if side is not None and side % 2:
            raise ValueError(f"a box of {side} px is odd; expected an even side, for instance {fast_size(side)}")
        return side

    @model_validator(mode="after")
    def _detail_is_not_invented(self) -> ExtractParticlesParams:
        if self.box_size_px and self.output_box_px and self.output_box_px > self.box_size_px:
            raise ValueError(
                f"output_box_px is {self.output_box_px} and box_size_px {self.box_size_px}; expected the output to be "
                "at most as large as the box"
            )
        return self


@task(name="extract_particles", cache_policy=NO_CACHE)
def extract_particles(session_url: str, exposure_ids: list[str], params: ExtractParticlesParams) -> StageReport:
    """The particle stack of every picked exposure, then the table ``particles/extracted`` of the whole session.

    The table covers every exposure of the session that has a current stack, those of other batches included, in
    order of id, and is written anew only when one of them or its optics group changed; the stacks know nothing of
    groups, which are told from the whole session. Memory: see `need`.
    """
    report = run_stage(session_url, STAGE, exposure_ids, params)
    _write_table(SessionStore.open(session_url), params)
    return report


def _inputs(store: SessionStore, item: str) -> list[str]:
    return [
        f"exposures/{item}/curate_exposures",
        f"exposures/{item}/estimate_ctf",
        micrograph_address(store, item),
        f"exposures/{item}/pick_particles",
    ]


def _extract(store: SessionStore, item: str, params: ExtractParticlesParams, attempt: Attempt) -> None:
    record = exposure(store, item)
    picks = store.exposure_product(item, "pick_particles").read()
    coordinate = torch.from_numpy(picks["coordinate_px"]).float()
    image = torch.from_numpy(micrograph(store, item)["micrograph"]).to(device())
    box, output_box = _boxes(item, record, params)
    _check(item, image, coordinate, box)

    centre = coordinate.round().long()
    is_whole = is_within(image.shape, centre, box)
    n_dropped = int((~is_whole).sum())
    if not is_whole.any():
        raise SkipItem(
            f"no particles: none of {len(coordinate)} picks is {box // 2} px or more away from the edges"
            if len(coordinate)
            else "no particles were picked"
        )
    pixel_size = record.optics.pixel_size_angstrom * box / output_box
    radius_px = params.diameter_angstrom / 2 / pixel_size
    n_at_once = _FEWEST_AT_ONCE * n_pieces(
        _FEWEST_AT_ONCE * _BYTES_PER_PX_AT_ONCE * box**2, _PARTICLES_AT_ONCE // _FEWEST_AT_ONCE
    )
    blocks = centre[is_whole].to(image.device).split(n_at_once)
    stacks, n_mended = zip(*(_block(image, block, box, output_box, radius_px) for block in blocks))
    particles = _columns(
        item, record, exposure_ctf(store, item), coordinate[is_whole], picks["score"][is_whole.numpy()]
    )

    attempt.write("image", np.concatenate(stacks))
    write_particles(attempt, particles)
    attempt.set_attributes({"pixel_size_angstrom": pixel_size, "box_size_px": output_box})
    attempt.figures = {
        "n_particles": len(particles),
        "n_dropped_at_edge": n_dropped,
        "n_mended_pixels": sum(n_mended),
        "box_size_px": output_box,
        "pixel_size_angstrom": pixel_size,
    }
    logger.info("extract_particles %s: %d particles, %d too near the edge", item, len(particles), n_dropped)


def need(about: Outline, params: ExtractParticlesParams) -> Need:
    """What extraction needs: the micrograph as read and used, windows of some particles, the stack and its copy."""
    box, output_box = sides(about.pixel_size_angstrom, params)
    window = _BYTES_PER_PX_AT_ONCE * box**2
    stack = 2 * about.densest * output_box**2
    least = 1.03 * (8 * about.n_px + _FEWEST_AT_ONCE * window + 2 * stack + 50e6 + min(130e6, 60 * about.n_px))
    return Need(
        stage=STAGE.name,
        n_items=about.n_exposures,
        memory_bytes=int(least + (_PARTICLES_AT_ONCE - _FEWEST_AT_ONCE) * window),
        least_memory_bytes=int(least),
        disk_bytes=about.n_particles * (2 * output_box**2 + 200),
        cpu_seconds=0.1 * about.n_exposures + 9e-8 * about.n_particles * box**2,
        told_from=f"{about.frames_words}, up to {about.densest} windows of {box} px",
        remedy="set a smaller `extract_particles.output_box_px`",
    )


def _needs(store: SessionStore, exposure_ids: Sequence[str], params: ExtractParticlesParams) -> Need:
    records = [store.exposure_product(item, "pick_particles").record() for item in exposure_ids]
    counts = [int(record.figures.get("n_picks") or 0) for record in records if record is not None]
    picked = {"n_particles": sum(counts), "most_particles": max(counts, default=0)}
    return need(exposures_outline(store, exposure_ids).model_copy(update=picked), params)


STAGE = Stage("extract_particles", _VERSION, "CPU", _extract, _inputs, needs=_needs)


def sides(pixel_size_angstrom: float, params: ExtractParticlesParams) -> tuple[int, int]:
    """Sides of the window and of the stored image that the parameters ask for."""
    box = params.box_size_px or fast_size(math.ceil(1.4 * params.diameter_angstrom / pixel_size_angstrom))
    return box, params.output_box_px or box


def _boxes(item: str, record: Exposure, params: ExtractParticlesParams) -> tuple[int, int]:
    """Sides of the window and of the stored image."""
    pixel_size = record.optics.pixel_size_angstrom
    box, output_box = sides(pixel_size, params)
    if box * pixel_size < 1.1 * params.diameter_angstrom:
        raise ValueError(
            f"exposure {item}: a box of {box} px is {box * pixel_size:.0f} Å, and leaves no background around a "
            f"particle of {params.diameter_angstrom:g} Å; set `extract_particles.box_size_px` to "
            f"{fast_size(math.ceil(1.4 * params.diameter_angstrom / pixel_size))}"
        )
    if output_box > box:
        raise ValueError(
            f"exposure {item}: output_box_px is {output_box}, larger than the box of {box} px; "
            "set a larger `extract_particles.box_size_px` or a smaller output"
        )
    return box, output_box


def _check(item: str, image: Tensor, coordinate: Tensor, box: int) -> None:
    n_bad = int((~torch.isfinite(image)).sum())
    if n_bad:
        raise ValueError(
            f"exposure {item}: {n_bad} of {image.numel()} pixels of its micrograph are not finite; expected none; "
            "run correct_motion again, or leave this exposure out"
        )
    if box > min(image.shape):
        raise ValueError(
            f"exposure {item}: a box of {box} px is larger than its micrograph of {image.shape[0]} × {image.shape[1]} "
            "px; check `extract_particles.diameter_angstrom` and the pixel size"
        )
    if not bool(torch.isfinite(coordinate).all()):
        raise ValueError(f"exposure {item}: a coordinate of its picks is not finite; run pick_particles again")


def _block(image: Tensor, centre: Tensor, box: int, output_box: int, radius_px: float) -> tuple[NDArray, int]:
    windows, n_mended = without_outliers(cut_windows(image, centre, box))
    stack = normalised(resample(windows, (output_box, output_box)), radius_px)
    return stack.clamp(-_LARGEST_FLOAT16, _LARGEST_FLOAT16).half().cpu().numpy(), int(n_mended.sum())


def _columns(item: str, record: Exposure, fit: ExposureCtf, coordinate: Tensor, score: NDArray) -> ParticleSet:
    n = len(coordinate)
    remainder = coordinate - coordinate.round()
    columns = {
        "exposure": np.zeros(n),
        "stack_index": np.arange(n),
        "coordinate_px": coordinate.numpy(),
        "pick_score": score,
        "defocus_u_angstrom": np.full(n, fit.defocus_u_angstrom),
        "defocus_v_angstrom": np.full(n, fit.defocus_v_angstrom),
        "defocus_angle_rad": np.full(n, math.radians(fit.defocus_angle_deg)),
        "phase_shift_rad": np.full(n, math.radians(fit.phase_shift_deg)),
        "optics_group": np.full(n, record.optics_group),
        "shift_angstrom": (remainder * record.optics.pixel_size_angstrom).numpy(),
    }
    return ParticleSet((item,), columns)


def _write_table(store: SessionStore, params: ExtractParticlesParams) -> None:
    product = store.product(TABLE)
    stacks = dict(_current(store, store.exposure_ids(), params))
    numbers = optics_groups(store)
    groups = digest_of(numbers, (address.split("/")[1] for address in stacks))
    inputs = stacks | ({"optics_groups": groups} if groups else {})
    if product.is_current(fingerprint(STAGE.name, _VERSION, params, inputs)):
        return
    if not stacks:
        product.put_outcome("skipped", "no exposure has particles", STAGE.name, _VERSION, params, inputs)
        return
    readers = [store.product(address).read() for address in stacks]
    sampling = {(float(r.attributes["pixel_size_angstrom"]), int(r.attributes["box_size_px"])) for r in readers}
    if len(sampling) > 1:
        found = ", ".join(f"{side} px of {size:.4g} Å" for size, side in sorted(sampling))
        raise ValueError(
            f"{TABLE}: the stacks of this session are {found}; expected one size, so set "
            "`extract_particles.box_size_px` and `output_box_px`, or keep exposures of other pixel sizes in a session "
            "of their own"
        )
    particles = concatenate([read_particles(reader) for reader in readers])
    if groups:
        own = [exposure(store, e).optics_group if e not in numbers else numbers[e] for e in particles.exposure_ids]
        particles = particles.with_columns(optics_group=np.array(own)[particles["exposure"]])
    ((pixel_size, box),) = sampling
    with product.write(STAGE.name, _VERSION, params, inputs) as attempt:
        write_particles(attempt, particles)
        attempt.set_attributes({"pixel_size_angstrom": pixel_size, "box_size_px": box})
        attempt.figures = {
            "n_particles": len(particles),
            "n_exposures": len(readers),
            "pixel_size_angstrom": pixel_size,
            "box_size_px": box,
        }
    logger.info("%s: %d particles of %d exposures", TABLE, len(particles), len(readers))


def _current(
    store: SessionStore, exposure_ids: Iterable[str], params: ExtractParticlesParams
) -> Iterable[tuple[str, str]]:
    """Address and fingerprint of every stack that still belongs to what it was made from."""
    for item in exposure_ids:
        record = store.exposure_product(item, STAGE.name).record()
        if record is None or record.state != "done":
            continue
        try:
            expected = fingerprint(STAGE.name, _VERSION, params, store.fingerprints(_inputs(store, item)))
        except StoreError:  # rejected or picked empty since: its stack is history
            continue
        if record.fingerprint == expected:
            yield f"exposures/{item}/{STAGE.name}", expected
