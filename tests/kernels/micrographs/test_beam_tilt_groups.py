"""Groups of shifts against the places of simulated templates: grids, rings, shots within holes, places at random."""

import numpy as np
import pytest
import torch

from kernels.micrographs.beam_tilt_groups import UNKNOWN, continue_groups, shift_clusters
from tests.truth import multi_shot as truth

TEMPLATES = {
    "3 x 3": truth.grid(3),
    "5 x 5": truth.grid(5),
    "4 shots in each of 3 x 3 holes": (truth.grid(3, 3.0)[:, None] + truth.ring(4, 0.7)[None]).reshape(-1, 2),
    "a ring around a middle": np.concatenate([np.zeros((1, 2)), truth.ring(6, 1.0)]),
    "12 at random": truth.scattered(12, 1),
    "two": np.array([[0.0, 0.0], [1.0, 0.0]]),
    "one": np.zeros((1, 2)),
}


def nothing_known(shift):
    return torch.zeros(len(shift), dtype=torch.int64)


def agreement(found, places):
    """Adjusted Rand index over the exposures that are no outliers; those without a number count as one more group."""
    is_shot = places >= 0
    return truth.adjusted_rand_index(found[is_shot], places[is_shot])


@pytest.mark.parametrize("jitter", [0.02, 0.08])
@pytest.mark.parametrize("drift", [0.0, 0.5])
@pytest.mark.parametrize("template", TEMPLATES)
def test_every_place_of_a_template_is_a_group(template, drift, jitter):
    """Jitter and drift in units of the distance between places; 1 % of the shots go anywhere."""
    places = TEMPLATES[template]
    n_visits = max(30, 950 // len(places))
    shift, place = truth.session(places, n_visits, jitter, drift, outliers=0.01, is_jitter_of_visit=drift > 0)
    found = continue_groups(shift, nothing_known(shift))
    assert agreement(found, place) >= 0.99
    assert found.max() == len(places)


def test_a_drift_of_three_spacings_splits_and_mixes_nothing():
    shift, place = truth.session(truth.grid(3), 150, 0.05, drift=3.0)
    assert agreement(continue_groups(shift, nothing_known(shift)), place) == 1


def test_jitter_as_large_as_the_template_gives_one_group():
    """What cannot be told apart is not told apart; this is where the method ends."""
    shift, _ = truth.session(truth.grid(3), 90, 0.35, missed=0.0)
    assert continue_groups(shift, nothing_known(shift)).unique().tolist() == [1]


@pytest.mark.parametrize("batch", [10, 37, 300])
def test_numbers_do_not_change_from_batch_to_batch(batch):
    shift, place = truth.session(truth.grid(3), 60, 0.06, drift=0.5, outliers=0.01)
    number = torch.zeros(0, dtype=torch.int64)
    for end in range(batch, len(shift) + batch, batch):
        before = torch.cat([number, torch.zeros(min(end, len(shift)) - len(number), dtype=torch.int64)])
        number = continue_groups(shift[:end], before)
        assert torch.equal(number[before > 0], before[before > 0])
    assert agreement(number, place) >= 0.97


def test_exposures_that_arrive_late_get_the_number_of_their_place():
    shift, place = truth.session(truth.grid(3), 80, 0.06, drift=1.0)
    is_late = torch.rand(len(shift), generator=torch.Generator().manual_seed(2)) < 0.2
    known = torch.zeros(len(shift), dtype=torch.int64)
    known[~is_late] = continue_groups(shift[~is_late], nothing_known(shift[~is_late]))
    found = continue_groups(shift, known)
    assert torch.equal(found[known > 0], known[known > 0])
    assert agreement(found, place) == 1


def test_a_template_with_more_places_adds_numbers():
    first, place_1 = truth.session(truth.grid(3), 40, 0.05, seed=1)
    more = np.concatenate([truth.grid(3), truth.grid(3) + np.array([0.0, 4.0])])
    second, place_2 = truth.session(more, 40, 0.05, seed=2)
    shift, place = torch.cat([first, second]), torch.cat([place_1, place_2])
    found = continue_groups(shift, nothing_known(shift))
    assert agreement(found, place) == 1
    assert found[: len(first)].max() == 9
    assert found.max() == 18


@pytest.mark.parametrize("jitter", [0.0, 1e-3])
def test_one_place_whose_shift_jumps_now_and_then_is_one_group(jitter):
    """As after every centring of the beam: the shift stays for a while, and all exposures of that while agree."""
    random = np.random.default_rng(8)
    jumps = np.repeat(random.normal(size=(30, 2)), 40, axis=0)
    shift = torch.from_numpy(jumps + random.normal(0, jitter, jumps.shape))
    found = continue_groups(shift, nothing_known(shift))
    assert set(found.tolist()) <= {0, 1}
    assert (found == 1).double().mean() > 0.95
    for part in (200, 900):
        assert continue_groups(shift[:part], nothing_known(shift[:part])).max() <= 1


def test_numbers_that_are_taken_are_left_alone():
    shift, _ = truth.session(truth.grid(3), 30, 0.05)
    assert set(continue_groups(shift, nothing_known(shift), n_used=4).tolist()) == set(range(5, 14))


def test_the_unit_does_not_matter():
    shift, _ = truth.session(truth.grid(3), 30, 0.05)
    found = continue_groups(shift, nothing_known(shift))
    for scale in (1e-9, 1e6):
        assert torch.equal(continue_groups(shift * scale, nothing_known(shift)), found)


def test_equal_shifts_without_any_jitter_are_groups():
    places = torch.from_numpy(truth.grid(3))
    place = torch.arange(90) % 9
    assert agreement(continue_groups(places[place], nothing_known(place)), place) == 1
    still = torch.zeros(900, 2, dtype=torch.float64)
    assert continue_groups(still, nothing_known(still)).unique().tolist() == [1]


def test_too_few_exposures_get_no_number_yet():
    shift, _ = truth.session(truth.grid(3), 3, 0.05, missed=0.0)
    assert continue_groups(shift, nothing_known(shift)).tolist() == [0] * 27
    cloud = torch.randn(799, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert continue_groups(cloud, nothing_known(cloud)).tolist() == [0] * 799


@pytest.mark.parametrize("n", [10, 30, 100, 300])
@pytest.mark.parametrize("kind", ["normal", "uniform", "drifting"])
def test_one_cloud_is_one_cluster(kind, n):
    random = np.random.default_rng(n)
    for _ in range(12):
        cloud = random.uniform(size=(n, 2)) if kind == "uniform" else random.normal(size=(n, 2))
        if kind == "drifting":
            cloud += np.linspace(0, 30, n)[:, None]
        assert set(shift_clusters(torch.from_numpy(cloud)).tolist()) <= {0, UNKNOWN}


def test_small_clusters_are_unknown():
    cloud = torch.randn(50, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    label = shift_clusters(torch.cat([cloud, cloud[:4] * 0.1 + 100, cloud[:10] * 0.1 - 100]))
    assert label.tolist() == [0] * 50 + [UNKNOWN] * 4 + [1] * 10


@pytest.mark.parametrize("shift", [torch.zeros(4), torch.zeros(4, 3), torch.full((4, 2), float("nan"))])
def test_wrong_shifts_are_refused(shift):
    with pytest.raises(ValueError, match="shift"):
        continue_groups(shift, torch.zeros(len(shift), dtype=torch.int64))


def test_no_exposures_have_no_groups():
    assert len(continue_groups(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))) == 0


def test_the_adjusted_rand_index_knows_same_and_random_groupings():
    random = torch.Generator().manual_seed(4)
    first = torch.randint(0, 5, (4000,), generator=random)
    assert truth.adjusted_rand_index(first, (first + 2) % 5) == 1
    assert abs(truth.adjusted_rand_index(first, torch.randint(0, 5, (4000,), generator=random))) < 0.01
