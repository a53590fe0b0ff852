"""What a network says of a turned map, turned back, is what it says of the map."""

import pytest
import torch

from kernels.networks.residue_detector import VECTOR_CHANNELS
from kernels.networks.turns import turns
from kernels.rotations import symmetry_group


def test_there_are_24_turns_and_the_first_is_none():
    density = torch.arange(27.0).reshape(3, 3, 3)
    seen = {tuple(turn.of_density(density).reshape(-1).tolist()) for turn in turns()}
    assert len(seen) == len(turns()) == len(symmetry_group("O")) == 24
    assert torch.equal(turns()[0].of_density(density), density)


@pytest.mark.parametrize("number", range(24))
def test_the_gradient_of_a_map_turns_with_it(number):
    """Channels made of a map's gradient and the map itself: an answer that turns with the map."""

    def answer(density):
        gradient = torch.stack(torch.gradient(density, dim=(-3, -2, -1)), dim=-1)
        channels = density[..., None].expand(*density.shape, 65).clone()
        channels[..., VECTOR_CHANNELS] = gradient.repeat(*[1] * density.ndim, len(VECTOR_CHANNELS) // 3)
        return channels

    turn = turns()[number]
    density = torch.randn(2, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(turn.back(answer(turn.of_density(density))), answer(density))
