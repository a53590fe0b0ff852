"""Which views are missing, in words that somebody at the microscope can act on."""

import math

import numpy as np
import pytest
import torch

from kernels.particles.view_coverage import view_coverage
from kernels.rotations import from_rotation_vector, random_rotations
from tasks.records.verdict import MissingData, NeededParticles
from tasks.verdict.missing_data import particle_words, particles_for, view_words


def test_a_preferred_view_asks_for_a_tilt():
    flat = torch.zeros(300, 3)
    flat[:, 0] = torch.linspace(0, 6.28, 300)
    words = view_words(view_coverage(from_rotation_vector(flat)))
    assert "100% of the particles look along one axis" in words and "tilted by 30 to 40 degrees" in words


def test_views_from_everywhere_ask_for_nothing():
    words = view_words(view_coverage(random_rotations(3000, torch.Generator().manual_seed(0))))
    assert words.startswith("views are even enough")


def rosenthal_henderson(n, b_factor, one_over_d=0.0):
    """Resolution by 1 / d² = (2 / B) ln N + one_over_d."""
    return (2 / b_factor * np.log(n) + one_over_d) ** -0.5


def test_particles_for_a_resolution_are_those_of_the_curve():
    n = np.geomspace(1000, 400_000, 40)
    curve = np.stack([n, *(rosenthal_henderson(n, b) for b in (150.0, 140.0, 160.0))], axis=1)
    found = particles_for(curve, 2.6, 200.0)
    for value, b_factor in ((found.n_particles, 150.0), (found.low, 140.0), (found.high, 160.0)):
        assert value == pytest.approx(math.exp(b_factor / 2 / 2.6**2), rel=0.01)
    assert found.n_exposures == math.ceil(found.n_particles / 200)


def test_a_resolution_beyond_the_curve_has_no_number():
    n = np.geomspace(1000, 400_000, 40)
    curve = np.stack([n, *(rosenthal_henderson(n, b) for b in (150.0, 140.0, 160.0))], axis=1)
    assert particles_for(curve, 1.5, 200.0) is None
    assert particles_for(np.zeros((0, 4)), 3.0, 200.0) is None
    between = particles_for(curve, float(curve[-1, 1:3].mean()), 200.0)
    assert between is None  # only the finer end of the interval reaches it
    most = particles_for(curve, float(curve[-1, 1]) + 1e-3, 200.0)
    assert most.high is None


def test_what_a_goal_takes_is_said_once():
    needed = NeededParticles(resolution_angstrom=3.0, n_particles=52_000, low=31_000, high=90_000, n_exposures=640)
    missing = MissingData(
        n_particles=4000, resolution_angstrom=3.5, forecast="3.2 Å with 80 exposures", evenness=None,
        seldom_share=None, weakest_direction=None, views=None, needed=needed,
    )  # fmt: skip
    first, second = particle_words(missing)
    assert "3 Å takes about 52,000 particles (31,000 to 90,000), from 640 exposures" in first
    assert second == "3.2 Å with 80 exposures"
    both = "3.2 Å with 80 exposures; 3 Å needs 600 more exposures, 640 in all (390 to 1100)"
    assert particle_words(missing.model_copy(update={"forecast": both})) == [both]
    enough = missing.model_copy(update={"n_particles": 60_000, "forecast": None})
    assert particle_words(enough) == []
