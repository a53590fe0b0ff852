"""Finding particles: templates as the microscope shows them, normalised correlation, peaks, and a threshold from noise.

A micrograph comes at a reduced sampling, some twenty pixels to a particle's diameter. Templates are projections with
protein positive; the CTF turns them dark, as particles are. The score is the correlation coefficient of a template
with the micrograph under a disc, so it lies in [-1, 1] whatever the thickness of the ice.

Source: Roseman, Ultramicroscopy 2003, 94:225 (local normalisation); Sigworth, J. Struct. Biol. 2004, 145:111.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d, pad

from kernels.fourier import fast_size, frequency_length
from kernels.masks import distance_from_origin, distance_outside
from kernels.windows import add_windows, cut_windows

_TEMPLATES_AT_ONCE = 16
_SPREADS_OF_ICE = 6.0
_SPREADS_OF_GROSS_OUTLIERS = 25.0


def blob_templates(
    n: int,
    pixel_size_angstrom: float,
    diameters_angstrom: Sequence[float],
    hollow_fractions: Sequence[float],
    *,
    device: torch.device | str = "cpu",
) -> Tensor:
    """(template, y, x) projections of balls and shells, every diameter with every fraction.

    ``hollow_fractions`` are inner over outer diameters: 0 for a ball, about 0.65 for a ferritin.
    """
    radius = distance_from_origin((n, n), device=device) * pixel_size_angstrom
    templates = [
        _chord(radius, diameter / 2) - _chord(radius, fraction * diameter / 2)
        for fraction in hollow_fractions
        for diameter in diameters_angstrom
    ]
    return torch.stack(templates)


def _chord(radius: Tensor, ball_radius: float) -> Tensor:
    """Length of the line through a ball at a distance from its centre."""
    return 2 * (ball_radius**2 - radius**2).clamp(min=0).sqrt()


def rotated(templates: Tensor, n_angles: int) -> Tensor:
    """(template * angle, y, x) each template turned about its origin by ``n_angles`` even steps, bilinear."""
    n = templates.shape[-1]
    angle = torch.arange(n_angles, device=templates.device) * (2 * math.pi / n_angles)
    along = torch.arange(n, dtype=torch.float32, device=templates.device) - n // 2
    y, x = torch.meshgrid(along, along, indexing="ij")
    cos, sin = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    # grid_sample wants x first, -1 and 1 at the centres of the outermost pixels
    grid = torch.stack([cos * x + sin * y, cos * y - sin * x], dim=-1) + n // 2
    grid = 2 * grid / (n - 1) - 1
    turned = [
        grid_sample(
            template.expand(n_angles, 1, n, n), grid, mode="bilinear", padding_mode="zeros", align_corners=True
        )[:, 0]
        for template in templates
    ]
    return torch.cat(turned)


def band_pass(frequency_per_angstrom: Tensor, longest_angstrom: float, shortest_angstrom: float) -> Tensor:
    """Weights in [0, 1]: gradients longer than ``longest_angstrom`` and detail below ``shortest_angstrom`` fade."""
    high = 1 - torch.exp(-0.5 * (frequency_per_angstrom * longest_angstrom) ** 2)
    low = torch.sigmoid(20 * (1 - frequency_per_angstrom * shortest_angstrom))
    return high * low


def filtered(image: Tensor, weights: Tensor) -> Tensor:
    """Image times ``weights`` (of the half-transform of its last two axes) in Fourier space."""
    return torch.fft.irfftn(torch.fft.rfftn(image, dim=(-2, -1)) * weights, s=image.shape[-2:], dim=(-2, -1))


def distinct(templates: Tensor, radius_px: float, most_alike: float) -> Tensor:
    """Those (template, y, x) that correlate at most by ``most_alike`` with one kept before, under a disc."""
    inside = distance_from_origin(templates.shape[-2:], device=templates.device) <= radius_px
    rows = templates[:, inside]
    rows = rows - rows.mean(-1, keepdim=True)
    rows = rows / rows.norm(dim=-1, keepdim=True)
    alike = (rows @ rows.T > most_alike).cpu()
    is_open = torch.ones(len(rows), dtype=torch.bool)
    kept = []
    for index in range(len(rows)):
        if is_open[index]:
            kept.append(index)
            is_open &= ~alike[index]
    return templates[kept]


def phase_randomised(image: Tensor, generator: torch.Generator) -> Tensor:
    """Image with the same amplitudes and random phases: what the micrograph would be if it had no particles.

    The power of the particles stays in it as noise, so a threshold that it sets errs on the careful side.
    """
    noise = torch.randn(image.shape, generator=generator).to(image)
    random = torch.fft.rfftn(noise, dim=(-2, -1))
    amplitude = torch.fft.rfftn(image, dim=(-2, -1)).abs()
    return torch.fft.irfftn(amplitude * random / random.abs().clamp(min=1e-20), s=image.shape[-2:], dim=(-2, -1))


def correlate(image: Tensor, templates: Tensor, radius_px: float) -> tuple[Tensor, Tensor]:
    """Best local correlation coefficient of an image with any of the templates.

    Within ``radius_px`` of the edges, where a template is seen in part, the score is an approximation.

    Parameters
    ----------
    image
        (y, x).
    templates
        (template, n, n) as they look in the image.
    radius_px
        Of the disc within which template and image are compared and brought to mean 0 and standard deviation 1.

    Returns
    -------
    (y, x) scores, and (y, x) int64 which template it was. The memory is about 40 images.
    """
    shape, n = image.shape, templates.shape[-1]
    padded = tuple(fast_size(extent + n // 2) for extent in shape)

    def half_transform(a: Tensor) -> Tensor:
        return torch.fft.rfftn(a, s=padded, dim=(-2, -1))

    def correlation(a: Tensor, b: Tensor) -> Tensor:
        full = torch.fft.irfftn(a * b.conj(), s=padded, dim=(-2, -1))
        return full.roll((n // 2, n // 2), (-2, -1))[..., : shape[0], : shape[1]]

    disc = (distance_from_origin((n, n), device=image.device) <= radius_px).to(image)
    area = disc.sum()
    image = image - image.mean()
    of_disc, of_image = half_transform(disc), half_transform(image)
    visible = correlation(half_transform(torch.ones_like(image)), of_disc).clamp(min=1)
    mean = correlation(of_image, of_disc) / visible
    variance = correlation(half_transform(image**2), of_disc) / visible - mean**2
    # visible / area makes up for the part of a template that lies outside of the micrograph
    scale = variance.clamp(min=1e-6 * float(image.var())).rsqrt() * area.sqrt() / visible

    best = torch.full(shape, -torch.inf, device=image.device)
    which = torch.zeros(shape, dtype=torch.int64, device=image.device)
    for start in range(0, len(templates), _TEMPLATES_AT_ONCE):
        block = templates[start : start + _TEMPLATES_AT_ONCE]
        block = (block - (block * disc).sum((-2, -1), keepdim=True) / area) * disc
        block = block / block.norm(dim=(-2, -1), keepdim=True)
        score, index = (correlation(of_image, half_transform(block))).max(0)
        score = score * scale
        is_better = score > best
        which = torch.where(is_better, index + start, which)
        best = torch.where(is_better, score, best)
    return best, which


def without_particles(image: Tensor, templates: Tensor, which: Tensor, position: Tensor) -> Tensor:
    """Image (y, x) less the best-fitting template ``which`` (particle,) at each whole-pixel position (particle, 2)."""
    fitted = templates[which]
    windows = torch.nan_to_num(cut_windows(image, position, templates.shape[-1]))
    amplitude = (windows * fitted).sum((-2, -1)) / fitted.square().sum((-2, -1))
    return add_windows(image, position, -amplitude[:, None, None] * fitted)


def picking_memory_bytes(n_px: int, distance_px: float, n_templates: int, template_px: int) -> int:
    """Peak of the correlation of an image with templates and of the choice of its `peaks`, `distance_px` apart."""
    n_peaks = n_px / (2 * max(1, int(distance_px / 2)) + 1) ** 2
    return int(160 * n_px + 12 * n_peaks**2 + 30 * n_templates * template_px**2)


def peaks(score: Tensor, distance_px: float) -> tuple[Tensor, Tensor]:
    """Highest points of a (y, x) score map, no two closer than ``distance_px``, best first.

    Returns
    -------
    (peak, 2) coordinates (y, x), interpolated between pixels, and (peak,) scores of the pixels they lie in.
    """
    window = max(1, int(distance_px / 2))
    highest = max_pool2d(score[None, None], 2 * window + 1, 1, window)[0, 0]
    position = torch.nonzero((score == highest) & torch.isfinite(score))
    height = score[position[:, 0], position[:, 1]]
    order = height.argsort(descending=True)
    position, height = position[order], height[order]
    kept = _highest_of_each_neighbourhood(position.to(score.dtype), distance_px)
    position, height = position[kept], height[kept]
    return position + _parabola_offset(score, position), height


def _highest_of_each_neighbourhood(position: Tensor, distance: float) -> Tensor:
    """(peak,) bool for peaks sorted by falling height: greedy suppression, all independent peaks of a round at once."""
    n = len(position)
    rank = torch.arange(n, device=position.device)
    is_near = torch.cdist(position, position) < distance
    is_near &= rank[:, None] != rank[None, :]
    is_open = torch.ones(n, dtype=torch.bool, device=position.device)
    is_kept = torch.zeros_like(is_open)
    is_higher = is_near & (rank[None, :] < rank[:, None])
    while bool(is_open.any()):
        is_top = is_open & ~(is_higher & is_open[None, :]).any(1)
        is_kept |= is_top
        is_open &= ~is_top & ~(is_near & is_top[None, :]).any(1)
    return is_kept


def _parabola_offset(score: Tensor, position: Tensor) -> Tensor:
    """(peak, 2) offsets of less than half a pixel from a parabola through the neighbours of each peak along y and x.

    At the edges, where a neighbour is missing, 0 across them.
    """
    y, x = position[:, 0], position[:, 1]
    rows, columns = score.shape
    offsets = []
    centre = score[y, x]
    for before, after, is_inner in (
        (score[(y - 1).clamp(min=0), x], score[(y + 1).clamp(max=rows - 1), x], (y > 0) & (y < rows - 1)),
        (score[y, (x - 1).clamp(min=0)], score[y, (x + 1).clamp(max=columns - 1)], (x > 0) & (x < columns - 1)),
    ):
        curvature = before - 2 * centre + after
        is_summit = is_inner & (curvature < 0)
        offset = 0.5 * (before - after) / torch.where(is_summit, curvature, -1.0)
        offsets.append(torch.where(is_summit, offset, 0.0).clamp(-0.49, 0.49))
    return torch.stack(offsets, dim=-1)


def noise_threshold(height: Tensor, noise_height: Tensor, n_noise_maps: int, free_share: Tensor, share: float) -> float:
    """Score down to which at most ``share`` of the peaks are expected to be noise.

    Parameters
    ----------
    height
        (peak,) heights of the peaks of the micrograph, falling.
    noise_height
        (any,) heights of the peaks of ``n_noise_maps`` score maps without particles.
    free_share
        (peak,) share of the area that is left for noise when this peak and all higher ones are particles.

    Returns
    -------
    A height of one of the peaks; above all of them where not even the highest stands out.
    """
    if not len(height):
        return 1.0
    climbing = noise_height.sort().values
    n_noise = len(climbing) - torch.searchsorted(climbing, height.contiguous())
    n_found = torch.arange(1, len(height) + 1, device=height.device)
    false_share = n_noise / n_noise_maps * free_share / n_found
    is_trusted = torch.nonzero(false_share <= share)
    if not len(is_trusted):
        return float(torch.maximum(height[0], climbing[-1]).nextafter(torch.tensor(torch.inf).to(height)))
    return float(height[int(is_trusted[-1])])


def contaminated(image: Tensor, radius_px: float, position: Tensor) -> Tensor:
    """Where an image is unlike ice with particles: ice balls, carbon, holes, aggregates.

    Local mean and local variance are compared with their medians over the image. What a typical particle does to
    them is allowed three times over, which is why a few strong particles on a clean background are no outliers.

    Parameters
    ----------
    image
        (y, x) micrograph, `flattened`.
    radius_px
        Of a particle.
    position
        (peak, 2) whole-pixel positions of which most are particles; where there are none, only gross outliers show
        that are larger than a particle.

    Returns
    -------
    (y, x) bool, widened by the radius of a particle.
    """
    detail = image - _blurred(image, 2 * radius_px)
    variance = _blurred(detail**2, 0.8 * radius_px).clamp(min=1e-12)
    is_outlier = torch.zeros(image.shape, dtype=torch.bool, device=image.device)
    for statistic in (_blurred(image, 0.5 * radius_px), variance.log()):
        typical = statistic.median()
        deviation = (statistic - typical).abs()
        spread = 1.4826 * deviation.median()
        limit = _SPREADS_OF_GROSS_OUTLIERS * spread
        if len(position):
            of_particles = 3 * deviation[position[:, 0], position[:, 1]].median()
            limit = torch.maximum(_SPREADS_OF_ICE * spread, of_particles)
        is_outlier |= deviation > limit
    if not len(position) and bool(is_outlier.any()):
        # a strong particle on a clean background is an outlier too, but a small one
        core_px = 1.8 * radius_px
        core = distance_outside(~is_outlier, core_px + 1, ndim=2) > core_px
        is_outlier = distance_outside(core, core_px + 1, ndim=2) <= core_px
    if not bool(is_outlier.any()):
        return is_outlier
    return distance_outside(is_outlier, radius_px, ndim=2) <= radius_px


def flattened(image: Tensor) -> Tensor:
    """Image (y, x) less a parabolic surface that a minority of outlying pixels does not bend."""
    axes = [torch.linspace(-1, 1, n, device=image.device) for n in image.shape]
    y, x = torch.meshgrid(*axes, indexing="ij")
    terms = torch.stack([torch.ones_like(y), y, x, y * y, x * x, x * y], dim=-1).reshape(-1, 6)
    # a high level would leave nothing of single precision in the sums
    values = (image - image.median()).reshape(-1).double()
    terms = terms.double()
    surface = torch.zeros_like(values)
    for _ in range(4):
        rest = values - surface
        centre = rest.median()
        is_kept = (rest - centre).abs() <= 3 * 1.4826 * (rest - centre).abs().median()
        chosen = terms * is_kept[:, None]
        surface = terms @ torch.linalg.solve(terms.T @ chosen + 1e-6 * torch.eye(6).to(terms), chosen.T @ values)
    return (values - surface).reshape(image.shape).to(image.dtype)


def _blurred(image: Tensor, sigma_px: float) -> Tensor:
    """Gaussian blur; the image is mirrored at its edges."""
    margin = min(math.ceil(3 * sigma_px), min(image.shape) - 1)
    wide = pad(image[None, None], (margin,) * 4, mode="reflect")[0, 0]
    weights = torch.exp(-2 * (math.pi * sigma_px * frequency_length(wide.shape, device=image.device)) ** 2)
    return filtered(wide, weights)[margin : margin + image.shape[0], margin : margin + image.shape[1]]
