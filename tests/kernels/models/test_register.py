"""Stretches on the wrong part of a sequence are found, with the shift that puts them right, and no others."""

import torch

from kernels.models.register import MOST_SHIFT, best_register_shift, present_shift

N = 60
BREAK_COST = 3.0


def told(seed: int, first: int, end: int, shift: int):
    """Evidence for a random sequence, the types of a model that is shifted in a stretch, and the letters around."""
    generator = torch.Generator().manual_seed(seed)
    sequence = torch.randint(20, (N,), generator=generator)
    evidence = 0.7 * torch.randn(N, 20, generator=generator, dtype=torch.float64) - 0.5
    evidence[torch.arange(N), sequence] += 1.5
    at = torch.arange(N)[:, None] + torch.arange(-MOST_SHIFT, MOST_SHIFT + 1)
    letters = torch.where((at >= 0) & (at < N), sequence[at.clamp(0, N - 1)], -1)
    types = sequence.clone()
    types[first:end] = sequence[first + shift : end + shift]
    return evidence, types, letters


def test_a_shifted_stretch_goes_back_to_its_place():
    for seed, shift in enumerate((-3, -1, 1, 2)):
        evidence, types, letters = told(seed, 20, 36, shift)
        doubtful = torch.zeros(N, dtype=torch.bool)
        doubtful[22:34] = True
        found = best_register_shift(evidence, types, letters, doubtful, BREAK_COST)
        assert found is not None and found.shift == 0
        assert abs(found.first - 20) <= 1 and abs(found.end - 36) <= 1


def test_density_alone_finds_it_too():
    evidence, types, letters = told(1, 20, 36, 2)
    doubtful = torch.zeros(N, dtype=torch.bool)
    doubtful[20:36] = True
    found = best_register_shift(evidence, types, letters, doubtful, 0.0)
    assert found is not None and found.shift == 0
    assert abs(found.first - 20) <= 2 and abs(found.end - 36) <= 2


def test_residues_numbered_off_their_place_are_numbered_anew():
    evidence, _, letters = told(4, 0, 0, 0)
    late = torch.full_like(letters, -1)  # every residue's number is two too large
    late[:, : 2 * MOST_SHIFT - 1] = letters[:, 2:]
    found = best_register_shift(evidence, letters[:, MOST_SHIFT], letters, torch.ones(N) > 0, BREAK_COST)
    assert found is None  # in register
    shifted = best_register_shift(evidence, late[:, MOST_SHIFT].clamp(min=0), late, torch.ones(N) > 0, BREAK_COST)
    assert shifted is not None and shifted.shift == -2
    assert shifted.end - shifted.first >= N - 6


def test_what_is_right_stays():
    for seed in range(5):
        evidence, types, letters = told(seed, 0, 0, 0)
        doubtful = torch.zeros(N, dtype=torch.bool)
        doubtful[25:35] = True
        assert best_register_shift(evidence, types, letters, doubtful, BREAK_COST) is None


def test_nothing_is_shifted_without_evidence():
    evidence, types, letters = told(0, 20, 36, 1)
    doubtful = torch.zeros(N, dtype=torch.bool)
    doubtful[22:34] = True
    assert best_register_shift(torch.full_like(evidence, torch.nan), types, letters, doubtful, 0.0) is None


def test_the_present_shift_is_read_from_the_types():
    _, types, letters = told(2, 20, 36, 3)
    now = present_shift(types, letters)
    assert (now[24:32] == 3).all()
    assert (now[:16] == 0).all() and (now[40:] == 0).all()
