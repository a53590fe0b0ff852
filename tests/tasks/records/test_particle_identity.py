"""Particles recognised from table to table, and halves that nothing but the particle decides."""

import numpy as np
import pytest

from tasks.records.particle_identity import half_sets, particle_keys, rows_in, sample_of, share_left
from tasks.records.particles import ParticleSet, concatenate


def table(name: str, n: int, seed: int) -> ParticleSet:
    random = np.random.default_rng(seed)
    pixels = random.permutation(4000 * 4000)[:n]
    offset = random.uniform(-0.4, 0.4, (n, 2))
    coordinate = np.stack([pixels // 4000, pixels % 4000], 1) + offset
    return ParticleSet((name,), {"exposure": np.zeros(n), "stack_index": np.arange(n), "coordinate_px": coordinate})


def test_a_particle_keeps_its_key_and_its_half_in_any_table():
    first, second, third = table("a", 900, 1), table("b", 700, 2), table("c", 800, 3)
    before, after = concatenate([first, third]), concatenate([first, second, third])
    kept = np.random.default_rng(5).permutation(len(after))[:1500]
    after = after.select(kept)
    rows = rows_in(particle_keys(after), particle_keys(before))
    shared = rows >= 0
    assert shared.tolist() == [after.exposure_ids[number] in "ac" for number in after["exposure"]]
    np.testing.assert_array_equal(before["coordinate_px"][rows[shared]], after["coordinate_px"][shared])
    np.testing.assert_array_equal(half_sets(before, 1)[rows[shared]], half_sets(after, 1)[shared])


def test_halves_are_even_independent_of_the_seed_and_of_the_exposure():
    particles = concatenate([table(name, 5000, k) for k, name in enumerate("abcd")])
    half = half_sets(particles, 1)
    other = half_sets(particles, 2)
    deviation = 0.5 / np.sqrt(len(half))
    assert set(half.tolist()) == {1, 2}
    assert (half == 1).mean() == pytest.approx(0.5, abs=4 * deviation)
    assert (half == other).mean() == pytest.approx(0.5, abs=4 * deviation)
    # neighbours on the micrograph are as unlike as strangers
    assert (half[:-1] == half[1:]).mean() == pytest.approx(0.5, abs=4 * deviation)


def test_a_sample_tells_a_set_that_grew_from_another():
    first, second = table("a", 3000, 1), table("b", 2000, 2)
    sample = sample_of(first)
    assert len(sample) == 256
    assert share_left(sample, concatenate([second, first])) == 1.0
    assert share_left(sample, first.select(np.arange(1500))) == pytest.approx(0.5, abs=0.12)
    assert share_left(sample, second) == 0.0
    assert len(set(particle_keys(concatenate([first, second])).tolist())) == 5000
