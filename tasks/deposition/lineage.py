"""What a session knows of its map and model, walked back from them through the records of the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.building.sequences import told_kind
from tasks.records.density_map import DensityMap
from tasks.records.model import ModelValidation
from tasks.records.prediction import PredictionSource
from tasks.session_files.exposures import is_done
from tasks.stores.commit import Record
from tasks.stores.products.map_store import density_map, halves_of, read_map
from tasks.stores.products.model_store import mmcif_bytes
from tasks.stores.products.validation_store import read_validation
from tasks.stores.session_store import SessionStore

_MODELS = ("placed", "chosen")
_MAPS = ("flipped", "sharpened", "imported", "refined")
"""Never ``joined``: it is that of a model that was fitted to it, and of no other."""
_FROM_STRUCTURES = ("predict_structure", "dock_model", "merge_models")


@dataclass(frozen=True)
class PartLineage:
    """A part of the particles that was refined by itself, around which a mask lies."""

    name: str
    record: Record
    """Of its map."""
    is_alone: bool
    """Whether the map is that of the part; of the whole, in which the part stands, otherwise."""

    @property
    def words(self) -> str:
        """What was done, and what came of it."""
        figures = self.record.figures
        after, before = (figures.get(of) for of in ("resolution_angstrom", "whole_resolution_angstrom"))
        reached = f"{after:.2f} A in its mask" if isinstance(after, float) else "no resolution in its mask"
        was = f"{before:.2f} A" if isinstance(before, float) else "none"
        joined = "" if self.is_alone else ", and joined with the map of the whole, half map by half map"
        return (
            f"a part (map {self.name!r}) was refined by itself, the rest subtracted from the particles ({reached},"
            f" {was} in the map of the whole){joined}"
        )


@dataclass(frozen=True)
class MapLineage:
    """A map, the halves that it was made from, and how well they agree."""

    name: str
    about: DensityMap
    halves: str | None
    """Name of the map that has them; None where there are none."""
    refined: Record | None
    """Of the refinement that they come from; None for a map of another program."""
    b_factor_angstrom2: float | None
    """That it was sharpened with."""
    is_mirrored: bool
    """Whether it is the inverse of what the poses of the particles give."""
    curves: str | None
    """Name of the map with the shell correlations of these halves; None where they are to be made."""
    part: PartLineage | None
    """That was refined by itself, and stands in this map or is it; None of a map that is of one piece."""
    sources: tuple[str, ...]
    """Addresses of what else it was made from: of a part, the other maps and the particles."""


@dataclass(frozen=True)
class ModelLineage:
    """A model and what made it."""

    name: str
    mmcif: bytes
    record: Record
    ancestors: tuple[Record, ...]
    """Of all models that it came from, itself first."""
    validation: ModelValidation | None
    """None where this very model was not judged."""

    @property
    def sequences(self) -> tuple[str, ...]:
        """One-letter codes that it was built from, without what they are in front."""
        for record in self.ancestors:
            if found := record.params.get("sequences"):
                return tuple(dict.fromkeys(told_kind(one)[1] for one in found))
        return ()

    @property
    def refinement(self) -> Record | None:
        """Of the last refinement that made it."""
        rounds = [r for r in self.ancestors if r.stage == "refine_model"]
        return max(rounds, key=lambda r: r.written_at, default=None)

    @property
    def refining_program(self) -> str | None:
        """Of the reciprocal-space refinement, with its version; None where there was none."""
        refinement = self.refinement
        said = refinement.figures.get("program") if refinement else None
        return None if said is None else str(said)

    @property
    def is_de_novo(self) -> bool:
        """Whether no predicted or known structure went into it."""
        return not any(r.stage in _FROM_STRUCTURES for r in self.ancestors)

    @property
    def predictions(self) -> tuple[PredictionSource, ...]:
        """Who made the predicted structures that went into it: the best of each run."""
        runs = [r.details.get("predictions") for r in self.ancestors if r.stage == "predict_structure"]
        return tuple(PredictionSource.model_validate(run[0]["source"]) for run in runs if run)


def find_model(store: SessionStore, name: str | None) -> str | None:
    """The model that is deposited: the one of that name, or the last of those that a session ends with."""
    if name is not None:
        return name if is_done(store, f"models/{name}") else None
    return next((one for one in _MODELS if is_done(store, f"models/{one}")), None)


def model_lineage(store: SessionStore, name: str) -> ModelLineage:
    """A model of the store with what it came from."""
    record = store.product(f"models/{name}").done_record(f"model {name!r}")
    found = tuple(_ancestors(store, f"models/{name}", set()))
    judged = store.product(f"validations/{name}").record_if_done()
    is_judged = judged is not None and judged.inputs.get(f"models/{name}") == record.fingerprint
    return ModelLineage(
        name, mmcif_bytes(store, name), record, found, read_validation(store, name) if is_judged else None
    )


def _ancestors(store: SessionStore, address: str, seen: set[str]) -> Iterator[Record]:
    record = store.product(address).record()
    if record is None or record.state != "done" or address in seen:
        return
    seen.add(address)
    yield record
    taken = record.figures.get("best_round") if record.stage == "choose_model" else None
    for source in record.inputs if taken is None else [f"models/{taken}"]:
        if source.startswith(("models/", "predictions/")):
            yield from _ancestors(store, source, seen)


def find_map(store: SessionStore, name: str | None, model: ModelLineage | None) -> str | None:
    """The map that is deposited: the one of that name, that of the model, or the session's last."""
    if name is not None:
        return name if is_done(store, f"maps/{name}") else None
    if model is not None:
        for record in model.ancestors:
            if record.stage == "choose_model":  # it names the newest map, not that of the round that was taken
                continue
            named = [str(record.params.get("map")), *(m for m in _MAPS if f"maps/{m}" in record.inputs)]
            if (found := next((one for one in named if is_done(store, f"maps/{one}")), None)) is not None:
                return found
    return next((one for one in _MAPS if is_done(store, f"maps/{one}")), None)


def map_lineage(store: SessionStore, name: str) -> MapLineage:
    """A map of the store with where its halves and its sharpening come from."""
    about, halves = density_map(store, name), halves_of(store, name)
    is_own = about.kind != "imported"
    refined = store.product("maps/refined").record_if_done() if is_own else None
    made = store.product(f"maps/{name}").done_record(f"map {name!r}")
    is_mirrored = made.stage == "flip_map" or bool(made.params.get("is_mirrored"))
    part = _part(store, name, made)
    sources = () if part is None else (*made.inputs, f"particles/{part.name}")
    with_curves = (name, "refined") if refined is not None and part is None else ()
    curves = next((one for one in with_curves if "fsc_curves" in read_map(store, one)), None)
    return MapLineage(name, about, halves, refined, about.b_factor_angstrom2, is_mirrored, curves, part, sources)


def _part(store: SessionStore, name: str, made: Record) -> PartLineage | None:
    if made.stage == "refine_part":
        return PartLineage(name, made, is_alone=True)
    if made.stage != "join_maps":
        return None
    of = str(made.params["part"])
    return PartLineage(of, store.product(f"maps/{of}").done_record(f"map {of!r}", "run refine_part"), is_alone=False)


def is_of_this_map(store: SessionStore, model: ModelLineage, name: str) -> bool:
    """Whether the model was made in the map that is there now, not in one that had its name before."""
    address = f"maps/{name}"
    then = next((record.inputs[address] for record in model.ancestors if address in record.inputs), None)
    now = store.product(address).record()
    return then is None or (now is not None and now.fingerprint == then)


def programs_of(records: Iterator[Record] | tuple[Record, ...]) -> str:
    """Versions of this program that wrote some records: ``0.1.0``, or several with commas."""
    versions = Counter(record.software.removeprefix("vitriflow").strip() for record in records if record.software)
    return ", ".join(sorted(version for version in versions if version))
