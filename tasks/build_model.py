"""Find the chains of a map, de novo: residues found by a network, traced, threaded; `refine_model` adds all atoms."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, model_validator

from kernels.maps.grid import DensityGrid
from kernels.models.atomic_model import AtomicModel, joined
from kernels.models.mates import Mates
from kernels.models.polymers import NUCLEIC_ACID, PROTEIN
from tasks.building.build_chains import BuiltProtein, build_chains
from tasks.building.build_nucleic_chains import BuiltNucleicAcid, build_nucleic_chains
from tasks.building.chain_names import NoChainError
from tasks.building.compact_unit import is_apart_from_mates
from tasks.building.competition import nucleotides_beside_protein, residues_beside
from tasks.building.detector import cost_of_looking, digest_of_weights, residue_networks
from tasks.building.elements import topology_lines, traced_elements
from tasks.building.find_residues import FoundResidues, find_residues, require_symmetry
from tasks.building.known_residues import N_TURNS, kept_residues, question
from tasks.building.part_anew import part_anew
from tasks.building.sequences import require_letters, sequences_of
from tasks.rebuilding.maps import first_half_like
from tasks.rebuilding.windows import require_same_residues
from tasks.records.forecast import Need
from tasks.records.session import StageParams, StageReport
from tasks.stores.commit import Attempt
from tasks.stores.products.map_store import density_map, halves_of, map_sizes, masked_grid
from tasks.stores.products.model_store import read_model, write_model
from tasks.stores.products.validation_store import read_validation
from tasks.stores.session_store import SessionStore
from tasks.workers.stage import SkipItem, Stage, run_stage

logger = logging.getLogger(__name__)

_PRODUCT = "models/built"
_BESIDE, _IN = " beside ", " in "
"""Between what is made, the model that is kept around it and the map in an item."""
_HALF = " half_1 masked"
"""After the name of a map, in that of what the network tells of its first half inside of the mask."""
_IN_REGISTER = 0.5
_MARGIN_ANGSTROM = 2.0
_USUAL_RESOLUTION_ANGSTROM = 3.0
"""Of a map whose record tells none."""


class BuildModelParams(StageParams):
    """Parameters of `build_model`."""

    map: str = "sharpened"
    """Name of the map in the store."""
    round: int | None = Field(default=None, ge=1)
    """Where this is a round of rebuilding: then the model is called ``rebuilt-<round>``, and built in the first half of
    the map, so that the second one can compare rounds."""
    kept: str | None = None
    """Name of a validated model whose trusted backbone stays what it is outside of `mask`."""
    mask: str | None = None
    """Address of the mask around what is built anew beside it, a product and its array, on the voxels of the map."""
    sequences: tuple[str, ...] = ()
    """One-letter codes of proteins, RNA and DNA, told apart as by `tasks.building.sequences.told_kind`; what has none
    here is not built. Without any, proteins and nucleic acids are, and residues get their likeliest types."""
    structures: tuple[str, ...] = ()
    """Known or predicted secondary structures of chains, a letter a residue (H helix, E strand): elements of the map
    are matched to them."""
    copies: tuple[int, ...] | None = None
    """How often each sequence is there, of a symmetric map in one unit; None where that is not known."""
    least_confidence: float = Field(default=0.2, ge=0, le=1)
    """Candidates of the network below it are not traced; where too many crowd to be traced in time, the least sure ones
    are left out as well, and ``least_confidence_traced`` in the record tells down to which."""
    least_nucleotide_confidence: float = Field(default=0.05, ge=0, le=1)
    """The same for nucleotides: many are tried, since their density decides."""
    n_turns: int = Field(default=N_TURNS, ge=1, le=24)
    """Orientations in which the network is shown the map."""
    weights: str | None = None
    """Weights of a network that was trained elsewhere; None for those that come with the project."""

    @model_validator(mode="after")
    def _kept_and_mask_together(self) -> BuildModelParams:
        if (self.kept is None) != (self.mask is None):
            raise ValueError(
                f"found kept = {self.kept!r} and mask = {self.mask!r}, expected both or none: a model is kept outside"
                " of a mask; give the other one, or leave both out to build the whole map"
            )
        return self


class _AskedParams(BuildModelParams):
    """With what the network's weights are, so that a model is built anew by one that has learnt more."""

    digest: str


@task(name="build_model", cache_policy=NO_CACHE)
def build_model(session_url: str, params: BuildModelParams) -> StageReport:
    """``models/built``, or the model of a round, from a map; B-factors 100 times the confidence. Memory: see `_needs`.

    N, CA, C and O of proteins, all heavy atoms of nucleic acids. Of a map with symmetry one asymmetric unit is built,
    of proteins only; the file says that its copies make up the assembly.
    """
    asked = _AskedParams(digest=digest_of_weights(params.weights), **params.model_dump())
    made = "built" if params.round is None else f"rebuilt-{params.round}"
    beside = "" if params.kept is None else f"{_BESIDE}{params.kept}"
    return run_stage(session_url, _building, [f"models/{made}{beside}{_IN}{params.map}"], asked)


def _inputs(store: SessionStore, item: str) -> list[str]:
    made, _, density = item.rpartition(_IN)
    kept = made.partition(_BESIDE)[2]
    return [*_maps(store, made, density), *([f"models/{kept}", f"validations/{kept}"] if kept else [])]


def _maps(store: SessionStore, made: str, density: str) -> list[str]:
    """Addresses of those that the network is shown."""
    halves = None if made == _PRODUCT else halves_of(store, density)
    return [f"maps/{name}" for name in dict.fromkeys((density, halves)) if name]


def _address(item: str) -> str:
    return item.partition(_BESIDE)[0].partition(_IN)[0]


def _build(store: SessionStore, item: str, params: BuildModelParams, attempt: Attempt) -> None:
    grid, shown = _built_in(store, params)
    symmetry = density_map(store, params.map).symmetry
    mates = Mates.about(symmetry, grid)
    networks = residue_networks(params.weights)
    try:
        require_letters(params.sequences)  # before the network is asked, which takes a while
        require_symmetry(grid, mates, symmetry)
        found = find_residues(networks, grid, mates, params.n_turns, params.least_confidence)
        asked = question(params.weights, params.n_turns)
        kept_residues(store, shown, _maps(store, _address(item), params.map), asked, lambda: found.looked_at)
        nucleic = _nucleic_acid(store, found, grid, params)
        protein = _protein(found, nucleic, params)
    except ValueError as error:
        raise SkipItem(f"maps/{params.map}: {error}") from error
    parts = [part for part in (protein, nucleic) if part is not None]
    whole = joined([part.model for part in parts])
    is_inside = _is_inside(whole, grid)
    is_apart = is_apart_from_mates(whole, mates) if len(mates) > 1 else torch.ones_like(is_inside)
    model = whole.take_residues(is_inside & is_apart)
    if params.kept is not None and params.mask is not None:
        product, _, array = params.mask.rpartition("/")
        mask = grid.with_voxels(torch.from_numpy(store.product(product).read()[array]))
        kept = read_model(store, params.kept)
        found_of_kept = read_validation(store, params.kept)
        require_same_residues(kept, found_of_kept)
        # by regions: in a blurred map what is built in place of a single doubtful residue is no better
        is_trusted = torch.tensor([row.verdict == "trust" for row in found_of_kept.residues], dtype=torch.bool)
        model = part_anew(kept, is_trusted, model, mask)
    write_model(attempt, model, _address(item).removeprefix("models/"), mates)
    traced = traced_elements(model, found.structure_at)
    elements = traced.records()
    attempt.details["elements"] = [element.model_dump(mode="json") for element in elements]
    attempt.details["topology"] = topology_lines(traced, params.structures)
    attempt.details["chains"] = [str(chain) for part in parts for chain in part.chains]
    attempt.details["base_pairs"] = [] if nucleic is None else nucleic.pair_names()
    attempt.figures.update(
        n_candidates=0 if protein is None else len(found.candidates),
        n_nucleotides=int((model.base >= 0).sum()),
        n_base_pairs=0 if nucleic is None else len(nucleic.pairs),
        symmetry=symmetry,
        n_in_copies=int((~is_apart).sum()),
        n_cut_off=int((~is_inside).sum()),
        n_in_register=sum(int((part.register_probability > _IN_REGISTER).sum()) for part in parts),
        n_helices=sum(element.kind == "helix" for element in elements),
        n_strands=sum(element.kind == "strand" for element in elements),
        mean_confidence=round(float(torch.cat([part.confidence for part in parts]).mean()), 3),
    )
    crowded = [part.least_confidence for part in parts if part.least_confidence is not None]
    if crowded:
        attempt.figures["least_confidence_traced"] = round(max(crowded), 3)


def _built_in(store: SessionStore, params: BuildModelParams) -> tuple[DensityGrid, str]:
    """The map, or in a round its first half filtered as it is; and the name of what the network tells of it."""
    half = None if params.round is None else first_half_like(store, params.map, halves_of(store, params.map))
    return masked_grid(store, params.map, half), params.map if half is None else f"{params.map}{_HALF}"


def _nucleic_acid(
    store: SessionStore, found: FoundResidues, grid: DensityGrid, params: BuildModelParams
) -> BuiltNucleicAcid | None:
    """Nucleic acids, where sequences ask for them or there are none at all; None where the map shows none."""
    sequences, copies = sequences_of(NUCLEIC_ACID, params.sequences, params.copies)
    if params.sequences and not sequences:
        return None
    if found.detected is None:
        if sequences:
            raise ValueError(
                "nucleic acids are not built in maps with symmetry, and sequences of RNA or DNA are given; leave them"
                " out, or import the map with symmetry C1"
            )
        return None
    seen = found.detected.nucleic.surest(params.least_nucleotide_confidence)
    candidates = nucleotides_beside_protein(found.detected, seen).on_cpu()
    resolution = density_map(store, params.map).resolution_angstrom or _USUAL_RESOLUTION_ANGSTROM
    try:
        return build_nucleic_chains(candidates, grid, resolution, sequences, copies)
    except NoChainError:
        if sequences:
            raise
        return None


def _protein(found: FoundResidues, nucleic: BuiltNucleicAcid | None, params: BuildModelParams) -> BuiltProtein | None:
    """Proteins, in what nucleic acids leave; None where only nucleic acids are asked for, or found."""
    sequences, copies = sequences_of(PROTEIN, params.sequences, params.copies)
    if params.sequences and not sequences:
        return None
    candidates, n_before = found.candidates, 0
    if nucleic is not None:
        candidates, n_before = residues_beside(nucleic.model, candidates), len(nucleic.chains)
    try:
        return build_chains(candidates, sequences, copies, found.density_at, first_name=n_before)
    except NoChainError:
        if sequences or nucleic is None:
            raise
        return None


def _is_inside(model: AtomicModel, grid: DensityGrid) -> torch.Tensor:
    """(residue,) whether it stands well inside of the map: a cut-out ends in the middle of chains."""
    place = grid.to_voxels(model.coordinates_angstrom)
    margin = _MARGIN_ANGSTROM / grid.voxel_size_angstrom
    last = torch.tensor(grid.voxels.shape) - 1
    is_out = ((place < margin) | (place > last - margin)).any(-1)
    inside = torch.ones(model.n_residues, dtype=torch.bool)
    inside[model.residue[is_out]] = False
    return inside


def _needs(store: SessionStore, _items: Sequence[str], params: BuildModelParams) -> Need:
    sizes = map_sizes(store, params.map)
    bytes_of_network, seconds_of_network = cost_of_looking(sizes.sides_angstrom, params.n_turns, sizes.n_copies)
    return Need(
        stage=_building.name,
        n_items=1,
        memory_bytes=bytes_of_network + (40 if params.round is None else 80) * sizes.n_voxels,
        disk_bytes=10_000_000,
        cpu_seconds=3 + seconds_of_network + 2e-5 * math.prod(sizes.sides_angstrom) / sizes.n_copies,
        told_from=sizes.words,
        remedy="cut the map out around the molecule",
    )


_building = Stage("build_model", 4, "GPU", _build, _inputs, _address, _needs)
