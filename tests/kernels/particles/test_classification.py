"""Classes, rotations and shifts that were planted in images are found in them."""

import math

import pytest
import torch
from torch.testing import assert_close

from kernels import fourier
from kernels.masks import soft_circle
from kernels.particles.classification import (
    Classes,
    ClassFigures,
    Search,
    block_sums,
    class_figures,
    first_classes,
    reasons_to_drop,
    rotate,
    rotated_references,
    search_of_iteration,
    turned_back,
    updated,
    with_empty_classes_split,
)
from kernels.particles.expectation import disc, pack
from kernels.rotations import random_rotations
from tests.truth.gaussian_particles import cage_points, gaussian_projections, imaged

N, PIXEL = 32, 5.0
MASK = soft_circle(N, 13, 2)


def views(n_views: int, seed: int) -> torch.Tensor:
    """(view, y, x) projections of different particles."""
    generator = torch.Generator().manual_seed(seed)
    shift = torch.zeros(1, 2)
    return torch.cat(
        [
            gaussian_projections(
                cage_points("C1", 14, 36.0, seed + i), random_rotations(1, generator), shift, N, PIXEL, 7.0
            )
            for i in range(n_views)
        ]
    )


def observed(truth: torch.Tensor, n_each: int, signal_to_noise: float, seed: int):
    """Coefficients and CTFs of images of each view, turned and shifted at random; the class, angle and shift too."""
    generator = torch.Generator().manual_seed(seed)
    owner = torch.arange(len(truth)).repeat_interleave(n_each)
    angle = 2 * math.pi * torch.rand(len(owner), generator=generator)
    shift = torch.randn(len(owner), 2, generator=generator)
    turned = torch.stack([rotate(truth[k][None], a[None])[0, 0] for k, a in zip(owner.tolist(), angle)])
    images = imaged(fourier.shift(turned, shift), PIXEL, signal_to_noise, seed)
    coefficients = disc(N, 14)
    packed = pack(fourier.transform(images.images), coefficients) / N
    return coefficients, packed, pack(images.transfer, coefficients), owner, angle, shift


def classified(coefficients, images, transfer, n_classes, n_iterations, seed):
    generator = torch.Generator().manual_seed(seed)
    classes = first_classes(images, transfer, coefficients, n_classes, MASK, generator, 5)
    for iteration in range(n_iterations):
        search = search_of_iteration(iteration, n_iterations, N * PIXEL, 90.0, 40.0, 12.0, 3.0)
        sums, found, shift_px = block_sums(images, transfer, coefficients, classes, search)
        classes = updated(classes, sums, coefficients, MASK)
        if iteration < 0.7 * n_iterations:
            classes, _ = with_empty_classes_split(classes, sums.occupancy, 0.1 * len(images) / n_classes, generator)
    return classes, sums, found, shift_px


def best_correlation(average, truth) -> float:
    """Correlation of two images over all rotations and shifts."""
    turned = rotate(average[None], torch.arange(120) * (math.pi / 60))[:, 0]
    a, b = (x - x.mean((-2, -1), keepdim=True) for x in (turned, truth))
    cross = torch.fft.irfft2(torch.fft.rfft2(a) * torch.fft.rfft2(b).conj(), s=b.shape)
    return float((cross / (a.norm(dim=(-2, -1), keepdim=True) * b.norm())).max())


def test_an_image_turned_by_quarter_turns_is_the_image_with_its_axes_swapped():
    image = views(1, 3)[:, 1:, 1:]  # odd: the origin is the middle
    turned = rotate(image, torch.tensor([0.0, math.pi / 2]))[:, 0]
    assert_close(turned[0], image[0], atol=1e-5, rtol=0)
    # from the x axis towards y: what was at (0, x) is now at (y = x, 0)
    assert_close(turned[1], image[0].flip(0).T, atol=1e-5, rtol=0)


def test_turning_back_undoes_turning():
    truth = views(2, 5)
    angles = torch.tensor([0.4, 2.1, 4.0])
    coefficients = disc(N, 14)
    references = rotated_references(truth, angles, coefficients)
    back = fourier.inverse(turned_back(references, angles, coefficients), (N, N)) / len(angles)
    inside = MASK > 0.99
    difference = (back - truth)[:, inside]
    # without the zero frequency an image is known up to a constant
    assert (difference - difference.mean(1, True)).abs().max() < 0.02 * truth.max()


def test_one_class_of_noise_free_images_returns_the_image():
    truth = views(1, 8)
    coefficients, images, transfer, *_ = observed(truth, 60, 1e4, 2)
    classes, *_ = classified(coefficients, images, transfer, 1, 12, 0)
    assert best_correlation(classes.average[0], truth[0]) > 0.97


def test_planted_classes_are_recovered_with_their_averages_and_shifts():
    truth = views(3, 11)
    coefficients, images, transfer, owner, _, shift = observed(truth, 60, 0.3, 4)
    classes, _, found, shift_px = classified(coefficients, images, transfer, 4, 16, 1)
    assigned = found.group_posterior.argmax(1)
    table = torch.zeros(3, 4).index_put_((owner, assigned), torch.ones(len(owner)), accumulate=True)
    assert table.amax(0).sum() / len(owner) > 0.95  # purity
    for k in range(3):
        average = classes.average[int(table[k].argmax())]
        assert best_correlation(average, truth[k]) > 0.9
    # averages may lie a little off the origin: shifts agree up to an offset that turns with the particle
    assert (shift_px - shift).norm(dim=1).median() < 1.5


def test_images_of_noise_get_a_class_of_their_own_which_is_dropped():
    truth = views(2, 21)
    coefficients, images, transfer, *_ = observed(truth, 60, 0.3, 5)
    generator = torch.Generator().manual_seed(9)
    noise = pack(fourier.transform(torch.randn(40, N, N, generator=generator)), coefficients) / N
    images, transfer = torch.cat([images, noise]), torch.cat([transfer, transfer[:40]])
    classes, sums, found, _ = classified(coefficients, images, transfer, 4, 16, 3)
    assigned = found.group_posterior.argmax(1)
    figures = class_figures(assigned, found.evidence, sums, classes.noise_variance, coefficients)
    is_kept = torch.tensor([reason is None for reason in reasons_to_drop(figures, N * PIXEL, 5)])
    assert is_kept[assigned[:120]].float().mean() > 0.98
    assert is_kept[assigned[120:]].float().mean() < 0.1


def test_reasons_to_drop_are_given_in_words():
    figures = ClassFigures(
        n_particles=torch.tensor([50, 2, 30, 40, 60]),
        evidence=torch.tensor([30.0, 40.0, -1.0, 2.0, 25.0]),
        resolution_shell=torch.tensor([16, 16, 3, 8, 4]),
        ssnr=torch.ones(5),
    )
    reasons = reasons_to_drop(figures, 160.0, 5)
    assert reasons[0] is None
    for reason, word in zip(reasons[1:], ("fewer than 5", "noise alone", "typical", "no detail")):
        assert reason is not None and word in reason


def test_an_empty_class_takes_half_of_the_largest():
    generator = torch.Generator().manual_seed(0)
    classes = Classes(torch.randn(3, N, N, generator=generator), torch.ones(9), torch.tensor([0.7, 0.3, 0.0]), 1.0)
    found, n_split = with_empty_classes_split(classes, torch.tensor([70.0, 30.0, 0.0]), 2.0, generator)
    assert n_split == 1
    assert_close(found.share, torch.tensor([0.35, 0.3, 0.35]))
    assert_close(found.average[0], classes.average[0])


def test_the_search_grows_finer_and_ends_at_the_resolution_asked_for():
    searches = [search_of_iteration(i, 20, 160.0, 120.0, 40.0, 8.0, 3.0) for i in range(20)]
    radii = [s.radius for s in searches]
    assert radii == sorted(radii)
    assert (radii[0], radii[-1]) == (4, 20)
    assert searches[-1] == Search(20, searches[-1].n_rotations, 3.0, 1.0)
    assert 2 * math.pi / searches[-1].n_rotations * 60 < 2 * 8.0


@pytest.mark.parametrize("n_classes", [1, 3])
def test_sums_of_blocks_are_the_sums_of_the_whole(n_classes):
    coefficients, images, transfer, *_ = observed(views(1, 2), 12, 1.0, 6)
    classes = first_classes(images, transfer, coefficients, n_classes, MASK, torch.Generator().manual_seed(1), 8)
    search = Search(8, 12, 1.0, 1.0)
    whole, *_ = block_sums(images, transfer, coefficients, classes, search)
    parts = [block_sums(images[s], transfer[s], coefficients, classes, search)[0] for s in (slice(5), slice(5, 12))]
    added = parts[0] + parts[1]
    for name in whole.__dataclass_fields__:
        assert_close(getattr(added, name), getattr(whole, name), atol=1e-3, rtol=1e-3)
