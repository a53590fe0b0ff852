"""The use of a gain that fits is named, whatever the detector's shape and the gain's binning."""

import pytest
import torch
from torch.nn.functional import avg_pool2d

from kernels.movies.fixed_pattern import detail
from kernels.movies.gain import combined, orient
from kernels.movies.gain_evidence import (
    GainScore,
    GainUse,
    binning,
    evidence,
    judge,
    patterns,
    resized,
    scores,
    uses,
)
from kernels.specimen.simulation import random_detector
from tests.truth.detector_session import counts, generator

pytestmark = pytest.mark.usefixtures("one_thread")

EIGHT = [(angle, flip) for angle in (0, 90, 180, 270) for flip in ("none", "vertical")]


def undone(angle, flip):
    return next(other for other in EIGHT if combined(angle, flip, *other) == (0, "none"))


def found_use(gain, totals):
    return compared(gain, [detail(total) for total in totals])


def compared(gain, details):
    shape = details[0].excess.shape
    of = uses(gain.shape, shape)
    pattern = patterns(gain, binning(gain.shape, shape))
    return scores(sum(evidence(one, pattern, of, seed) for seed, one in enumerate(details)), of)


def test_two_turns_and_flips_are_one():
    image = torch.rand(4, 5)
    for first in EIGHT:
        for second in EIGHT:
            one = orient(image, *combined(*first, *second))
            assert torch.equal(one, orient(orient(image, *first), *second))


@pytest.mark.parametrize("shape", [(80, 80), (80, 96)])
@pytest.mark.parametrize("factor", [1.0, 2.0, 0.5])
def test_all_eight_orientations_both_meanings_and_the_binning_are_named(shape, factor):
    fine = random_detector((2 * shape[0], 2 * shape[1]), generator(1), n_dead=0, n_hot=0)
    if factor == 2:  # frames of half the gain's size: every pixel counts what four did
        gain, totals = fine.gain, [4 * avg_pool2d(counts(fine, 40.0, generator(0))[None], 2)[0]]
    else:
        detector = random_detector(shape, generator(1), n_dead=3, n_hot=3)
        gain, totals = detector.gain, [counts(detector, 160.0, generator(0))]
    if factor == 0.5:  # super-resolution: four pixels share the response of one
        gain = random_detector((shape[0] // 2, shape[1] // 2), generator(1), n_dead=0, n_hot=0).gain
        response = resized(1 / gain, 0.5)
        totals = [torch.poisson(160 * response, generator=generator(0))]
    details = [detail(total) for total in totals]
    for angle, flip in EIGHT:
        for meaning in ("multiply", "divide"):
            file = orient(gain if meaning == "multiply" else 1 / gain, angle, flip)
            verdict = judge(compared(file, details), None, 0.03)
            expected = GainUse(*undone(angle, flip), meaning)
            assert verdict.best.use == expected
            is_as_given = expected == GainUse(0, "none", "multiply")
            turned_only = shape[0] != shape[1] and angle % 180
            assert verdict.kind == ("as given" if is_as_given else "other way") or turned_only, verdict
            assert verdict.best.agreement == pytest.approx(1, abs=0.2)
            assert verdict.margin_sigma > 6


def test_shapes_tell_the_binning():
    assert binning((4092, 5760), (4092, 5760)) == binning((5760, 4092), (4092, 5760)) == 1
    assert binning((8184, 11520), (4092, 5760)) == binning((11520, 8184), (4092, 5760)) == 2
    assert binning((4096, 4096), (16384, 16384)) == 0.25
    assert binning((4096, 4096), (4092, 5760)) is None
    response = torch.rand(6, 8) + 0.5
    response[2, 3] = 0
    halved = resized(response, 2)
    assert halved[0, 0] == pytest.approx(float(response[:2, :2].mean())) and halved[1, 1] == 0
    assert torch.equal(resized(resized(response, 0.5), 2), response)


def test_the_standard_error_is_that_of_gains_of_other_detectors():
    detector = random_detector((96, 120), generator(3), 0, 0)
    totals = [counts(detector, 20.0, generator(i)) * detector.gain for i in range(3)]  # corrected: nothing to find
    details, sigmas = [detail(total) for total in totals], []
    for seed in range(20):
        other = random_detector((96, 120), generator(100 + seed), 0, 0)
        sigmas += [s.sigma for s in compared(other.gain, details) if s.use.meaning == "multiply"]
    spread = torch.tensor(sigmas).std()
    assert 0.7 < spread < 1.3
    assert max(map(abs, sigmas)) < 4.5


def test_corrected_counts_foreign_gains_and_flat_ones_are_told_apart():
    detector, other = random_detector((160, 160), generator(4), 0, 0), random_detector((160, 160), generator(5), 0, 0)
    raw = [counts(detector, 60.0, generator(i)) for i in range(4)]
    corrected = [total * detector.gain for total in raw]
    assert judge(found_use(detector.gain, corrected), 0.002, 0.03).kind == "already corrected"
    assert judge(found_use(other.gain, raw), 0.033, 0.03).kind == "another gain"
    assert judge(found_use(detector.gain, corrected), None, 0.03).kind == "too few counts"
    assert judge(found_use(torch.ones(160, 160), raw), 0.03, 0.0).kind == "flat gain"


def test_few_counts_are_said_to_be_few_and_how_many_more_are_needed():
    detector = random_detector((160, 160), generator(6), 0, 0)
    few = judge(found_use(detector.gain, [counts(detector, 0.5, generator(1))]), None, 0.03)
    assert few.kind == "too few counts" and few.exposures_needed > 2
    n = round(1.5 * few.exposures_needed)
    many = judge(found_use(detector.gain, [counts(detector, 0.5, generator(i)) for i in range(n)]), None, 0.03)
    assert many.kind == "as given"


def test_a_gain_that_is_its_own_mirror_image_is_ambiguous():
    detector = random_detector((128, 128), generator(7), 0, 0)
    gain = (detector.gain + detector.gain.flip(0)) / 2
    raw = [torch.poisson(60 / gain, generator=generator(i)) for i in range(4)]
    assert judge(found_use(gain, raw), None, 0.02).kind == "ambiguous"


def test_a_score_without_error_says_nothing():
    use = GainUse(0, "none", "multiply")
    assert GainScore(use, 0.0, 0.0).sigma == 0
