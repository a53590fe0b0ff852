"""Joint placement of frames."""

import math

import torch
from torch.testing import assert_close

from kernels.movies.motion import frame_times
from kernels.movies.patches import Patches
from kernels.movies.persistence import Persistence
from kernels.movies.trajectories import MotionPrior, _slopes


def test_the_gradient_is_that_of_the_likelihood():
    generator = torch.Generator().manual_seed(1)
    patches = Patches(torch.randn(5, 40, 36, generator=generator), (2, 2))
    curve = torch.linspace(1.0, 0.2, max(patches.shape) // 2)
    persistence = Persistence(0.1 * curve, 0.2 * curve, 0.6 * curve, torch.ones_like(curve))
    motion = torch.randn(4, 5, 2, generator=generator)
    _, slopes = _slopes(patches, motion, persistence)
    step = 0.02
    for patch, frame, axis in ((0, 0, 0), (2, 3, 1), (3, 4, 0)):
        change = torch.zeros_like(motion)
        change[patch, frame, axis] = step
        rise = _slopes(patches, motion + change, persistence)[0] - _slopes(patches, motion - change, persistence)[0]
        assert_close(rise / (2 * step), float(slopes[patch, frame, axis]), rtol=0.01, atol=0.01)


def test_priors_cost_even_motion_little_and_bent_motion_much():
    times = frame_times(12)
    precision = MotionPrior().precision(times, (5, 4, 4))[:12, :12]

    def cost(way):
        return float(way @ precision @ way)

    even = 5 * times.double()
    bent = 5 * torch.sin(6 * math.pi * times.double())
    assert cost(even) < 0.1
    assert cost(bent) > 50 * cost(even)
