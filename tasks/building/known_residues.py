"""What the network told of a map, kept in the store: asked once, and read by all rounds that come after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import torch

from kernels.maps.grid import DensityGrid
from kernels.models.asymmetric_unit import everywhere, one_of_each, unit_of_map
from kernels.models.detections import ProteinDetections
from kernels.models.mates import Mates
from tasks.building.detector import digest_of_weights, residue_networks
from tasks.records.session import StageParams
from tasks.stores.commit import fingerprint
from tasks.stores.session_store import SessionStore

N_TURNS = 4
"""Orientations in which stages show the network a map, where they are not told another number."""
_MARGIN_ANGSTROM = 10.0
"""Around a model, of what the copies of a symmetric map show beside its unit."""
_STAGE, _VERSION = "build_model", 1
_FIELDS = tuple(field.name for field in fields(ProteinDetections))


class Question(StageParams):
    """How the network was asked."""

    weights: str
    """Digest of them."""
    n_turns: int


def question(weights: str | None, n_turns: int = N_TURNS) -> Question:
    """That is asked with these weights; None for those that come with the project."""
    return Question(weights=digest_of_weights(weights), n_turns=n_turns)


def kept_residues(
    store: SessionStore, name: str, maps: list[str], asked: Question, look: Callable[[], ProteinDetections]
) -> ProteinDetections:
    """Residues that the network finds in a map, ``detections/<name>``: read, or looked for and kept.

    Parameters
    ----------
    maps
        Addresses of the products that the map is made from; where one of them is another, the network is asked anew.
    """
    product, inputs = store.product(f"detections/{name}"), store.fingerprints(maps)
    if is_known(store, name, maps, asked):
        reader = product.read()
        return ProteinDetections(*(torch.from_numpy(reader[field]) for field in _FIELDS))
    found = look().on_cpu()
    with product.write(_STAGE, _VERSION, asked, inputs) as attempt:
        for field in _FIELDS:
            attempt.write(field, getattr(found, field).numpy())
        attempt.figures["n_candidates"] = len(found)
    return found


def is_known(store: SessionStore, name: str, maps: list[str], asked: Question) -> bool:
    """Whether `kept_residues` would read what it is asked for."""
    record, inputs = store.product(f"detections/{name}").record(), store.fingerprints(maps)
    current = fingerprint(_STAGE, _VERSION, asked, inputs)
    return record is not None and record.is_current(current) and record.expired is None


def residues_around(
    store: SessionStore,
    name: str,
    maps: list[str],
    grid: DensityGrid,
    mates: Mates,
    places_angstrom: torch.Tensor,
    weights: str | None,
) -> ProteinDetections:
    """Candidates of a map, on the CPU; of a symmetric one, those of its unit and of the copies near some places (n, 3).

    Parameters
    ----------
    name, maps
        As in `kept_residues`.
    grid
        The map that the network is shown where it was not asked before.
    """

    def look() -> ProteinDetections:
        networks = residue_networks(weights)
        if len(mates) == 1:
            return networks.detect(grid, N_TURNS).protein
        unit = unit_of_map(grid, mates)
        return networks.detect(unit.grid, N_TURNS, is_wanted=unit.holds).protein

    found = kept_residues(store, name, maps, question(weights), look)
    if len(mates) == 1:
        return found
    return everywhere(one_of_each(found, mates), mates, places_angstrom, _MARGIN_ANGSTROM)
