"""A session handed to the archives: a bundle for EMDB, the PDB and EMPIAR, filled from the store and checked."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.deposition.bundle import (
    DEPOSITION,
    MANIFEST,
    digests,
    new_bundle,
    next_folder,
    read_manifest,
    require_whole,
    write_manifest,
)
from tasks.deposition.emdb import MapFiles, map_categories, map_files, write_emdb
from tasks.deposition.empiar import require_movies, write_empiar
from tasks.deposition.experiment import experiment_categories
from tasks.deposition.fsc_check import FscCheck, check_half_maps, check_particles
from tasks.deposition.gathered import Gathered, gather
from tasks.deposition.left_out import left_out
from tasks.deposition.model_categories import model_categories, with_chains
from tasks.deposition.names import MICROSCOPES_SINCE_5_288
from tasks.deposition.params import DepositStructureParams
from tasks.deposition.people import people_categories, sample_categories
from tasks.formats.empiar import empiar_complaints, empiar_schema_source
from tasks.formats.pdbx import Dictionary, find_dictionary, header_content
from tasks.stores.commit import software_version
from tasks.stores.session_store import SessionStore
from tasks.validation.files import write_validation

logger = logging.getLogger(__name__)

_STAGE, _VERSION = "deposit_structure", 1
_ALSO_ALLOWED = {"_em_imaging.microscope_model": MICROSCOPES_SINCE_5_288}
_PARTICLES = Path("empiar", "data", "particles.star")


class DepositionError(RuntimeError):
    """A bundle that dictionary, schema or shell correlation do not agree with; nothing is left of it."""


@task(name="deposit_structure", cache_policy=NO_CACHE)
def deposit_structure(session_url: str, folder: str, told: str, params: DepositStructureParams) -> list[str]:
    """Write the bundle into ``folder``, which is new, or the next one beside the store, and return its files.

    What the store knows comes from the store; ``told`` is the path of the depositor's file for what it cannot know
    (`tasks.records.deposition.DepositionFile`). The folder appears when all is written and checked: mmCIF against the
    PDBx/mmCIF dictionary, EMPIAR's description against its schema, and the correlation of the half maps, and of halves
    made from the particles, against the curves in the bundle; of a map in which a part stands that was refined by
    itself, particles are compared outside of the part. ``session/deposition`` records it.

    Memory: the maps four times, and one particle stack.

    Raises
    ------
    MissingInformationError
        With all that is missing, and where to write it.
    DepositionError
        Where a check fails.
    BundleError
        Where the folder is there already, or cannot be written.
    """
    store = SessionStore.open(session_url)
    target = Path(folder).expanduser().absolute() if folder else next_folder(store.url)
    dictionary = Dictionary(find_dictionary(None if params.dictionary is None else Path(params.dictionary)))
    of = gather(store, Path(told), params)
    if params.has_empiar:
        require_movies(of, params)
    files = map_files(store, of)
    if not math.isfinite(files.resolution_angstrom):
        raise DepositionError(f"maps/{of.map.halves}: the half maps agree at no resolution; refine the map again")
    with new_bundle(target) as partial:
        links, checks = _written(store, partial, of, files, params, dictionary)
        about = _about(store, of, params, files.resolution_angstrom, dictionary, checks)
        write_manifest(partial, about, links)
    manifest = read_manifest(target)
    inputs = store.fingerprints(list(about["lineage"]))
    with store.product(DEPOSITION).write(_STAGE, _VERSION, params, inputs) as attempt:
        said = {name: value for name, value in manifest.items() if name != "files"}
        attempt.details["deposition"] = {"folder": str(target), **said, **digests(target / MANIFEST)}
        attempt.figures.update(n_files=len(manifest["files"]), title=of.told.title)
    logger.info("deposit_structure: %d files in %s; %s", len(manifest["files"]), target, "; ".join(about["checks"]))
    return [str(target / row["name"]) for row in manifest["files"]]


def verify_bundle(folder: Path) -> list[str]:
    """A bundle looked through again, in words: its files, and the shell correlations computed anew.

    Raises
    ------
    BundleError
        Where files are missing or others.
    DepositionError
        Where the correlations are not those of its curves.
    """
    manifest = read_manifest(folder)
    words = [f"{require_whole(folder, manifest)} files as they were deposited"]
    return words + [check.words for check in _fsc_checks(folder, **manifest["fsc_from"])]


def _written(
    store: SessionStore,
    folder: Path,
    of: Gathered,
    files: MapFiles,
    params: DepositStructureParams,
    dictionary: Dictionary,
) -> tuple[dict[str, str], list[str]]:
    """All parts; files that are links with their check sums, and what was checked."""
    polymers = [entity for entity in of.pdbx.entities if entity.is_polymer] if of.pdbx is not None else []
    shared = {
        **people_categories(of, datetime.now(UTC).date().isoformat()),
        **sample_categories(of, polymers),
        **experiment_categories(of, files.resolution_angstrom),
        **map_categories(of, files),
    }
    links: dict[str, str] = {}
    checks = []
    (folder / "emdb").mkdir()
    write_emdb(folder / "emdb", files)
    header = header_content(of.entry_id, shared)
    _check_dictionary("emdb/header.cif", header, dictionary)
    (folder / "emdb" / "header.cif").write_bytes(header)
    if params.has_pdb and of.model is not None and of.pdbx is not None:
        (folder / "pdb").mkdir()
        content = of.pdbx.content(
            of.entry_id, {**shared, **model_categories(of, of.model, of.pdbx, files.resolution_angstrom)}
        )
        _check_dictionary("pdb/model.cif", content, dictionary)
        (folder / "pdb" / "model.cif").write_bytes(content)
        assert of.model.validation is not None
        write_validation(folder / "pdb", with_chains(of.model.validation, of.pdbx.new_chains))
        checks.append(f"validation of the model: {of.model.validation.decision}, {of.model.validation.decision_reason}")
    checks.append(f"mmCIF against the PDBx/mmCIF dictionary {dictionary.version}: nothing to object to")
    if params.has_empiar:
        description, found = write_empiar(store, folder / "empiar", of, params)
        if complaints := empiar_complaints(description):
            raise DepositionError(f"empiar/deposition.json: {'; '.join(complaints)}; report this, please")
        (folder / "empiar" / "deposition.json").write_text(json.dumps(description, indent=1, ensure_ascii=False))
        links = {f"empiar/{name}": digest for name, digest in found.items()}
        checks.append(f"empiar/deposition.json against {empiar_schema_source()}: nothing to object to")
    return links, checks + [check.words for check in _fsc_checks(folder, **_fsc_from(of))]


def _fsc_from(of: Gathered) -> dict[str, Any]:
    """What a check needs beside the files: whether the particles are those of the map, its symmetry, and its seed."""
    refined = of.map.refined
    return {
        "has_particles": refined is not None,
        "symmetry": of.map.about.symmetry,
        "seed": int(refined.params.get("seed", 0)) if refined is not None and of.map.part is None else 0,
    }


def _check_dictionary(name: str, content: bytes, dictionary: Dictionary) -> None:
    if complaints := dictionary.complaints(content, _ALSO_ALLOWED):
        raise DepositionError(
            f"{name}: {len(complaints)} things that the PDBx/mmCIF dictionary {dictionary.version} does not know or"
            f" allow: {'; '.join(complaints[:5])}; look at what is written in the depositor's file, or give a newer"
            " dictionary (`--dictionary`)"
        )


def _fsc_checks(folder: Path, has_particles: bool, symmetry: str, seed: int) -> list[FscCheck]:
    """What the curves of a bundle are found to be; raises DepositionError where they are others."""
    found = [check_half_maps(folder / "emdb", seed)]
    if has_particles and (folder / _PARTICLES).is_file():
        found.append(check_particles(folder / "emdb", folder / _PARTICLES, symmetry, seed))
    for check in found:
        if not check.is_same:
            raise DepositionError(f"{check.words}; the store or the bundle changed: refine again, or deposit again")
    return found


def _about(
    store: SessionStore,
    of: Gathered,
    params: DepositStructureParams,
    resolution_angstrom: float,
    dictionary: Dictionary,
    checks: list[str],
) -> Mapping[str, Any]:
    """What the manifest says beside its files."""
    addresses = [f"maps/{of.map.name}"]
    if of.map.halves is not None and of.map.halves != of.map.name:
        addresses.append(f"maps/{of.map.halves}")
    addresses += of.map.sources
    if of.model is not None:
        addresses += [f"models/{of.model.name}", f"validations/{of.model.name}"]
    return {
        "title": of.told.title,
        "session": store.session.name,
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": software_version(),
        "dictionary": dictionary.version,
        "map": {
            "name": of.map.name,
            "symmetry": of.map.about.symmetry,
            "resolution_angstrom": round(resolution_angstrom, 3),
            "part": None if of.map.part is None else of.map.part.words,
        },
        "model": of.model.name if of.model is not None and params.has_pdb else None,
        "fsc_from": _fsc_from(of),
        "lineage": store.fingerprints(addresses),
        "checks": checks,
        "left_out": left_out(of, params),
    }
