"""2D classification: class averages, and the particles of the classes that look like the particle.

Each iteration is one sum over all particle blocks (or, in a large set, over a random part of them), through scratch
products; an interrupted run continues at the block it lost. Averages end at `Classify2dParams.resolution_angstrom`.

Where particles were added to those that were classified with the same parameters, the last averages are where the
next run starts, at its last iterations, and a class keeps its number. So the result depends on the order in which the
data came, which its fingerprint does not show; ``renewed_from`` in the details of its record does.
"""

from __future__ import annotations

import logging
import math
from dataclasses import fields
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, field_validator, model_validator

from kernels import fourier
from kernels.masks import soft_circle
from kernels.particles.classification import (
    Classes,
    ClassFigures,
    ClassSums,
    Search,
    block_sums,
    class_figures,
    first_classes,
    reasons_to_drop,
    search_of_iteration,
    updated,
    with_empty_classes_split,
)
from kernels.particles.expectation import Disc, disc, expectation_memory_bytes
from tasks.progress import progress
from tasks.records.forecast import Need, Outline
from tasks.records.particle_identity import sample_of, share_left
from tasks.records.particles import ParticleSet
from tasks.records.renewal import Renewal
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt, Reader, Record, fingerprint
from tasks.stores.products.observations import Geometry, read_coefficients, reading_memory_bytes, stack_geometry
from tasks.stores.products.outline import particles_outline
from tasks.stores.products.particle_store import read_particles, write_particles
from tasks.stores.products.scratch import Scratch
from tasks.stores.session_store import SessionStore
from tasks.workers.allotment import kept, n_pieces
from tasks.workers.blocks import run_blocks
from tasks.workers.connection import require_workers
from tasks.workers.device import device
from tasks.workers.room import fitting
from tasks.workers.usage import stage_usage

logger = logging.getLogger(__name__)

_STAGE, _VERSION = "classify_2d", 2
_INPUT, _CLASSES, _SELECTED = "particles/extracted", "classes/2d", "particles/selected"
_CACHED_BLOCKS = 8
_FULL_LAST_ITERATIONS = 3
_SMALLEST_CLASS = 5
_ASSIGNED = ("owner", "particle_evidence", "shift_px")
_FREE_TO_CHANGE = {"keep", "start", "n_renewal_iterations", "batch_size", "block_size"}
"""Parameters that say nothing about the averages."""
_SHARE_LEFT = 0.5
"""A set in which less than this is left of the last one is another set."""

Block = tuple[int, int]
"""First row of the particle set, and the one after the last."""


class Classify2dParams(StageParams):
    """Parameters of `classify_2d`."""

    n_classes: int = Field(default=12, ge=1, le=200)
    n_iterations: int = Field(default=25, ge=2, le=200)
    start: Literal["last", "nothing"] = "last"
    """From the last averages where particles were added to those they were made from, or always from nothing."""
    n_renewal_iterations: int = Field(default=6, ge=1, le=200)
    """Of the last iterations, those that a start from the last averages goes through."""
    first_resolution_angstrom: float = Field(default=40.0, gt=0)
    resolution_angstrom: float = Field(default=9.0, gt=2)
    """Finest detail that is looked at."""
    diameter_angstrom: float | None = Field(default=None, gt=0)
    """Diameter of the mask on the averages; 80 % of the box when None."""
    shift_radius_angstrom: float = Field(default=14.0, ge=0)
    """How far particles may lie from the centre of their image."""
    keep: Literal["auto", "all"] | list[int] = "auto"
    """Classes whose particles go on: those that pass the automatic choice, all, or these numbers."""
    batch_size: int = Field(default=20_000, ge=100)
    """Particles per iteration before the last three, which see all."""
    block_size: int = Field(default=2_000, ge=10)
    """Particles per item; a worker keeps eight blocks where it has room, one where not."""
    seed: int = 0

    @field_validator("keep")
    @classmethod
    def _classes_have_numbers(cls, keep: str | list[int]) -> str | list[int]:
        if isinstance(keep, list) and (not keep or min(keep) < 0):
            raise ValueError(f"classes {keep}, expected one number or more from 0 on, or 'auto' or 'all'")
        return keep

    @model_validator(mode="after")
    def _detail_grows(self) -> Classify2dParams:
        self.require_not_falling("resolution_angstrom", "first_resolution_angstrom")
        return self


@task(name="classify_2d", cache_policy=NO_CACHE)
def classify_2d(session_url: str, params: Classify2dParams) -> StageReport:
    """Class averages of ``particles/extracted`` in ``classes/2d``, and the kept particles in ``particles/selected``."""
    store = SessionStore.open(session_url)
    report = StageReport(stage=_STAGE)
    inputs = store.fingerprints([_INPUT])
    print_now = fingerprint(_STAGE, _VERSION, params, inputs)
    if all(store.product(address).is_current(print_now) for address in (_CLASSES, _SELECTED)):
        report.kept.extend([_CLASSES, _SELECTED])
        return report
    run = _Run(store, params)
    foreseen = fitting(store, "GPU", need(particles_outline(store, run.particles), params), report)
    with foreseen, stage_usage(require_workers("GPU"), "GPU", report):
        run.classify()
    run.write_classes()
    n_kept = run.write_selection()
    report.done.extend([_CLASSES, _SELECTED])
    logger.info("classify_2d: %d of %d particles kept; %.1f CPU-s", n_kept, run.n_particles, report.cpu_seconds)
    return report


def need(about: Outline, params: Classify2dParams) -> Need:
    """What classification needs at its finest: every class at every angle, one block, and the stack it is read from."""
    geometry = Geometry(about.box, about.particle_pixel_size_angstrom)
    n = _side(geometry, params)
    radius, n_coefficients = geometry.field_angstrom / params.resolution_angstrom, _n_coefficients(geometry, params)
    n_classes = max(1, min(params.n_classes, about.n_particles // _SMALLEST_CLASS))
    n_references = n_classes * search_of_iteration(
        params.n_iterations, params.n_iterations, geometry.field_angstrom,
        params.diameter_angstrom or 0.8 * geometry.field_angstrom, params.first_resolution_angstrom,
        params.resolution_angstrom, params.shift_radius_angstrom * n / geometry.field_angstrom,
    ).n_rotations  # fmt: skip
    n_blocks = max(1, math.ceil(about.n_particles / params.block_size))
    block = 12 * math.ceil(about.n_particles / n_blocks) * n_coefficients
    work = expectation_memory_bytes(n_references, n_coefficients) + 35 * n_references * n**2
    least = block + max(work, reading_memory_bytes(about.densest, about.box)) + 200 * about.n_particles
    n_seen = min(about.n_particles, params.batch_size) * params.n_iterations / 25
    n_shifts = math.pi * (params.shift_radius_angstrom * n / geometry.field_angstrom) ** 2 + 1
    return Need(
        stage=_STAGE,
        n_items=n_blocks,
        memory_bytes=least + (min(_CACHED_BLOCKS, n_blocks) - 1) * block,
        least_memory_bytes=least,
        disk_bytes=n_blocks * (n_classes + 1) * 6 * n**2 + about.n_particles * 200,
        cpu_seconds=2 + 8e-10 * n_seen * n_references * math.pi / 2 * radius**2 * n_shifts,
        told_from=f"{about.particles_words}, {n_classes} classes",
        remedy="lower `classify_2d.n_classes` or `classify_2d.block_size`, or raise `classify_2d.resolution_angstrom`",
    )


class _Run:
    """One classification: where its state lies in the store, and how it gets from one iteration to the next."""

    def __init__(self, store: SessionStore, params: Classify2dParams) -> None:
        self.store, self.params = store, params
        self.particles = read_particles(store.product(_INPUT).read())
        self.n_particles = len(self.particles)
        if self.n_particles == 0:
            raise ValueError(
                f"{_INPUT}: found no particles, expected at least {_SMALLEST_CLASS}; look at the picks and at curation"
            )
        self.inputs = store.fingerprints([_INPUT])
        self.geometry = stack_geometry(store, self.particles)
        self.n_classes = max(1, min(params.n_classes, self.n_particles // _SMALLEST_CLASS))
        if self.n_classes < params.n_classes:
            logger.warning(
                "classify_2d: %d particles are too few for %d classes; %d classes are made",
                self.n_particles, params.n_classes, self.n_classes,
            )  # fmt: skip
        self.renewed_from = self._last()
        self.scratch = self._scratch(self.renewed_from)
        size = params.block_size
        n_blocks = math.ceil(self.n_particles / size)
        edges = np.linspace(0, self.n_particles, n_blocks + 1).round().astype(int).tolist()
        self.blocks = list(pairwise(edges))

    def _scratch(self, renewed_from: Renewal | None) -> Scratch[Classify2dParams]:
        # which classes are kept does not change the classes
        computation = self.params.model_copy(update={"keep": "auto"})
        before = {renewed_from.product: renewed_from.fingerprint} if renewed_from else {}
        return Scratch(self.store, _STAGE, _VERSION, computation, self.inputs | before)

    def _last(self) -> Renewal | None:
        """The averages to start from, None to start from nothing."""
        record = self.store.product(_CLASSES).record()
        if self.params.start == "nothing" or record is None or record.state != "done" or record.attempt is None:
            return None
        before = Renewal.model_validate(record.details["renewed_from"]) if record.details.get("renewed_from") else None
        if record.inputs == self.inputs and self._scratch(before).record("result"):
            return before  # other classes are to be kept, or the selection was not written
        reason = self._reason_against(record)
        if reason:
            logger.info("classify_2d: from nothing: %s", reason)
            return None
        n_particles = int(record.figures["n_particles"] or 0)
        generation = before.generation + 1 if before else 1
        logger.info("classify_2d: from the averages of %d particles to %d", n_particles, self.n_particles)
        return Renewal(
            product=_CLASSES, fingerprint=record.fingerprint, n_particles=n_particles, generation=generation
        )  # fmt: skip

    def _reason_against(self, record: Record) -> str | None:
        """Why the classes of a record are not where this run starts, None where they are."""
        ours = self.params.model_dump(mode="json")
        changed = sorted(name for name in ours.keys() - _FREE_TO_CHANGE if record.params.get(name) != ours[name])
        if record.stage_version != _VERSION or changed:
            return f"the last averages are of other parameters ({', '.join(changed)})"
        if share_left(record.details["sample"], self.particles) < _SHARE_LEFT:
            return "the last averages are of other particles"
        n = _disc(self.geometry, self.params).n
        expected, found = (self.n_classes, n, n), self.store.product(_CLASSES).read().shape("class_average")
        return f"the last averages are {found}, now {expected}" if found != expected else None

    def classify(self) -> None:
        """Run the iterations that are not in scratch yet."""
        if self.scratch.record("result"):
            return
        last = self.params.n_iterations
        first = next((i for i in range(last, -1, -1) if self.scratch.record(_state(i))), None)
        with progress(_STAGE, last + 1) as advance:
            if first is None and self.renewed_from:
                first = max(0, last - self.params.n_renewal_iterations)
                self._start_from_last(first)
            elif first is None:
                first = 0
                run_blocks(self.scratch, _start_block, {_state(0): self.blocks[0]}, self.n_classes)
            for iteration in range(last):
                if iteration >= first:
                    blocks = self._batch(iteration)
                    run_blocks(self.scratch, _sum_block, {_block_of(iteration, b): b for b in blocks}, iteration)
                    self._update(iteration, blocks)
                advance()
            run_blocks(self.scratch, _sum_block, {_block_of(last, b): b for b in self.blocks}, last)
            self._finish(last)
            advance()

    def _start_from_last(self, iteration: int) -> None:
        last = self.store.product(_CLASSES).read()
        n_particles = np.array(last.attributes["n_particles"], dtype=np.float32)
        average = last["class_average"]
        with self.scratch.write(_state(iteration)) as attempt:
            attempt.write("average", average * np.float32(self.geometry.box / average.shape[-1] ** 2))
            attempt.write("noise_variance", last["noise_variance"])
            attempt.write("share", (n_particles + 0.1) / (n_particles + 0.1).sum())
            attempt.figures["shift_variance_px2"] = float(last.attributes["shift_variance_px2"])

    def write_classes(self) -> None:
        """``classes/2d``: averages, figures and, for each class that is dropped, the reason."""
        result = self.scratch.read("result")
        reasons = self._reasons(result)
        shells = result["resolution_shell"]
        resolution = [self.geometry.field_angstrom / s if s else None for s in shells.tolist()]
        is_kept = [reason is None for reason in reasons]
        average = result["average"]
        with self.store.product(_CLASSES).write(_STAGE, _VERSION, self.params, self.inputs) as attempt:
            attempt.write("class_average", average)
            table = {
                "n_particles": result["n_particles"].tolist(),
                "resolution_angstrom": [None if r is None else round(r, 2) for r in resolution],
                "score": [round(float(e), 3) for e in result["evidence"]],
                "ssnr": [round(float(e), 3) for e in result["ssnr"]],
                "is_kept": is_kept,
                "reason": reasons,
            }
            pixel_size = self.geometry.field_angstrom / average.shape[-1]
            attempt.write("noise_variance", result["noise_variance"])
            variance = result.record.figures["shift_variance_px2"]
            attempt.set_attributes({"pixel_size_angstrom": pixel_size, "shift_variance_px2": variance, **table})
            attempt.details.update({"pixel_size_angstrom": pixel_size, **table})
            attempt.details["renewed_from"] = self.renewed_from.model_dump() if self.renewed_from else None
            attempt.details["sample"] = sample_of(self.particles)
            kept_resolution = [r for r, kept in zip(resolution, is_kept) if kept and r is not None]
            attempt.figures.update(
                n_classes=len(is_kept),
                generation=self.renewed_from.generation if self.renewed_from else 0,
                n_kept_classes=sum(is_kept),
                n_particles=self.n_particles,
                n_kept_particles=sum(n for n, kept in zip(table["n_particles"], is_kept) if kept),
                best_resolution_angstrom=min(kept_resolution, default=None),
            )

    def write_selection(self) -> int:
        """``particles/selected``: the particles of the kept classes; returns how many."""
        result = self.scratch.read("result")
        is_kept = np.array([reason is None for reason in self._reasons(result)])
        owner = result["owner"]
        pixel_size = self.geometry.field_angstrom / result.shape("average")[-1]
        selected = self.particles.with_columns(
            class_2d=owner, log_likelihood=result["particle_evidence"], shift_angstrom=result["shift_px"] * pixel_size
        ).select(is_kept[owner])
        if len(selected) == 0:
            raise ValueError(
                f"{_STAGE}: none of {len(is_kept)} classes of {self.n_particles} particles was kept (the best score is "
                f"{float(result['evidence'].max()):.1f} nats); look at {_CLASSES} and the picks, or set keep to 'all'"
            )
        with self.store.product(_SELECTED).write(_STAGE, _VERSION, self.params, self.inputs) as attempt:
            write_particles(attempt, selected)
            attempt.figures.update(n_particles=len(selected), n_dropped=self.n_particles - len(selected))
        return len(selected)

    def _reasons(self, result: Reader) -> list[str | None]:
        n_classes = result.shape("average")[0]
        keep = self.params.keep
        if keep == "all":
            return [None] * n_classes
        if isinstance(keep, list):
            unknown = [number for number in keep if not 0 <= number < n_classes]
            if unknown:
                raise ValueError(f"{_STAGE}: keep names classes {unknown}, expected numbers from 0 to {n_classes - 1}")
            return [None if number in keep else "not among the classes to keep" for number in range(n_classes)]
        figures = ClassFigures(*(torch.from_numpy(result[field.name]) for field in fields(ClassFigures)))
        return reasons_to_drop(figures, self.geometry.field_angstrom, _SMALLEST_CLASS)

    def _batch(self, iteration: int) -> list[Block]:
        """Blocks of one iteration: all, or in a large set a random part of them."""
        n = max(1, math.ceil(self.params.batch_size / self.params.block_size))
        if n >= len(self.blocks) or iteration >= self.params.n_iterations - _FULL_LAST_ITERATIONS:
            return self.blocks
        chosen = np.random.default_rng([self.params.seed, iteration]).choice(len(self.blocks), n, replace=False)
        return [self.blocks[i] for i in sorted(chosen)]

    def _update(self, iteration: int, blocks: list[Block]) -> None:
        coefficients = _disc(self.geometry, self.params)
        mask = _mask(self.geometry, self.params, coefficients.n)
        classes = _read_classes(self.scratch, iteration)
        sums = self._sums(iteration, blocks)
        progress = iteration / self.params.n_iterations
        classes = updated(classes, sums, coefficients, mask)
        n_split = 0
        if progress < 0.7 and not self.renewed_from:  # a class that is split takes another's number
            generator = torch.Generator().manual_seed(self.params.seed + 1000 * (iteration + 1))
            n_min = 0.1 * float(sums.occupancy.sum()) / self.n_classes
            classes, n_split = with_empty_classes_split(classes, sums.occupancy, n_min, generator)
        with self.scratch.write(_state(iteration + 1)) as attempt:
            for name in ("average", "noise_variance", "share"):
                attempt.write(name, getattr(classes, name).numpy())
            evidence = float(sums.evidence / sums.occupancy.sum())
            attempt.figures.update(
                shift_variance_px2=classes.shift_variance_px2, evidence=evidence, n_split_classes=n_split
            )
        self.scratch.remove(*(_block_of(iteration, block) for block in blocks))
        if iteration:
            self.scratch.remove(_state(iteration - 1))

    def _finish(self, iteration: int) -> None:
        """The last averages, the assignments and the figures.

        Classes are sorted by their number of particles when they are new, and keep their numbers when they are not.
        """
        coefficients = _disc(self.geometry, self.params)
        mask = _mask(self.geometry, self.params, coefficients.n)
        sums = self._sums(iteration, self.blocks)
        classes = updated(_read_classes(self.scratch, iteration), sums, coefficients, mask)
        readers = [self.scratch.read(_block_of(iteration, block)) for block in self.blocks]
        owner, evidence, shift_px = (
            torch.from_numpy(np.concatenate([reader[name] for reader in readers])) for name in _ASSIGNED
        )
        figures = class_figures(owner, evidence, sums, classes.noise_variance, coefficients)
        order = figures.n_particles.argsort(descending=True, stable=True)
        if self.renewed_from:
            order = torch.arange(len(order))
        place = torch.empty_like(order)
        place[order] = torch.arange(len(order))
        n, box = coefficients.n, self.geometry.box
        with self.scratch.write("result") as attempt:
            # images were divided by the box; grey values are those of the extracted images, resampled
            attempt.write("average", (classes.average[order] * (n * n / box)).numpy())
            attempt.write("noise_variance", classes.noise_variance.numpy())
            attempt.write("owner", place[owner].numpy())
            attempt.write("particle_evidence", evidence.numpy())
            attempt.write("shift_px", shift_px.numpy())
            for field in fields(figures):
                attempt.write(field.name, getattr(figures, field.name)[order].numpy())
            attempt.figures["shift_variance_px2"] = classes.shift_variance_px2
        self.scratch.remove(*(_block_of(iteration, b) for b in self.blocks), _state(iteration - 1), _state(iteration))

    def _sums(self, iteration: int, blocks: list[Block]) -> ClassSums:
        total: ClassSums | None = None
        for block in blocks:
            reader = self.scratch.read(_block_of(iteration, block))
            part = ClassSums(*(torch.from_numpy(reader[field.name]) for field in fields(ClassSums)))
            total = part if total is None else total + part
        assert total is not None
        return total


def _state(iteration: int) -> str:
    return f"iteration_{iteration:03d}"


def _block_of(iteration: int, block: Block) -> str:
    return f"iteration_{iteration:03d}_block_{block[0]:08d}"


def _disc(geometry: Geometry, params: Classify2dParams) -> Disc:
    return disc(_side(geometry, params), geometry.field_angstrom / params.resolution_angstrom)


def _side(geometry: Geometry, params: Classify2dParams) -> int:
    """Averages have 2.5 pixels per finest detail, or the sampling of the images where that is coarser."""
    field = geometry.field_angstrom
    return min(fourier.fast_size(math.ceil(2.5 * field / params.resolution_angstrom)), geometry.box)


def _n_coefficients(geometry: Geometry, params: Classify2dParams) -> int:
    """About as many as `_disc` has."""
    radius = min(geometry.field_angstrom / params.resolution_angstrom, (_side(geometry, params) - 1) // 2)
    return math.ceil(math.pi / 2 * radius**2)


def _mask(geometry: Geometry, params: Classify2dParams, n: int) -> torch.Tensor:
    diameter = params.diameter_angstrom or 0.8 * geometry.field_angstrom
    scale = n / geometry.field_angstrom
    return soft_circle(n, min(0.5 * diameter * scale, n / 2 - 3), 3.0)


def _read_classes(scratch: Scratch[Classify2dParams], iteration: int) -> Classes:
    reader = scratch.read(_state(iteration))
    variance = reader.record.figures["shift_variance_px2"]
    assert isinstance(variance, float)
    average, noise, share = (torch.from_numpy(reader[name]) for name in ("average", "noise_variance", "share"))
    return Classes(average, noise, share, variance)


# --- on the worker --------------------------------------------------------------------------------------------------


def _start_block(block: Block, scratch: Scratch[Classify2dParams], attempt: Attempt, n_classes: int) -> None:
    """The classes that the first iteration starts from."""
    params = scratch.params
    geometry, images, transfer = _block_coefficients(block, scratch)
    coefficients = _disc(geometry, params).to(images.device)
    mask = _mask(geometry, params, coefficients.n).to(images.device)
    generator = torch.Generator().manual_seed(params.seed)
    radius = _search(geometry, params, 0).radius
    classes = first_classes(images, transfer, coefficients, n_classes, mask, generator, radius)
    for name in ("average", "noise_variance", "share"):
        attempt.write(name, getattr(classes, name).cpu().numpy())
    attempt.figures["shift_variance_px2"] = classes.shift_variance_px2


def _sum_block(block: Block, scratch: Scratch[Classify2dParams], attempt: Attempt, iteration: int) -> None:
    """Sums over one block in one iteration, and what its particles are assigned to."""
    params = scratch.params
    geometry, images, transfer = _block_coefficients(block, scratch)
    coefficients = _disc(geometry, params).to(images.device)
    classes = _on_device(_read_classes(scratch, iteration))
    search = _search(geometry, params, iteration)
    sums, found, shift_px = block_sums(images, transfer, coefficients, classes, search)
    for field in fields(sums):
        attempt.write(field.name, np.atleast_1d(getattr(sums, field.name).cpu().numpy()))
    assigned = (found.group_posterior.argmax(dim=1), found.evidence, shift_px)
    for name, values in zip(_ASSIGNED, assigned):
        attempt.write(name, values.cpu().numpy())


def _search(geometry: Geometry, params: Classify2dParams, iteration: int) -> Search:
    field = geometry.field_angstrom
    n = _disc(geometry, params).n
    return search_of_iteration(
        iteration,
        params.n_iterations,
        field_angstrom=field,
        diameter_angstrom=params.diameter_angstrom or 0.8 * field,
        first_resolution_angstrom=params.first_resolution_angstrom,
        resolution_angstrom=params.resolution_angstrom,
        shift_radius_px=params.shift_radius_angstrom * n / field,
    )


def _on_device(classes: Classes) -> Classes:
    to = device()
    return Classes(
        classes.average.to(to), classes.noise_variance.to(to), classes.share.to(to), classes.shift_variance_px2
    )


def _block_coefficients(
    block: Block, scratch: Scratch[Classify2dParams]
) -> tuple[Geometry, torch.Tensor, torch.Tensor]:
    """Images and CTFs of a block; a worker keeps the last few blocks, so that iterations read them once."""
    particles = read_particles(scratch.store.product(_INPUT).read()).select(np.arange(*block))
    geometry = stack_geometry(scratch.store, particles.select(np.arange(1)))
    n_kept = n_pieces(12 * len(particles) * _n_coefficients(geometry, scratch.params), _CACHED_BLOCKS)
    return kept(_STAGE, (block, scratch), lambda: _read_block(particles, scratch), n_kept)


def _read_block(
    particles: ParticleSet, scratch: Scratch[Classify2dParams]
) -> tuple[Geometry, torch.Tensor, torch.Tensor]:
    geometry = stack_geometry(scratch.store, particles)
    coefficients = _disc(geometry, scratch.params)
    images, transfer = read_coefficients(scratch.store, particles, geometry, coefficients, device())
    return geometry, images, transfer
