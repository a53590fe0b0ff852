"""Motion estimated from simulated movies compared with the motion they were made with, and undone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from kernels import fourier
from kernels.fourier import frequency_length, shift
from kernels.movies.motion import Motion, corrected_frame, estimate_motion, reduced_shape
from tests.truth.moving_specimen import OPTICS, moving_movie, random_motion, still

PIXEL = OPTICS.pixel_size_angstrom


def estimated(frames, n_patches=(4, 4), n_control=(6, 5, 5), resolution=5.0, **options):
    shape = tuple(frames.shape[1:])
    reduced = reduced_shape(shape, PIXEL, resolution)
    transforms = fourier.crop_transform(torch.fft.rfft2(frames - frames.mean((1, 2), keepdim=True)), shape, reduced)
    return estimate_motion(transforms, reduced, shape, PIXEL, n_patches=n_patches, n_control=n_control, **options)


def texture(shape, seed):
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return torch.fft.irfft2(torch.fft.rfft2(noise) * torch.exp(-60 * frequency_length(shape) ** 2), s=shape)


def rms_error_px(motion, truth, points):
    """Over frames and points; a constant offset a point is the choice of the reference, not an error."""
    difference = motion.at(points) - truth.at(points, motion.shape)
    difference = difference - difference.mean(0)
    return float(difference.square().sum(-1).mean().sqrt())


@settings(deadline=None, max_examples=10)
@given(step=st.tuples(st.floats(-4, 4), st.floats(-4, 4)))
def test_a_known_shift_is_recovered_and_its_sign_is_that_of_the_specimen(step):
    image = texture((181, 160), seed=1)
    steps = torch.arange(4)[:, None] * torch.tensor(step)
    frames = shift(image, steps) + 0.01 * torch.randn(4, 181, 160, generator=torch.Generator().manual_seed(2))
    motion = estimated(frames, n_patches=(1, 1))
    assert motion.reference_frame == 2
    assert_close(motion.global_shift_px, steps - steps[2], atol=0.05, rtol=0)


def test_a_flat_exposure_has_no_motion():
    frames = torch.poisson(torch.full((8, 200, 220), 2.4), generator=torch.Generator().manual_seed(3))
    motion = estimated(frames)
    points = torch.tensor([[20.0, 30.0], [100.0, 110.0], [180.0, 60.0]])
    assert float(motion.at(points).abs().max()) < 0.1


def test_a_still_specimen_has_no_motion():
    frames, points = moving_movie(still(10), (512, 500), seed=4, contrast=0.1)
    motion = estimated(frames)
    assert rms_error_px(motion, still(10), points) < 0.1


def test_a_doming_specimen_is_followed_everywhere():
    truth = random_motion(16, seed=5, drift_px=9.0, local_px=4.0)
    frames, points = moving_movie(truth, (640, 600), seed=6)
    global_only = rms_error_px(estimated(frames, n_patches=(1, 1)), truth, points)
    error = rms_error_px(estimated(frames), truth, points)
    assert error < 0.3  # the aim for the simulated session; noise alone allows about 0.15 on so small a field
    assert error < 0.6 * global_only


def test_a_long_even_drift_is_found():
    steps = torch.arange(12.0)[:, None] * torch.tensor([5.0, -4.0])  # 77 px in all
    frames = shift(texture((400, 420), seed=7), steps)
    frames = frames + 3 * frames.std() * torch.randn(frames.shape, generator=torch.Generator().manual_seed(8))
    motion = estimated(frames, n_patches=(1, 1))
    assert_close(motion.global_shift_px, steps - steps[6], atol=0.3, rtol=0)


def test_frames_left_out_get_the_motion_between_their_neighbours():
    steps = torch.arange(7.0)[:, None] * torch.tensor([1.5, -1.0])
    frames = shift(texture((160, 160), seed=9), steps)
    kept = torch.tensor([0, 1, 2, 4, 6])
    motion = estimated(frames[kept], n_patches=(1, 1), frame_index=kept, n_frames=7)
    assert_close(motion.global_shift_px, steps - steps[3], atol=0.05, rtol=0)


def test_one_frame_has_not_moved():
    motion = estimated(texture((64, 71), seed=10)[None])
    assert_close(motion.at(torch.tensor([[3.0, 60.0]])), torch.zeros(1, 1, 2))


def test_motion_referred_to_another_frame_differs_by_a_constant_at_every_point():
    generator = torch.Generator().manual_seed(11)
    motion = Motion(torch.randn(9, 2, generator=generator), torch.randn(5, 4, 6, 2, generator=generator), (90, 70), 0)
    points = 70 * torch.rand(8, 2, generator=generator)
    moved = motion.referred_to(4)
    assert_close(moved.at(points)[4], torch.zeros(8, 2), atol=1e-5, rtol=0)
    assert_close(moved.at(points), motion.at(points) - motion.at(points)[4], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(400, 384), (333, 421)])
def test_corrected_frames_put_the_specimen_back(shape):
    truth = random_motion(6, seed=12, drift_px=8.0, local_px=4.0)
    frames, _ = moving_movie(truth, shape, seed=13, counts=None)
    reference, _ = moving_movie(truth, shape, seed=13, counts=None)
    motion = estimated(frames)
    inner = (slice(40, -40), slice(40, -40))
    target = reference[motion.reference_frame][inner] - 1

    def correlation(image):
        return float(torch.corrcoef(torch.stack([image[inner].flatten(), target.flatten()]))[0, 1])

    for frame in (0, 5):
        raw = frames[frame] - frames[frame].mean()
        back = corrected_frame(torch.fft.rfft2(raw), motion, frame)
        assert correlation(back) > 0.92  # the simulated points themselves lose some when they fall between pixels
        assert correlation(back) > correlation(raw) + 0.1


def test_without_motion_the_corrected_frame_is_the_frame():
    frame = torch.randn(63, 80, generator=torch.Generator().manual_seed(14))
    motion = Motion(torch.zeros(3, 2), torch.zeros(1, 1, 1, 2), (63, 80), 1)
    assert_close(corrected_frame(torch.fft.rfft2(frame), motion, 0), frame, atol=1e-5, rtol=0)


def test_what_moved_into_view_is_not_wrapped_around():
    motion = Motion(torch.tensor([[10.0, -5.0], [0.0, 0.0]]), torch.zeros(1, 1, 1, 2), (64, 60), 1)
    corrected = corrected_frame(torch.fft.rfft2(torch.ones(64, 60)), motion, 0)
    assert float(corrected[54:].abs().max()) == 0
    assert float(corrected[:, :5].abs().max()) == 0
    assert_close(corrected[:54, 5:], torch.ones(54, 55), atol=1e-5, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_accelerator_finds_the_same_motion():
    frames, points = moving_movie(random_motion(8, seed=15), (384, 400), seed=16)
    on_cpu, on_gpu = estimated(frames), estimated(frames.cuda())
    assert_close(on_gpu.at(points.cuda()).cpu(), on_cpu.at(points), atol=0.02, rtol=0)
