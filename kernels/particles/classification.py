"""2D classification: class averages by expectation maximisation over classes, in-plane rotations and shifts.

Images are CTF × (rotated, shifted class average) + noise of a spectrum that is estimated on the way. Averages are
Wiener sums over all hypotheses, weighted by their posteriors.

Source: Scheres et al., J. Mol. Biol. 2005, 348:139; regularisation as in Scheres, J. Mol. Biol. 2012, 415:406.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels import fourier
from kernels.particles.expectation import (
    Assignment,
    Disc,
    Sums,
    expectation,
    pack,
    residual_power,
    shell_means,
    shift_grid,
    unpack,
)

_TAU_FUDGE = 2.0
"""Weight of the data against the prior on the averages, as RELION's default for 2D."""


@dataclass(frozen=True)
class Classes:
    """The state of a classification."""

    average: Tensor
    """(class, y, x), in the units of the images."""
    noise_variance: Tensor
    """(shell,) mean of |noise|² of a coefficient."""
    share: Tensor
    """(class,) fraction of the particles, sums to one."""
    shift_variance_px2: float
    """Variance of the particles' shifts along one axis."""


@dataclass(frozen=True)
class Search:
    """What one iteration looks at."""

    radius: int
    """Fourier radius in pixels."""
    n_rotations: int
    shift_radius_px: float
    shift_step_px: float
    temperature: float = 1.0


@dataclass(frozen=True)
class ClassSums:
    """What the particles of a block add up to; sums of blocks add field by field."""

    numerator: Tensor
    """(class, y, x_half) complex."""
    denominator: Tensor
    """(class, shell)"""
    residual: Tensor
    """(shell,) power that the classes do not explain."""
    occupancy: Tensor
    """(class,)"""
    squared_shift_px2: Tensor
    """()"""
    evidence: Tensor
    """() sum of the particles' log evidence."""

    def __add__(self, other: ClassSums) -> ClassSums:
        return ClassSums(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


def rotation_angles(n_rotations: int) -> Tensor:
    """(rotation,) radians, evenly around the circle."""
    return torch.arange(n_rotations) * (2 * math.pi / n_rotations)


def rotate(images: Tensor, angle_rad: Tensor) -> Tensor:
    """(rotation, image, y, x): each image turned by each angle, counter-clockwise from the x axis towards y.

    Parameters
    ----------
    images
        (image, y, x), turned by all angles; or (rotation, image, y, x), each turned by its own.
    """
    n = images.shape[-1]
    fine = fourier.resample(images, (2 * n, 2 * n))
    fine = fine.expand(len(angle_rad), *fine.shape[-3:])
    axis = torch.arange(n, device=images.device, dtype=images.dtype) - n // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    cos, sin = torch.cos(angle_rad)[:, None, None].to(images), torch.sin(angle_rad)[:, None, None].to(images)
    # an image turned by an angle is read at coordinates turned back
    source = torch.stack([cos * x + sin * y, cos * y - sin * x], dim=-1)
    # pixel i of the image is pixel 2 (i - n // 2) + n of the fine one
    grid = (2 * source + n) * (2 / (2 * n - 1)) - 1
    return torch.nn.functional.grid_sample(fine, grid, mode="bicubic", padding_mode="zeros", align_corners=True)


def rotated_references(average: Tensor, angle_rad: Tensor, coefficients: Disc) -> Tensor:
    """(class × rotation, m) coefficients of class averages turned by every angle, class by class."""
    turned = rotate(average, angle_rad).transpose(0, 1)
    return pack(fourier.transform(turned), coefficients).flatten(0, 1)


def turned_back(numerator: Tensor, angle_rad: Tensor, coefficients: Disc) -> Tensor:
    """(class, y, x_half) sums over rotations of (class × rotation, m) coefficients, each turned back."""
    n = coefficients.n
    by_rotation = numerator.unflatten(0, (-1, len(angle_rad))).transpose(0, 1)
    total = torch.zeros(by_rotation.shape[1], n, n, device=numerator.device)
    chunk = max(1, 8_000_000 // (4 * n * n * by_rotation.shape[1]))
    for start in range(0, len(angle_rad), chunk):
        images = fourier.inverse(unpack(by_rotation[start : start + chunk], coefficients), (n, n))
        total += rotate(images, -angle_rad[start : start + chunk]).sum(0)
    return fourier.transform(total)


def log_prior(classes: Classes, n_rotations: int, shifts_px: Tensor) -> Tensor:
    """(shift, class × rotation) log of the prior: shares of the classes, a Gaussian over shifts."""
    of_shift = torch.log_softmax(-0.5 * shifts_px.square().sum(1) / max(classes.shift_variance_px2, 0.05), dim=0)
    of_class = torch.log(classes.share.clamp_min(1e-6)) - math.log(n_rotations)
    return of_shift[:, None] + of_class.repeat_interleave(n_rotations)[None].to(of_shift)


def block_sums(
    images: Tensor, transfer: Tensor, coefficients: Disc, classes: Classes, search: Search
) -> tuple[ClassSums, Assignment, Tensor]:
    """Expectation step over one block of particles.

    Parameters
    ----------
    images, transfer
        (particle, m) coefficients and CTFs over ``coefficients``; those beyond the search's radius are not used.

    Returns
    -------
    The sums, what each particle was assigned to (groups are classes), and its most likely shift (particle, 2) in px.
    """
    used = coefficients.within(search.radius)
    m = len(used.shell)
    angles = rotation_angles(search.n_rotations).to(images.device)
    shifts = shift_grid(search.shift_radius_px, search.shift_step_px, images.device)
    references = rotated_references(classes.average, angles, used)
    noise_variance = classes.noise_variance[used.shell]
    sums, found = expectation(
        images[:, :m],
        transfer[:, :m],
        references,
        noise_variance,
        used,
        shifts,
        log_prior(classes, search.n_rotations, shifts),
        groups=len(classes.average),
        temperature=search.temperature,
    )
    return _of_classes(sums, references, angles, used, coefficients, found), found, shifts[found.shift]


def _of_classes(
    sums: Sums, references: Tensor, angles: Tensor, used: Disc, coefficients: Disc, found: Assignment
) -> ClassSums:
    n_shells = coefficients.n_shells
    by_class = sums.denominator.unflatten(0, (-1, len(angles))).sum(1)
    counts = fourier.shell_sums(torch.ones_like(by_class[0]), used.shell, n_shells)
    residual = fourier.shell_sums(residual_power(sums, references), used.shell, n_shells)
    return ClassSums(
        numerator=turned_back(sums.numerator, angles, used),
        # turned by all angles, the sum of CTF² depends on the radius alone
        denominator=fourier.shell_sums(by_class, used.shell, n_shells) / counts.clamp_min(1),
        residual=residual / counts.clamp_min(1),
        occupancy=sums.occupancy.unflatten(0, (-1, len(angles))).sum(1),
        squared_shift_px2=sums.squared_shift_px2,
        evidence=found.evidence.sum(),
    )


def noise_alone(images: Tensor, coefficients: Disc) -> Tensor:
    """(shell,) spectrum of the images as if nothing else were in them: where a classification starts."""
    return shell_means(images.abs().square().mean(0), coefficients)


def first_classes(
    images: Tensor,
    transfer: Tensor,
    coefficients: Disc,
    n_classes: int,
    mask: Tensor,
    generator: torch.Generator,
    radius: float,
) -> Classes:
    """Averages of random subsets out to a Fourier radius, each turned by a random angle."""
    n, n_particles = coefficients.n, len(images)
    low = coefficients.within(radius)
    part, ctf = images[:, : len(low.shell)], transfer[:, : len(low.shell)]
    owner = torch.arange(n_particles) % n_classes
    owner = owner[torch.randperm(n_particles, generator=generator)].to(images.device)
    numerator = torch.zeros(n_classes, len(low.shell), dtype=images.dtype, device=images.device)
    numerator.index_add_(0, owner, part * ctf)
    denominator = torch.zeros(n_classes, len(low.shell), device=images.device)
    denominator.index_add_(0, owner, ctf.square())
    averages = fourier.inverse(unpack(numerator / (denominator + denominator.mean()), low), (n, n))
    angles = (2 * math.pi * torch.rand(n_classes, generator=generator)).to(images.device)
    turned = rotate(averages.expand(1, -1, -1, -1).transpose(0, 1), angles)[:, 0]
    share = torch.full((n_classes,), 1 / n_classes, device=images.device)
    return Classes(turned * mask, noise_alone(images, coefficients), share, shift_variance_px2=4.0)


def class_ssnr(sums: ClassSums, noise_variance: Tensor, coefficients: Disc) -> Tensor:
    """(class, shell) spectral signal-to-noise ratio of the averages, zero where there is no data."""
    denominator = sums.denominator
    total = shell_means(pack(sums.numerator, coefficients).abs().square(), coefficients)
    expected = denominator * noise_variance
    return torch.where(denominator > 0, total / expected.clamp_min(1e-12) - 1, 0.0).clamp_min(0)


def updated(classes: Classes, sums: ClassSums, coefficients: Disc, mask: Tensor) -> Classes:
    """Maximisation step: new averages, noise spectrum and priors from the sums of all particles.

    Nothing centres the averages but the prior on the shifts, which is narrowest when each lies where its particles
    were picked, and the mask.
    """
    n = coefficients.n
    n_particles = sums.occupancy.sum()
    is_used = sums.denominator.sum(0) > 0
    noise = torch.where(is_used, sums.residual / n_particles.clamp_min(1e-6), classes.noise_variance)
    noise = noise.clamp_min(1e-12)
    noise[0] = noise[1]
    ssnr = class_ssnr(sums, noise, coefficients)
    # denominator × (1 + 1 / (fudge × SSNR)) is denominator + noise / signal power
    wiener = torch.where(
        sums.denominator > 1e-6, 1 / (sums.denominator * (1 + 1 / (_TAU_FUDGE * ssnr + 1e-6))).clamp_min(1e-12), 0.0
    )
    values = pack(sums.numerator, coefficients) * wiener[:, coefficients.shell]
    average = fourier.inverse(unpack(values, coefficients), (n, n)) * mask
    return Classes(
        average=average,
        noise_variance=noise,
        share=(sums.occupancy + 0.1) / (n_particles + 0.1 * len(sums.occupancy)),
        shift_variance_px2=float(sums.squared_shift_px2 / n_particles.clamp_min(1e-6)) / 2,
    )


def with_empty_classes_split(
    classes: Classes, occupancy: Tensor, n_min: float, generator: torch.Generator
) -> tuple[Classes, int]:
    """Classes in which each that lost its particles takes half of the largest one, turned by a random angle.

    Returns
    -------
    The classes and how many were replaced.
    """
    average, share, occupancy = classes.average.clone(), classes.share.clone(), occupancy.clone()
    empty = torch.nonzero(occupancy < n_min).flatten().tolist()
    for number in empty:
        largest = int(occupancy.argmax())
        noise = torch.randn(average.shape[1:], generator=generator).to(average)
        blurred = fourier.resample(fourier.resample(noise, [average.shape[-1] // 4] * 2), average.shape[1:])
        average[number] = average[largest] + 0.3 * average[largest].std() / blurred.std() * blurred
        for values in (share, occupancy):
            values[largest] /= 2
            values[number] = values[largest]
    return replace(classes, average=average, share=share), len(empty)


def class_resolution_shell(ssnr: Tensor) -> Tensor:
    """(class,) last shell of the run of shells around the strongest one whose SSNR is above one; 0 where none is.

    The lowest shells do not count against a class: the CTF lets little through there.
    """
    strongest = ssnr.argmax(dim=1, keepdim=True)
    shell = torch.arange(ssnr.shape[1], device=ssnr.device)
    is_above = (ssnr > 1) | (shell < strongest)
    last = is_above.long().cumprod(dim=1).sum(dim=1) - 1
    return torch.where(ssnr.amax(dim=1) > 1, last, 0)


def search_of_iteration(
    iteration: int,
    n_iterations: int,
    field_angstrom: float,
    diameter_angstrom: float,
    first_resolution_angstrom: float,
    resolution_angstrom: float,
    shift_radius_px: float,
) -> Search:
    """What one iteration looks at: resolution grows over the first 70 %, rotations become finer with it.

    Rotations are one resolution element apart at 70 % of the particle's radius.
    """
    progress = min(1.0, iteration / max(1.0, 0.7 * (n_iterations - 1)))
    coarse, fine = field_angstrom / first_resolution_angstrom, field_angstrom / resolution_angstrom
    radius = max(3, round(coarse * (fine / coarse) ** progress))
    n_rotations = 4 * max(6, round(0.7 * math.pi * diameter_angstrom * radius / field_angstrom / 4))
    return Search(radius, n_rotations, shift_radius_px, shift_step_px=1.0)


@dataclass(frozen=True)
class ClassFigures:
    """What a class is judged by; (class,) each."""

    n_particles: Tensor
    evidence: Tensor
    """Mean over members of the log evidence of the classes against noise alone, in nats."""
    resolution_shell: Tensor
    ssnr: Tensor
    """Mean SSNR of the average over the shells that were used."""


def class_figures(
    owner: Tensor, evidence: Tensor, sums: ClassSums, noise_variance: Tensor, coefficients: Disc
) -> ClassFigures:
    """Figures of the classes from the (particle,) assignments and the sums of all particles."""
    n_classes = len(sums.occupancy)
    count = torch.bincount(owner, minlength=n_classes)
    total = torch.zeros(n_classes, dtype=evidence.dtype, device=evidence.device).index_add_(0, owner, evidence)
    ssnr = class_ssnr(sums, noise_variance, coefficients)
    return ClassFigures(count, total / count.clamp_min(1), class_resolution_shell(ssnr), ssnr[:, 1:].mean(dim=1))


def reasons_to_drop(figures: ClassFigures, field_angstrom: float, n_min: int) -> list[str | None]:
    """Why each class is not of the particle, None where it is kept; conservative.

    A class goes when it is empty, when noise alone explains its images better than it does, when its evidence per
    particle is below a tenth of that of the best class with its share of particles, or when its average carries no
    detail next to that of the others (twice worse resolution than the best, and worse than 30 Å).
    """
    populated = figures.n_particles >= n_min
    if not bool(populated.any()):
        return [f"{int(n)} particles, fewer than {n_min}" for n in figures.n_particles]
    shells = figures.resolution_shell.clamp_min(1)
    best_shell = float(shells[populated].max())
    # the evidence that half of the particles reach
    order = figures.evidence.argsort(descending=True)
    reached = figures.n_particles[order].cumsum(0) >= figures.n_particles.sum() / 2
    typical = float(figures.evidence[order][reached][0])
    reasons: list[str | None] = []
    for n, evidence, shell in zip(figures.n_particles.tolist(), figures.evidence.tolist(), shells.tolist()):
        resolution, best = field_angstrom / shell, field_angstrom / best_shell
        if n < n_min:
            reasons.append(f"{n} particles, fewer than {n_min}")
        elif evidence < 0:
            reasons.append(f"noise alone explains its images better than the class does (evidence {evidence:.1f} nats)")
        elif evidence < 0.1 * typical:
            reasons.append(f"evidence {evidence:.1f} nats per particle, the typical class has {typical:.1f}")
        elif resolution > max(30.0, 2 * best):
            reasons.append(f"no detail: {resolution:.0f} Å, the best class reaches {best:.0f} Å")
        else:
            reasons.append(None)
    return reasons
