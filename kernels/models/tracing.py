"""Which residues follow each other along a chain: log-odds of links, from distances and from what both ends predict."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kernels.models.detections import Detections, ProteinDetections
from kernels.models.neighbours import pairs_within
from kernels.models.polymers import PROTEIN, Polymer

_STRAY = 0.05
"""Share of vectors, at least, that point anywhere."""
_FAR = 0.25
"""Share of distances that err twice as much as the others."""
_N_ROUNDS = 4


Density = Callable[[Tensor], Tensor]
"""Positions (..., 3) in Å -> density (...) there."""


@dataclass(frozen=True)
class Hands:
    """Residues, and where each expects its neighbours."""

    alpha_angstrom: Tensor
    """(n, 3) Cα, or C4' of a nucleotide"""
    ahead_angstrom: Tensor
    """(n, 3) from there to that of the next residue"""
    back_angstrom: Tensor
    """(n, 3) from there to that of the residue before"""
    carbon_angstrom: Tensor
    """(n, 3) from the Cα to the C; of a nucleotide, which has nothing like it, as ``ahead_angstrom``"""
    nitrogen_angstrom: Tensor
    """(n, 3) from the Cα to the N, or from the C4' to the P"""
    polymer: Polymer = PROTEIN

    def __len__(self) -> int:
        return len(self.alpha_angstrom)

    @staticmethod
    def of(detections: Detections) -> Hands:
        ahead = detections.next_offset_angstrom
        if isinstance(detections, ProteinDetections):
            onwards, backwards = detections.backbone_offset_angstrom[:, 1], detections.backbone_offset_angstrom[:, 0]
        else:
            onwards, backwards = ahead, detections.phosphate_offset_angstrom
        back = detections.previous_offset_angstrom
        return Hands(detections.place_angstrom, ahead, back, onwards, backwards, detections.polymer)

    def take(self, index: Tensor, is_reversed: Tensor | None = None) -> Hands:
        """Some residues; those of a chain that runs the other way have their two neighbours exchanged."""
        alpha, ahead, back = self.alpha_angstrom[index], self.ahead_angstrom[index], self.back_angstrom[index]
        carbon, nitrogen = self.carbon_angstrom[index], self.nitrogen_angstrom[index]
        if is_reversed is None:
            return Hands(alpha, ahead, back, carbon, nitrogen, self.polymer)
        turned = is_reversed[:, None]
        return Hands(
            alpha, torch.where(turned, back, ahead), torch.where(turned, ahead, back),
            torch.where(turned, nitrogen, carbon), torch.where(turned, carbon, nitrogen), self.polymer,
        )  # fmt: skip


@dataclass(frozen=True)
class LinkNoise:
    """How exact distances and vectors are; `link_noise` estimates it from the residues themselves."""

    distance_angstrom: float = 0.5
    """Standard deviation of the distance between linked Cα."""
    sharpness: tuple[float, float, float, float] = (6.0, 6.0, 3.0, 3.0)
    """Concentration of directions about the link: to the next Cα, from the previous one, to the C, from the N."""
    wrong: tuple[float, float, float, float] = (0.1, 0.1, 0.1, 0.1)
    """Share of them that point anywhere."""
    bridge_angstrom: float = 1.5
    """Standard deviation per axis between where two neighbours expect the residue between them."""
    crowd_per_angstrom3: float = 0.006
    """Density of residues around a residue."""
    density: tuple[float, float, float, float] | None = None
    """Mean and standard deviation of the least density along links, then along pairs that are none."""


@dataclass(frozen=True)
class Links:
    """Directed pairs that may follow each other."""

    source: Tensor
    """(link,) int64 index of the residue, or fragment, before"""
    target: Tensor
    """(link,)"""
    missing: Tensor
    """(link,) int64 residues between them that are not there"""
    log_odds: Tensor
    """(link,) of this link against none, given that both ends are real"""

    def __len__(self) -> int:
        return len(self.source)

    def take(self, index: Tensor) -> Links:
        return Links(self.source[index], self.target[index], self.missing[index], self.log_odds[index])


def joined_links(parts: list[Links]) -> Links:
    """Several sets of links as one."""
    return Links(
        torch.cat([p.source for p in parts]), torch.cat([p.target for p in parts]),
        torch.cat([p.missing for p in parts]), torch.cat([p.log_odds for p in parts]),
    )  # fmt: skip


def links_between(
    tails: Hands,
    heads: Hands,
    noise: LinkNoise,
    share_of_gap: tuple[float, ...],
    crowd_per_angstrom3: float,
    density_at: Density | None = None,
) -> Links:
    """All links from a tail to a head of another row that geometry does not forbid.

    Parameters
    ----------
    share_of_gap
        Prior share of tails whose next head lies 0, 1, 2 … residues further on; no longer than `LONGEST_BRIDGE` + 1.
    crowd_per_angstrom3
        Density of heads that do not belong to a tail.
    density_at
        Of the map; weighs if ``noise`` knows it too.
    """
    parts, polymer = [], tails.polymer
    for missing, share in enumerate(share_of_gap):
        reach = polymer.longest_link_angstrom if missing == 0 else polymer.farthest_apart_angstrom[missing]
        source, target, apart = pairs_within(tails.alpha_angstrom, heads.alpha_angstrom, reach)
        kept = (source != target) & (
            apart > (polymer.shortest_link_angstrom if missing == 0 else polymer.step_angstrom)
        )
        source, target = source[kept], target[kept]
        before, after = tails.take(source), heads.take(target)
        if missing == 0:
            odds = direct_log_odds(*link_geometry(before, after), noise, crowd_per_angstrom3, polymer)
        else:
            odds = bridge_log_odds(before, after, missing, noise, crowd_per_angstrom3)
        if density_at is not None:
            odds = odds + density_log_odds(least_density(before, after, missing, density_at), noise)
        parts.append(Links(source, target, torch.full_like(source, missing), odds + math.log(share)))
    return joined_links(parts)


def link_geometry(before: Hands, after: Hands) -> tuple[Tensor, Tensor]:
    """Distance (link,) of two Cα, and cosines (link, 4) of their link with what both ends expect of it."""
    vector = after.alpha_angstrom - before.alpha_angstrom
    unit = normalize(vector, dim=1)
    expected = (before.ahead_angstrom, -after.back_angstrom, before.carbon_angstrom, -after.nitrogen_angstrom)
    cosine = torch.stack([(normalize(v, dim=1) * unit).sum(1) for v in expected], 1)
    return vector.norm(dim=1), cosine


def direct_log_odds(
    distance: Tensor, cosine: Tensor, noise: LinkNoise, crowd_per_angstrom3: float, polymer: Polymer = PROTEIN
) -> Tensor:
    """Log-odds (link,), from `link_geometry`, that residues are neighbours, against lying there by chance."""
    width, usual, rare = noise.distance_angstrom, polymer.step_angstrom, polymer.rare_share
    linked = _bell(distance - usual, width) * (1 - rare - _FAR)
    linked = linked + rare * _bell(distance - polymer.rare_step_angstrom, width)
    linked = linked + _FAR * _bell(distance - usual, 2.2 * width)
    odds = torch.log(linked + 1e-6) - torch.log(4 * math.pi * distance**2 * crowd_per_angstrom3)
    # the backbone repeats in part what the vectors to the neighbours say
    for column, (sharpness, wrong, weight) in enumerate(zip(noise.sharpness, noise.wrong, polymer.hint_weights)):
        odds = odds + weight * torch.log((1 - wrong) * _fisher(cosine[:, column], sharpness) + wrong)
    return odds


def bridge_log_odds(before: Hands, after: Hands, missing: int, noise: LinkNoise, crowd_per_angstrom3: float) -> Tensor:
    """Log-odds (link,) that 1, 2 or 3 residues are missing between two ends.

    With one missing, both ends expect it in the same place; with two, a step apart; with three, as far apart as
    residues over one between.
    """
    expected = before.alpha_angstrom + before.ahead_angstrom - after.alpha_angstrom - after.back_angstrom
    apart, width = expected.norm(dim=1), noise.bridge_angstrom
    if missing == 1:
        near = torch.exp(-0.5 * (apart / width) ** 2) / (math.sqrt(2 * math.pi) * width) ** 3
        return torch.log(near / crowd_per_angstrom3 + 1e-6)
    polymer = before.polymer
    _, over_one, over_one_spread, _ = polymer.over_one_angstrom
    middle, spread = ((polymer.step_angstrom, width), (over_one, math.hypot(over_one_spread, width)))[missing - 2]
    shell = 4 * math.pi * apart.clamp(min=2.0) ** 2 * crowd_per_angstrom3
    return torch.log(_bell(apart - middle, spread) / shell + 1e-6)


def least_density(before: Hands, after: Hands, missing: int, density_at: Density) -> Tensor:
    """(link,) lowest density on the way from one end to the other, over the residues that the ends expect between."""
    ahead = before.alpha_angstrom + before.ahead_angstrom
    back = after.alpha_angstrom + after.back_angstrom
    between = ([], [(ahead + back) / 2], [ahead, back], [ahead, back])[missing]
    stops = [before.alpha_angstrom, *between, after.alpha_angstrom]
    share = torch.linspace(0.2, 0.8, 4, dtype=ahead.dtype, device=ahead.device)[:, None, None]
    way = torch.cat([torch.lerp(first, second, share) for first, second in itertools.pairwise(stops)])
    return density_at(way).amin(0)


def density_log_odds(density: Tensor, noise: LinkNoise) -> Tensor:
    """Log-odds (link,) that density tells: of that of links against that of pairs that are none; no more than 3."""
    if noise.density is None:
        return torch.zeros_like(density)
    linked, width, unlinked, unlinked_width = noise.density
    density = density.clamp(max=linked)  # more than usual says no more
    odds = torch.log(_bell(density - linked, width) + 1e-9) - torch.log(
        _bell(density - unlinked, unlinked_width) + 1e-9
    )
    return odds.clamp(-3.0, 3.0)


def link_noise(hands: Hands, confidence: Tensor, density_at: Density | None = None) -> LinkNoise:
    """Noise of these residues, in rounds, from pairs that are each other's likeliest neighbours.

    Parameters
    ----------
    confidence
        (n,) probability of being a residue.
    """
    noise, place, polymer = LinkNoise(), hands.alpha_angstrom, hands.polymer
    source, target, apart = pairs_within(place, place, polymer.longest_link_angstrom)
    kept = apart > polymer.shortest_link_angstrom
    source, target = source[kept], target[kept]
    before, after = hands.take(source), hands.take(target)
    distance, cosine = link_geometry(before, after)
    density = torch.zeros_like(distance) if density_at is None else least_density(before, after, 0, density_at)
    noise = replace(noise, crowd_per_angstrom3=_crowd(place))
    sure = torch.logit(confidence.clamp(0.01, 0.99))
    for _ in range(_N_ROUNDS):
        odds = direct_log_odds(distance, cosine, noise, noise.crowd_per_angstrom3, polymer)
        odds = odds + density_log_odds(density, noise)
        chosen = is_mutual_best(source, target, odds + 0.5 * (sure[source] + sure[target]), len(place)) & (odds > 0)
        if int(chosen.sum()) < 20:
            break
        between = _expectations_apart(hands, source[chosen], target[chosen])
        fitted = [_concentration(cosine[chosen, column]) for column in range(4)]
        deviation = float((distance[chosen] - polymer.step_angstrom).abs().median()) * 1.4826
        noise = replace(
            noise,
            distance_angstrom=min(max(deviation, 0.15, polymer.step_spread_angstrom), 1.0),
            sharpness=(fitted[0][0], fitted[1][0], fitted[2][0], fitted[3][0]),
            wrong=(fitted[0][1], fitted[1][1], fitted[2][1], fitted[3][1]),
        )
        if len(between) >= 20:  # 1.54: median length of a three-dimensional normal vector of unit deviation
            noise = replace(noise, bridge_angstrom=min(max(float(between.median()) / 1.54, 0.4), 3.0))
        others = ~chosen & (distance < 1.3 * polymer.step_angstrom)
        if density_at is not None and int(others.sum()) >= 20:
            linked, rest = density[chosen], density[others]
            noise = replace(
                noise, density=(float(linked.mean()), float(linked.std()), float(rest.mean()), float(rest.std()))
            )
    return noise


def _crowd(place: Tensor) -> float:
    """Median density of residues 6 to 10 Å from a residue."""
    source, _, apart = pairs_within(place, place, 10.0)
    around = source[apart > 6.0].bincount(minlength=len(place)).double()
    return max(float(around.median()) if len(place) else 0.0, 1.0) / (4 / 3 * math.pi * (10.0**3 - 6.0**3))


def _expectations_apart(hands: Hands, source: Tensor, target: Tensor) -> Tensor:
    """How far apart the two neighbours of a residue expect it, for every residue that is linked on both sides."""
    following = torch.full((len(hands),), -1, dtype=torch.int64, device=source.device)
    following[source] = target
    after = following[target]
    first, last = source[after >= 0], after[after >= 0]
    expected = hands.alpha_angstrom[first] + hands.ahead_angstrom[first]
    return (expected - hands.alpha_angstrom[last] - hands.back_angstrom[last]).norm(dim=1)


def is_mutual_best(source: Tensor, target: Tensor, score: Tensor, n: int) -> Tensor:
    """(link,) whether no other link of the same source, nor of the same target, scores higher."""
    best_out = torch.full((n,), -torch.inf, dtype=score.dtype, device=score.device)
    best_in = best_out.clone()
    best_out.scatter_reduce_(0, source, score, "amax")
    best_in.scatter_reduce_(0, target, score, "amax")
    return (score == best_out[source]) & (score == best_in[target])


def _bell(difference: Tensor, width: float) -> Tensor:
    return torch.exp(-0.5 * (difference / width) ** 2) / (math.sqrt(2 * math.pi) * width)


def _fisher(cosine: Tensor, sharpness: float) -> Tensor:
    """Density of a direction about its axis, relative to that of any direction; a part of it four times as wide."""

    def density(k: float) -> Tensor:
        return 2 * k / (1 - math.exp(-2 * k)) * torch.exp(k * (cosine - 1))

    return 0.8 * density(sharpness) + 0.2 * density(sharpness / 4)


def _concentration(cosine: Tensor) -> tuple[float, float]:
    """Concentration about the axis, and share that points anywhere, of directions with these cosines."""
    sharpness, wrong = 6.0, 0.1
    for _ in range(10):
        inside = (1 - wrong) * _fisher(cosine, sharpness)
        share = inside / (inside + wrong)
        wrong = float((1 - share.mean()).clamp(_STRAY, 0.3))
        spread = float((share * (1 - cosine)).sum() / share.sum().clamp(min=1e-6))
        sharpness = min(max(1.4 / max(spread, 1e-3), 1.0), 60.0)  # 1.4: mean of 1 / the wide part's share and width
    return sharpness, wrong
