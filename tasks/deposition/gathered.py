"""All that a deposition says, from the session and from the depositor, or what is missing of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.deposition.exposures import Imaging, SessionFacts, session_facts
from tasks.deposition.information import MissingInformationError, read_information
from tasks.deposition.lineage import (
    MapLineage,
    ModelLineage,
    find_map,
    find_model,
    is_of_this_map,
    map_lineage,
    model_lineage,
)
from tasks.deposition.names import country_name, detector_name, microscope_name
from tasks.deposition.params import DepositStructureParams
from tasks.formats.pdbx import PdbxModel, pdbx_model
from tasks.records.deposition import DepositionFile, Instrument
from tasks.stores.session_store import SessionStore

_SHOWN_LETTERS = 12


@dataclass(frozen=True)
class NamedImaging:
    """Exposures that were recorded alike, with instruments as the archives name them."""

    imaging: Imaging
    n_exposures: int
    microscope: str
    detector: str
    dose_electrons_per_angstrom2: float


@dataclass(frozen=True, eq=False)
class Gathered:
    """What is deposited."""

    entry_id: str
    told: DepositionFile
    facts: SessionFacts
    imaging: tuple[NamedImaging, ...]
    map: MapLineage
    model: ModelLineage | None
    pdbx: PdbxModel | None
    """The model with its whole sequences; None where only a map is deposited."""


def gather(store: SessionStore, path: Path, params: DepositStructureParams) -> Gathered:
    """Everything for the bundle.

    Raises
    ------
    MissingInformationError
        With all that is missing or wrong, in the session and in the depositor's file at ``path``.
    """
    information = read_information(path)
    told, problems = information.told, list(information.problems)
    wanted = params.has_pdb or params.model is not None
    name = find_model(store, params.model) if wanted else None
    model = None if name is None else model_lineage(store, name)
    if wanted and model is None:
        which = f"models/{params.model}" if params.model else "finished model"
        problems.append(
            f"model: the session has no {which}; run `vitriflow model --session {store.url}`, or leave the PDB out with"
            " `--no-pdb`"
        )
    map_name = find_map(store, params.map, model)
    density = None if map_name is None else map_lineage(store, map_name)
    problems += _map_problems(store, density, model, params)
    facts = session_facts(store)
    if params.has_empiar and not facts.n_exposures:
        problems.append(
            "EMPIAR: the session has no exposures, only a map of another program; leave EMPIAR out with `--no-empiar`"
        )
    if params.has_empiar and facts.n_exposures and "particles" in params.image_sets and facts.n_particles is None:
        problems.append(
            "EMPIAR: the session has no particles/refined; process it to the end, or deposit movies alone with"
            " `--images movies`"
        )
    pdbx = None if model is None else pdbx_model(model.mmcif, f"models/{model.name}", model.sequences)
    problems += _instrument_problems(information.instrument, facts)
    problems += _molecule_problems(information.n_molecules, pdbx)
    if told is not None:
        problems += _told_problems(told)
    if problems or told is None or density is None:
        raise MissingInformationError(str(path), problems)
    imaging = tuple(_named(told, group, n) for group, n in facts.groups or [(_told_imaging(told, density), 0)])
    return Gathered(_entry_id(store), told, facts, imaging, density, model, pdbx)


def _entry_id(store: SessionStore) -> str:
    return "".join(c if c.isalnum() else "_" for c in store.session.name).upper()


def _map_problems(
    store: SessionStore, density: MapLineage | None, model: ModelLineage | None, params: DepositStructureParams
) -> list[str]:
    if density is None:
        which = f"maps/{params.map}" if params.map else "map"
        return [f"map: the session has no {which}; process it to the end, or import a map with its half maps"]
    found = []
    if density.halves is None:
        found.append(
            f"half maps: maps/{density.name} has none, and EMDB takes no map without; import it again with `vitriflow"
            " model --map … --half1 … --half2 …`"
        )
    if density.part is not None and density.part.is_alone and params.has_empiar and "particles" in params.image_sets:
        found.append(
            f"EMPIAR: maps/{density.name} is that of a part alone, and particles are deposited with the poses of the"
            " whole; deposit the map in which it stands (`--map joined`), or movies alone with `--images movies`, or"
            " leave EMPIAR out with `--no-empiar`"
        )
    if model is not None and not is_of_this_map(store, model, density.name):
        found.append(
            f"model: models/{model.name} was built in another maps/{density.name} than the one that is there now; run"
            f" `vitriflow model --session {store.url}` again"
        )
    if model is not None and model.validation is None:
        found.append(
            f"validation: models/{model.name} was not judged as it is now; run `vitriflow model --session {store.url}`"
        )
    return found


def _instrument_problems(given: Instrument, facts: SessionFacts) -> list[str]:
    """Of instruments and dose, which are told by the session or by the depositor, never by both and differently."""
    found = []
    groups = [group for group, _ in facts.groups]
    for what, names, own in (
        ("microscope", {g.microscope: microscope_name(g.microscope) for g in groups}, given.microscope),
        ("detector", {g.detector: detector_name(g.detector) for g in groups}, given.detector),
    ):
        for said, name in names.items() or {None: None}.items():
            if name is None and own is None:
                files = f"the session's files call it {said!r}" if said else "the session's files do not tell it"
                found.append(f"instrument.{what}: {files}; write `{what}: …` below `instrument:`")
            elif name is not None and own is not None and name != own:
                found.append(
                    f"instrument.{what}: found {own!r}, but the session's files say {name!r}; remove `{what}:` below"
                    " `instrument:`"
                )
    doses = {g.dose_electrons_per_angstrom2 for g in groups} or {None}
    own_dose = given.dose_electrons_per_angstrom2
    if None in doses and own_dose is None:
        found.append(
            "instrument.dose_electrons_per_angstrom2: the session does not tell the dose of an exposure; write"
            " `dose_electrons_per_angstrom2: …` below `instrument:`"
        )
    for name in () if groups else ("voltage_kv", "spherical_aberration_mm", "n_particles"):
        if getattr(given, name) is None:
            found.append(
                f"instrument.{name}: the session has a map of another program and no exposures; write `{name}: …` below"
                " `instrument:`"
            )
    known = [dose for dose in doses if dose is not None]
    if own_dose is not None and any(abs(dose / own_dose - 1) > 0.02 for dose in known):
        found.append(
            f"instrument.dose_electrons_per_angstrom2: found {own_dose:g}, but the session's exposures have"
            f" {', '.join(f'{dose:g}' for dose in known)}; remove it below `instrument:`"
        )
    return found


def _told_problems(told: DepositionFile) -> list[str]:
    found = []
    for place, code in [
        ("contact.country", told.contact.country),
        ("principal_investigator.country", told.principal_investigator.country),
        *((f"grants[{i}].country", grant.country) for i, grant in enumerate(told.grants, start=1)),
    ]:
        if country_name(code) is None:
            found.append(f"{place}: found {code!r}, which is no country; write its two letters of ISO 3166")
    if (told.sample.expression_host is None) != (told.sample.expression_host_taxonomy_id is None):
        lacking = "expression_host" if told.sample.expression_host is None else "expression_host_taxonomy_id"
        found.append(f"sample.{lacking}: is missing beside the other one; write `{lacking}: …` below `sample:`")
    return found


def _molecule_problems(n_molecules: int, pdbx: PdbxModel | None) -> list[str]:
    polymers = [entity for entity in pdbx.entities if entity.is_polymer] if pdbx is not None else []
    if pdbx is not None and n_molecules != len(polymers):
        listing = "; ".join(
            f"{i}: {one.letters[:_SHOWN_LETTERS]}… ({len(one.letters)} residues, chain {', '.join(one.chains)})"
            for i, one in enumerate(polymers, start=1)
        )
        return [
            f"sample.molecules: found {n_molecules} entries, expected one for each of {listing}; write `- name: …` for"
            " each of them below `molecules:` of `sample:`"
        ]
    return []


def _told_imaging(told: DepositionFile, density: MapLineage) -> Imaging:
    """Of a map of another program."""
    given = told.instrument
    assert given.voltage_kv is not None and given.spherical_aberration_mm is not None
    return Imaging(
        given.voltage_kv, given.spherical_aberration_mm, density.about.pixel_size_angstrom, 0,
        given.dose_electrons_per_angstrom2, None, None, None, None, None, None, None,
    )  # fmt: skip


def _named(told: DepositionFile, group: Imaging, n_exposures: int) -> NamedImaging:
    microscope = microscope_name(group.microscope) or told.instrument.microscope
    detector = detector_name(group.detector) or told.instrument.detector
    dose = group.dose_electrons_per_angstrom2 or told.instrument.dose_electrons_per_angstrom2
    assert microscope is not None and detector is not None and dose is not None
    return NamedImaging(group, n_exposures, microscope, detector, dose)
