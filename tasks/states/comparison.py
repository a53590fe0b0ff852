"""Two models of the same molecule in two states: what is the same, what moves, and how."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel
from kernels.models.domain_motion import EFFECTIVE_HINGE_ANGSTROM, Hinge, closure_share, hinges, relative_screw
from kernels.models.pockets import Probes
from kernels.models.residue_places import chains_and_numbers, representatives, residue_kinds
from kernels.models.residue_ranges import residue_ranges
from kernels.models.rigid_domains import FEWEST_OF_DOMAIN, RigidDomains, rigid_domains
from kernels.models.superposition import superposition
from tasks.records.state_comparison import (
    DistanceOfStates,
    DomainOfStates,
    HingeOfStates,
    MotionOfDomain,
    ResidueOfStates,
    StateComparison,
    place_of,
)
from tasks.states.pocket_changes import pocket_changes
from tasks.states.same_residues import SameResidues, same_residues

NAMED_PAIR = re.compile(r"([^/:]+)/(-?\d+)([A-Za-z]?):([^/:]+)/(-?\d+)([A-Za-z]?)")
"""Two residues by chain and number, as ``A/10:B/20``."""
_SAME_ANGSTROM = 1e-3


def compared(
    first: AtomicModel,
    second: AtomicModel,
    names: tuple[str, str],
    distances: Sequence[str] = (),
    tolerance_angstrom: float | None = None,
    fewest: int = FEWEST_OF_DOMAIN,
    probes: Probes | None = None,
) -> tuple[StateComparison, AtomicModel]:
    """What moves from one state to the other, and the other state with its largest domain laid on that of the first.

    Parameters
    ----------
    names
        Of the states, for messages and the record.
    distances
        Pairs of residues of the first state, as `NAMED_PAIR`.
    probes
        Of the pockets; None to look for none.

    Raises
    ------
    ValueError
        For models that are of different molecules or the very same, and for residues that are not in both.
    """
    same = same_residues(first, second)
    n_first, n_second = (int((residue_kinds(model) >= 0).sum()) for model in (first, second))
    if len(same) < fewest:
        raise ValueError(
            f"{names[0]} and {names[1]} share {len(same)} of {n_first} and {n_second} residues: no chains of the same"
            f" sequence in the same numbering; expected {fewest} at least, of two models of the same molecule"
        )
    places = representatives(first)[same.first], representatives(second)[same.second]
    is_same = len(same) == n_first == n_second and torch.allclose(*places, rtol=0, atol=_SAME_ANGSTROM)
    if is_same and len(first) == len(second):
        raise ValueError(f"{names[0]} and {names[1]} are the same model; give models of two states")
    named = [_named_pair(words, first, same, names[1]) for words in distances]
    domains = rigid_domains(*places, tolerance_angstrom, fewest)
    chain = chains_and_numbers(first)[0][same.first]
    found = hinges(domains.domain, chain)
    kinds = residue_kinds(first)[same.first], residue_kinds(second)[same.second]
    whole = superposition(*places, places[0].new_ones(len(same)))
    laid = second.at(domains.returned(second.coordinates_angstrom))
    told = StateComparison(
        first=names[0],
        second=names[1],
        n_first=n_first,
        n_second=n_second,
        n_same=len(same),
        n_mutated=int((kinds[0] != kinds[1]).sum()),
        rmsd_angstrom=_rms(places[0] @ whole[0] + whole[1] - places[1]),
        error_angstrom=round(domains.error_angstrom, 3),
        tolerance_angstrom=round(domains.tolerance_angstrom, 3),
        n_flexible=int((domains.domain < 0).sum()),
        domains=tuple(_domain(first, same, domains, places, k) for k in range(len(domains))),
        motions=_motions(domains, places, found),
        hinges=tuple(_hinge(first, same, domains, places[0], one) for one in found),
        distances=tuple(_distance(words, pair, (first, second), same) for words, pair in zip(distances, named)),
        pockets=() if probes is None else tuple(pocket_changes(first, second, same, domains, probes)),
        residues=_residues(first, second, same, domains, places, found),
    )
    return told, laid


def _named_pair(words: str, first: AtomicModel, same: SameResidues, other: str) -> tuple[int, int]:
    """Indices of two residues among those of both states."""
    match = NAMED_PAIR.fullmatch(words)
    if match is None:
        raise ValueError(f"distance {words!r}: expected two residues by chain and number, as A/10:B/20")
    row = {(r.chain, r.number, r.insertion_code): i for i, r in enumerate(first.residues)}
    pair = {index: k for k, index in enumerate(same.first.tolist())}
    found = []
    for chain, number, code in (match.groups()[:3], match.groups()[3:]):
        index = row.get((chain, int(number), code))
        if index is None:
            chains = ", ".join(dict.fromkeys(r.chain for r in first.residues))
            raise ValueError(
                f"distance {words}: the first state has no residue {chain}/{number}{code}; it has chains {chains}"
            )
        if index not in pair:
            raise ValueError(
                f"distance {words}: {first.residues[index]} has no counterpart in {other}; name another one"
            )
        found.append(pair[index])
    return found[0], found[1]


def _domain(
    first: AtomicModel, same: SameResidues, domains: RigidDomains, places: tuple[Tensor, Tensor], k: int
) -> DomainOfStates:
    own = domains.domain == k
    return DomainOfStates(
        number=k + 1,
        n_residues=int(own.sum()),
        ranges=residue_ranges(first, same.first, own),
        rmsd_angstrom=_rms(domains.moved(places[0][own], k) - places[1][own]),
        centre_angstrom=place_of(places[0][own].mean(0)),
    )


def _motions(
    domains: RigidDomains, places: tuple[Tensor, Tensor], found: Sequence[Hinge]
) -> tuple[MotionOfDomain, ...]:
    """Of every domain against the largest one, and of domains that a hinge joins."""
    joined = {tuple(sorted(one.domains)) for one in found}
    pairs = [(a, b) for a, b in combinations(range(len(domains)), 2) if a == 0 or (a, b) in joined]
    return tuple(_motion(domains, places, a, b, found) for a, b in pairs)


def _motion(
    domains: RigidDomains, places: tuple[Tensor, Tensor], a: int, b: int, found: Sequence[Hinge]
) -> MotionOfDomain:
    centres = [[state[domains.domain == k].mean(0) for k in (a, b)] for state in places]
    turn = relative_screw(domains, a, b, (centres[0][0] + centres[0][1]) / 2)
    between = [one for one in found if set(one.domains) == {a, b}]
    near = [float(turn.distance(places[0][one.first : one.last + 1]).min()) for one in between]
    own = domains.domain == b
    return MotionOfDomain(
        fixed=a + 1,
        moving=b + 1,
        angle_deg=round(math.degrees(turn.angle_rad), 2),
        axis=place_of(turn.axis, 4),
        point_angstrom=place_of(turn.point_angstrom),
        shift_angstrom=round(turn.shift_angstrom, 2),
        closure_percent=round(100 * closure_share(turn.axis, *centres[0]), 1),
        displacement_angstrom=_rms(domains.moved(places[0][own], a) - places[1][own]),
        distances_angstrom=(_apart(*centres[0]), _apart(*centres[1])),
        n_hinges=len(between),
        axis_to_hinge_angstrom=round(min(near), 2) if near else None,
        is_hinge_axis=bool(near) and min(near) <= EFFECTIVE_HINGE_ANGSTROM,
    )


def _hinge(first: AtomicModel, same: SameResidues, domains: RigidDomains, places: Tensor, one: Hinge) -> HingeOfStates:
    a, b = sorted(one.domains)
    bending = places[one.first : one.last + 1]
    turn = relative_screw(domains, a, b, bending.mean(0))
    ends = (str(first.residues[int(same.first[k])]) for k in (one.first, one.last))
    return HingeOfStates(
        domains=(one.domains[0] + 1, one.domains[1] + 1),
        first=next(ends),
        last=next(ends),
        axis_distance_angstrom=round(float(turn.distance(bending).min()), 2),
    )


def _distance(
    words: str, pair: tuple[int, int], models: tuple[AtomicModel, AtomicModel], same: SameResidues
) -> DistanceOfStates:
    traces, nearest = [], []
    for model, rows in zip(models, (same.first, same.second)):
        ends = [int(rows[k]) for k in pair]
        place = representatives(model)[ends]
        traces.append(_apart(*place))
        heavy = torch.tensor([element not in ("H", "D") for element in model.elements])
        atoms = [model.coordinates_angstrom[(model.residue == end) & heavy] for end in ends]
        nearest.append(round(float(torch.cdist(atoms[0], atoms[1]).min()), 2))
    first, second = (models[0].residues[int(same.first[k])] for k in pair)
    return DistanceOfStates(
        first=str(first),
        second=str(second),
        traces_angstrom=(traces[0], traces[1]),
        nearest_angstrom=(nearest[0], nearest[1]),
    )


def _residues(
    first: AtomicModel,
    second: AtomicModel,
    same: SameResidues,
    domains: RigidDomains,
    places: tuple[Tensor, Tensor],
    found: Sequence[Hinge],
) -> tuple[ResidueOfStates, ...]:
    moved = (domains.moved(places[0]) - places[1]).norm(dim=1).tolist()
    own = domains.domain.clamp(min=0)
    at_home = (places[0][:, None] @ domains.rotation[own] + domains.shift[own])[:, 0]
    off = (at_home - places[1]).norm(dim=1).tolist()
    bending = {k for one in found for k in range(one.first, one.last + 1)}
    return tuple(
        ResidueOfStates(
            chain=first.residues[i].chain,
            number=first.residues[i].number,
            insertion_code=first.residues[i].insertion_code,
            name=first.residues[i].name,
            other_chain=second.residues[j].chain,
            other_number=second.residues[j].number,
            other_name=second.residues[j].name,
            domain=None if domain < 0 else domain + 1,
            displacement_angstrom=round(moved[k], 3),
            deviation_angstrom=None if domain < 0 else round(off[k], 3),
            is_hinge=k in bending,
        )
        for k, (i, j, domain) in enumerate(zip(same.first.tolist(), same.second.tolist(), domains.domain.tolist()))
    )


def _rms(off: Tensor) -> float:
    return round(float(off.square().sum(-1).mean().sqrt()), 3)


def _apart(first: Tensor, second: Tensor) -> float:
    return round(float((first - second).norm()), 2)
