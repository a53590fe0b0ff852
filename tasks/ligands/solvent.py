"""Waters and ions of a model, where its map supports them, and the peaks that are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.models.atomic_model import AtomicModel, Residue
from kernels.models.blobs import Peaks, peaks
from kernels.models.mates import Mates
from kernels.models.neighbours import pairs_within
from kernels.models.solvent_sites import (
    COORDINATION,
    WaterCriteria,
    crowding,
    ion_fit,
    lone_volume,
    surroundings,
    waters,
)
from kernels.models.unexplained import element_weight
from tasks.ligands.scene import Scene, with_added
from tasks.records.placement import PlacedResidue

_PEAK_SIGMA = 4.0
_ION_SIGMA = 6.0
_LEAST_ION_SHARE = 0.8
"""Of an ion's density over that of a whole water."""
_SAME_ANGSTROM = 1.2
"""Peaks nearer to their own mate stand on an axis."""


@dataclass(frozen=True, eq=False)
class Solvent:
    """The scene with waters or ions, and a row of each."""

    scene: Scene
    placed: tuple[PlacedResidue, ...]


@dataclass(frozen=True, eq=False)
class _Sites:
    """Peaks of the unit, with what is measured of each."""

    peaks: Peaks
    share: Tensor
    """(peak,) of a whole water."""
    half_sigma: Tensor | None
    """(half, peak)"""
    n_copies: Tensor
    """(peak,) mates that stand in the same place, itself included."""
    all_places: Tensor
    """(place, 3) of all peaks, those of mates included."""


def _sites(scene: Scene) -> _Sites:
    found = peaks(scene.sigma, _PEAK_SIGMA, scene.allowed)
    everywhere = found.place_angstrom
    found = found.take(scene.own(everywhere))
    places, n_copies = _on_axes(found.place_angstrom, scene.mates)
    found = replace(found, place_angstrom=places)
    kept = _one_of_each(places, scene.mates)
    found, n_copies = found.take(kept), n_copies[kept]
    half = None
    if scene.half_sigma:
        half = torch.stack([grid.values_at(found.place_angstrom) for grid in scene.half_sigma])
    return _Sites(found, _share(scene, found.place_angstrom, "O", 2), half, n_copies, everywhere)


def _share(scene: Scene, places: Tensor, element: str, n_hydrogens: int) -> Tensor:
    """(place,) of the density of a whole atom."""
    weight = element_weight(element, n_hydrogens, scene.resolution_angstrom)
    return scene.evidence.at(places).double() / (scene.evidence.own * weight)


def _on_axes(places: Tensor, mates: Mates | None) -> tuple[Tensor, Tensor]:
    """Places (peak, 3), those near an axis of symmetry moved onto it, and how many mates each has in its place."""
    if mates is None or len(mates) == 1 or not len(places):
        return places, torch.ones(len(places), dtype=torch.int64)
    copies = mates.of(places)
    near = (copies - places).norm(dim=-1) < _SAME_ANGSTROM
    middle = (copies * near[..., None]).sum(0) / near.sum(0)[:, None]
    return middle, near.sum(0)


def _one_of_each(places: Tensor, mates: Mates | None) -> Tensor:
    """(peak,) whether no higher peak, which comes before, has a mate in the same place."""
    kept = torch.ones(len(places), dtype=torch.bool)
    if mates is None or len(mates) == 1 or not len(places):
        return kept
    copies = mates.of(places)[1:].reshape(-1, 3)
    i, j, _ = pairs_within(copies, places, _SAME_ANGSTROM)
    source = i % len(places)
    kept[j[source < j]] = False
    return kept


def place_ions(scene: Scene, ions: Sequence[str], chain: str, first_number: int) -> Solvent:
    """Those of the ions that a strong peak's surroundings speak for."""
    sites = _sites(scene)
    place = sites.peaks.place_angstrom
    if not ions or not len(place):
        return Solvent(scene, ())
    cost = torch.full((len(ions), len(place)), torch.inf, dtype=torch.float64)
    bound = torch.zeros(len(ions), len(place), dtype=torch.int64)
    crowd = crowding(scene.sigma, sites.peaks, lone_volume(scene.evidence.pairs))
    is_strong = (sites.peaks.height >= _ION_SIGMA) & (sites.share * sites.n_copies >= _LEAST_ION_SHARE)
    is_strong &= crowd < 4
    for row, ion in enumerate(ions):
        fit = ion_fit(ion, place, scene.whole, _with_mates(sites.all_places, scene.mates))
        bound[row] = fit.n_bound
        cost[row] = torch.where(is_strong & fit.is_possible, fit.deviation_angstrom, torch.inf)
    best = cost.amin(0)
    chosen = torch.nonzero(torch.isfinite(best)).squeeze(1)
    names = [ions[int(cost[:, k].argmin())] for k in chosen.tolist()]
    counts = [int(bound[int(cost[:, k].argmin()), k]) for k in chosen.tolist()]
    return _placed(scene, sites, chosen, names, counts, chain, first_number)


def place_waters(scene: Scene, chain: str, criteria: WaterCriteria = WaterCriteria()) -> Solvent:  # noqa: B008 (frozen)
    """Waters, bound to atoms of the model or to such waters."""
    sites = _sites(scene)
    if not len(sites.peaks):
        return Solvent(scene, ())
    crowd = crowding(scene.sigma, sites.peaks, lone_volume(scene.evidence.pairs))
    share = sites.share * sites.n_copies
    chosen, _ = waters(sites.peaks, share, sites.half_sigma, crowd, scene.whole, criteria)
    return _placed(scene, sites, chosen, ["HOH"] * len(chosen), [None] * len(chosen), chain, 1)


def _with_mates(places: Tensor, mates: Mates | None) -> Tensor:
    return places if mates is None or len(mates) == 1 else mates.of(places).reshape(-1, 3)


def _placed(
    scene: Scene,
    sites: _Sites,
    chosen: Tensor,
    names: Sequence[str],
    n_coordinated: Sequence[int | None],
    chain: str,
    first_number: int,
) -> Solvent:
    if not len(chosen):
        return Solvent(scene, ())
    place = sites.peaks.place_angstrom[chosen]
    n = len(chosen)
    residues = tuple(Residue(chain, name, first_number + i) for i, name in enumerate(names))
    atoms = tuple("O" if name == "HOH" else name for name in names)
    copies = sites.n_copies[chosen]
    added = AtomicModel(
        residues, torch.arange(n), atoms, atoms, place.double(), torch.full((n,), scene.b_factor_angstrom2),
        1 / copies.float(),
    )  # fmt: skip
    around = surroundings(place, scene.whole)
    rows = []
    for row, k in enumerate(chosen.tolist()):
        atom = int(around.nearest_polar[row])
        distance = float(around.nearest_polar_angstrom[row])
        z, y, x = place[row].tolist()
        weight = 1.0 if names[row] == "HOH" else _relative(names[row], scene.resolution_angstrom)
        rows.append(
            PlacedResidue(
                kind="water" if names[row] == "HOH" else "ion",
                chain=chain, number=first_number + row, name=names[row], place_angstrom=(z, y, x),
                sigma=round(float(sites.peaks.height[k]), 2), share=round(float(sites.share[k]) / weight, 3),
                half_sigma=None if sites.half_sigma is None else round(float(sites.half_sigma[:, k].min()), 2),
                neighbour="another water" if atom < 0 else _atom_words(scene, atom),
                distance_angstrom=round(distance, 2) if atom >= 0 else None, n_coordinated=n_coordinated[row],
            )
        )  # fmt: skip
    return Solvent(with_added(scene, added), tuple(rows))


def _relative(ion: str, resolution_angstrom: float) -> float:
    element = ion if ion in ("MG", "CA", "MN", "FE", "CU", "ZN", "CL") else "ZN" if ion in ("CO", "NI") else "MG"
    return element_weight(element, 0, resolution_angstrom) / element_weight("O", 2, resolution_angstrom)


def _atom_words(scene: Scene, atom: int) -> str:
    return f"{scene.whole.residues[int(scene.whole.residue[atom])]} {scene.whole.names[atom]}"


def likely_ions(scene: Scene, places: Tensor) -> list[str]:
    """Of each place (place, 3), the ions whose coordination its surroundings have, the best first."""
    if not len(places):
        return []
    found: list[list[tuple[float, str]]] = [[] for _ in places]
    for ion in COORDINATION:
        fit = ion_fit(ion, places, scene.whole, places)
        for k in torch.nonzero(fit.is_possible).squeeze(1).tolist():
            found[k].append((float(fit.deviation_angstrom[k]), ion))
    return [", ".join(ion for _, ion in sorted(some)[:3]) for some in found]


def leftover_peaks(scene: Scene, least_sigma: float, n: int) -> Peaks:
    """The highest peaks of the unit that nothing stands in."""
    sites = _sites(scene)
    return sites.peaks.take(torch.nonzero(sites.peaks.height >= least_sigma).squeeze(1)[:n])
