"""A model bent into a map: soft motions of its elastic network first, then every residue, at falling blur."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel
from kernels.models.carried_atoms import carried
from kernels.models.density_match import DensityMatch, density_match
from kernels.models.elastic_network import ElasticNetwork, elastic_network, normal_modes, rigid_motions
from kernels.models.map_likelihood import scattering_strength
from kernels.models.residue_places import places_of_residues

_BLUR_STEP = 0.74
"""From one resolution that is gone through to the next finer one."""
_REACH_ANGSTROM = 15.0
"""How far from where they start atoms may be drawn."""
_N_MODES = 12
_MODE_ROUNDS, _FREE_ROUNDS = 3, 2
"""Of each blur; atoms are turned with their surroundings, and modes told anew, between them."""
_STEPS = 12


@dataclass(frozen=True)
class Bending:
    """What a fit may do."""

    density: float = 30.0
    """Weight of the map: the energy of a residue that is explained in full; that of a contact is 1 / Å²."""
    n_modes: int = _N_MODES
    coarsest_angstrom: float = 10.0
    """Blur to begin with: the coarser, the further off density is felt, that of other molecules too"""


@dataclass(frozen=True, eq=False)
class Bent:
    """A model after a flexible fit."""

    model: AtomicModel
    places_angstrom: Tensor
    """(residue, 3) of its residues"""
    strain_angstrom: Tensor
    """(residue,) root mean square change of distances to residues nearby"""
    correlation: float
    """With the map at its resolution, where the model stood at first; before and after are comparable"""
    correlation_before: float


def bent(
    model: AtomicModel,
    grid: DensityGrid,
    resolution_angstrom: float,
    error_angstrom: Tensor | None = None,
    bending: Bending = Bending(),
    start_angstrom: Tensor | None = None,
    others: AtomicModel | None = None,
) -> Bent:
    """Bend a model that lies in its map roughly.

    Parameters
    ----------
    model
        Heavy atoms; hydrogens are carried along and count for nothing.
    error_angstrom
        (residue, residue) predicted aligned error; what is sure stays stiff.
    start_angstrom
        (residue, 3) of `places_of_residues`, where an earlier fit has left them; the springs are at rest in the model.
    others
        What else the map shows beside the model, which stays where it is: without it the model is drawn there.

    Raises
    ------
    ValueError
        Where the map has no density at the model, or the model lies outside of the map.

    Memory: that of `density_match`, that of `normal_modes`, and 1 kB an atom.

    Source
    ------
    Tama, Miyashita & Brooks 2004, J. Mol. Biol. 337:985 (normal modes in maps); Schröder, Brunger & Levitt 2007,
    Structure 15:1630 (elastic network that holds what the map does not tell).
    """
    rest = places_of_residues(model)
    network = elastic_network(rest, model.is_linked(), error_angstrom)
    places = rest if start_angstrom is None else start_angstrom.double()
    weights = _weights(model)
    known = None if others is None else (others.coordinates_angstrom, _weights(others))
    for blur in blurs(bending.coarsest_angstrom, resolution_angstrom):
        atoms = carried(model, network, places)
        match = density_match(grid, atoms, weights, blur, _REACH_ANGSTROM, known)
        for _ in range(_MODE_ROUNDS):
            places = _along_modes(model, network, match, places, bending)
        for _ in range(_FREE_ROUNDS):
            places = _freely(model, network, match, places, bending)
    final = density_match(grid, model.coordinates_angstrom, weights, resolution_angstrom, _REACH_ANGSTROM, known)
    atoms = carried(model, network, places)
    before, after = (_correlation(final, some) for some in (model.coordinates_angstrom, atoms))
    return Bent(model.at(atoms), places, network.strain_angstrom(places), after, before)


def _weights(model: AtomicModel) -> Tensor:
    return scattering_strength(model) * torch.tensor([e not in ("H", "D") for e in model.elements])


def blurs(coarsest_angstrom: float, resolution_angstrom: float) -> list[float]:
    """Resolutions from coarse to fine, the map's own last."""
    found = [max(coarsest_angstrom, resolution_angstrom)]
    while found[-1] > resolution_angstrom:
        finer = found[-1] * _BLUR_STEP
        found.append(finer if finer > resolution_angstrom / _BLUR_STEP**0.5 else resolution_angstrom)
    return found


def _correlation(match: DensityMatch, atoms: Tensor) -> float:
    shown, seen = match.density(atoms), match.grid.voxels
    return float((shown * seen).sum() / (shown.norm() * seen.norm()).clamp(min=1e-20))


def _energy(
    model: AtomicModel, network: ElasticNetwork, match: DensityMatch, bending: Bending
) -> Callable[[Tensor], Tensor]:
    weight = bending.density * model.n_residues

    def energy(places: Tensor) -> Tensor:
        return network.energies(places).sum() - weight * match(carried(model, network, places))

    return energy


def _along_modes(
    model: AtomicModel, network: ElasticNetwork, match: DensityMatch, places: Tensor, bending: Bending
) -> Tensor:
    """Places after a step along the softest modes of the conformation at hand."""
    modes = normal_modes(network.at(places), bending.n_modes)
    directions = torch.cat([rigid_motions(places), modes.directions])

    def at(amplitude: Tensor) -> Tensor:
        return places + torch.einsum("m,mnd->nd", amplitude, directions)

    return at(_descended(lambda a: _energy(model, network, match, bending)(at(a)), torch.zeros(len(directions))))


def _freely(
    model: AtomicModel, network: ElasticNetwork, match: DensityMatch, places: Tensor, bending: Bending
) -> Tensor:
    """Places after a step of each of them."""
    return _descended(_energy(model, network, match, bending), places)


def _descended(energy: Callable[[Tensor], Tensor], start: Tensor) -> Tensor:
    """Where L-BFGS comes to from a start."""
    unknown = start.double().clone().requires_grad_()
    optimizer = torch.optim.LBFGS([unknown], max_iter=_STEPS, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = energy(unknown)
        value.backward()
        return value

    optimizer.step(closure)
    return unknown.detach()
