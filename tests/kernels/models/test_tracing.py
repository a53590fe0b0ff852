"""Links tell neighbours in sequence from neighbours in space."""

import math
from dataclasses import replace

import pytest
import torch

from kernels.models.bridging import bridged, relaxed
from kernels.models.tracing import Hands, link_noise, links_between
from tests.truth.protein_detections import TYPICAL, cage_subunits, simulated_detections


def helix(n: int) -> Hands:
    """A helix whose residues know exactly where their neighbours are."""
    turn = torch.arange(-1, n + 1) * math.radians(100.0)
    place = torch.stack([1.5 * torch.arange(-1.0, n + 1), 2.3 * turn.cos(), 2.3 * turn.sin()], 1)
    ahead, back = place[2:] - place[1:-1], place[:-2] - place[1:-1]
    return Hands(place[1:-1], ahead, back, 0.4 * ahead, 0.4 * back)


def test_the_likeliest_link_leads_to_the_next_residue():
    hands = helix(12)
    noise = link_noise(hands, torch.full((12,), 0.8))
    links = links_between(hands, hands, noise, (0.85,), 0.006)
    best = {}
    for source, target, odds in zip(links.source.tolist(), links.target.tolist(), links.log_odds.tolist()):
        best[source] = max(best.get(source, (-math.inf, -1)), (odds, target))
    assert [best[i][1] for i in range(11)] == list(range(1, 12))
    assert all(best[i][0] > 3 for i in range(11))
    assert best[11][0] < 0  # the last one has no successor


def test_links_do_not_depend_on_where_the_chain_lies():
    hands = helix(12)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    moved = Hands(
        hands.alpha_angstrom @ turn.T + 40.0,
        *(
            v @ turn.T
            for v in (hands.ahead_angstrom, hands.back_angstrom, hands.carbon_angstrom, hands.nitrogen_angstrom)
        ),
    )
    noise = link_noise(hands, torch.full((12,), 0.8))
    first, second = (links_between(h, h, noise, (0.8, 0.1, 0.05), 0.006) for h in (hands, moved))
    order = [
        sorted(zip(x.missing.tolist(), x.source.tolist(), x.target.tolist(), range(len(x)))) for x in (first, second)
    ]
    rows = [torch.tensor([row[3] for row in o]) for o in order]
    assert [row[:3] for row in order[0]] == [row[:3] for row in order[1]]
    assert torch.allclose(first.log_odds[rows[0]], second.log_odds[rows[1]], atol=1e-3)


def test_a_residue_that_is_missing_is_bridged():
    whole = helix(30)
    hands = whole.take(torch.tensor([i for i in range(30) if i != 6]))
    links = links_between(hands, hands, link_noise(whole, torch.full((30,), 0.8)), (0.85, 0.05), 0.006)
    over = links.take((links.source == 5) & (links.target == 6))
    odds = dict(zip(over.missing.tolist(), over.log_odds.tolist()))
    assert odds[1] > 0 > odds[0]
    found = bridged(hands.take(torch.tensor([5])), hands.take(torch.tensor([6])), 1)
    assert (found[0, 0] - whole.alpha_angstrom[6]).norm() < 0.1


def test_a_chain_told_backwards_has_the_same_links_the_other_way():
    hands = helix(8)
    turned = hands.take(torch.arange(8), torch.ones(8, dtype=torch.bool))
    noise = link_noise(hands, torch.full((8,), 0.8))
    ahead = links_between(hands, hands, noise, (0.85,), 0.006)
    back = links_between(turned, turned, noise, (0.85,), 0.006)
    odds = {(s, t): o for s, t, o in zip(ahead.source.tolist(), ahead.target.tolist(), ahead.log_odds.tolist())}
    for source, target, value in zip(back.source.tolist(), back.target.tolist(), back.log_odds.tolist()):
        assert value == pytest.approx(odds[target, source], abs=1e-3)


@pytest.mark.parametrize("angle_deg", [10.0, 25.0])
def test_noise_is_told_from_the_candidates(angle_deg):
    noise = replace(TYPICAL, angle_deg=angle_deg, position_angstrom=0.3, wrong_direction=0.0, reversed_stretch=0.0)
    detections = simulated_detections(cage_subunits(3), noise, 0)
    found = link_noise(Hands.of(detections), detections.confidence)
    # a Fisher distribution of concentration k has a mean square angle of 2 / k; places add to the angle
    expected_rad = math.hypot(math.radians(angle_deg), 0.3 * 0.7 / 3.8)
    assert math.sqrt(2 / found.sharpness[0]) == pytest.approx(expected_rad, rel=0.35)
    assert found.sharpness[0] == pytest.approx(found.sharpness[1], rel=0.3)


def test_density_weighs_where_it_differs():
    detections = simulated_detections(cage_subunits(2), TYPICAL, 0)
    hands = Hands.of(detections)
    true = torch.cat([c.alpha_angstrom for c in cage_subunits(2)])
    middles = torch.cat([(c.alpha_angstrom[1:] + c.alpha_angstrom[:-1]) / 2 for c in cage_subunits(2)])
    stations = torch.cat([true, middles]).float()

    def density_at(place):
        near = torch.cdist(place.reshape(-1, 3), stations).amin(1)
        return torch.exp(-0.5 * (near / 1.2) ** 2).reshape(place.shape[:-1])

    noise = link_noise(hands, detections.confidence, density_at)
    linked, _, rest, _ = noise.density
    assert linked > rest
    with_density = links_between(hands, hands, noise, (0.85,), 0.006, density_at)
    without = links_between(hands, hands, replace(noise, density=None), (0.85,), 0.006, density_at)
    assert (with_density.log_odds - without.log_odds).abs().max() <= 3.0 + 1e-4
    assert (with_density.log_odds - without.log_odds).std() > 0.3


@pytest.mark.parametrize("missing", [1, 2, 3, 6])
def test_bridges_are_chains(missing):
    ends = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 3.3 * (missing + 1) * 0.7]])
    start = torch.stack([torch.lerp(ends[0], ends[1], (i + 1) / (missing + 1)) for i in range(missing)])
    start[:, 1] += 0.5
    inner = relaxed(ends[:1], ends[1:], start[None])
    chain = torch.cat([ends[:1], inner[0], ends[1:]])
    assert (chain.diff(dim=0).norm(dim=1) - 3.8).abs().max() < 0.35
    if missing > 1:
        assert (chain[2:] - chain[:-2]).norm(dim=1).min() > 4.2
