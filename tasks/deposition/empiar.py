"""The part of the bundle for EMPIAR: image sets, and the description that its depositor program sends."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tasks.deposition.gathered import Gathered
from tasks.deposition.params import DepositStructureParams
from tasks.formats.exposure_file import FileParams, has_eer_suffix, open_exposure
from tasks.formats.mrc import write_mrc
from tasks.records.deposition import Author, Person
from tasks.records.exposure import Exposure
from tasks.session_files.exposures import file_name
from tasks.session_files.particles import n_images, particle_pixel_size, write_particle_star, write_stack
from tasks.stores.products.exposure_store import micrograph
from tasks.stores.products.session_gain import ADDRESS as GAIN_ADDRESS
from tasks.stores.session_store import SessionStore

_RELEASE = {"REL": "RE", "HPUB": "HP", "HOLD": "HO"}
_RAW_DATA_OF_EMDB_ENTRY, _MOLECULE = 3, "1"
"""Experiment type and scale, as the schema numbers them."""
_FORMATS = {".mrc": "T1", ".mrcs": "T2", ".tif": "T3", ".tiff": "T3", ".eer": "T9", ".png": "T10"}
_VOXELS = {"uint8": "T1", "int8": "T2", "uint16": "T3", "int16": "T4", "uint32": "T5", "int32": "T6", "float32": "T7"}
_MICROGRAPHS, _MOVIES, _PARTICLES = "('T1', '')", "('T2', '')", "('T7', '')"
"""Categories: single frames, several frames, picked particles that were processed."""


class MissingMoviesError(ValueError):
    """Movies that were imported and are not where they were."""


def require_movies(of: Gathered, params: DepositStructureParams) -> None:
    """Raise `MissingMoviesError` where movies are to be deposited and are gone, or changed their size of zero."""
    if "movies" not in params.image_sets:
        return
    gone = [e.source for e in of.facts.exposures.values() if not Path(e.source).is_file()]
    if gone:
        raise MissingMoviesError(
            f"{len(gone)} of {len(of.facts.exposures)} movies are not where they were imported from ({gone[0]}…); mount"
            " their folder again, or deposit particles alone with `--images particles`"
        )
    names = [Path(e.source).name for e in of.facts.exposures.values()]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise MissingMoviesError(
            f"two movies are called {twice}, and EMPIAR keeps an image set in one folder; rename one, or deposit"
            " particles alone with `--images particles`"
        )


def write_empiar(
    store: SessionStore, folder: Path, of: Gathered, params: DepositStructureParams
) -> tuple[dict[str, Any], dict[str, str]]:
    """Image sets below ``data/`` of a folder that is there.

    Returns
    -------
    The description of the entry; and of movies that are links, file below the folder -> BLAKE2b-256 of its import.
    """
    sets: list[dict[str, Any]] = []
    links: dict[str, str] = {}
    if "movies" in params.image_sets:
        sets.append(_movies(store, folder / "data" / "movies", of, params, links))
    if "micrographs" in params.image_sets:
        sets.append(_micrographs(store, folder / "data" / "micrographs", of))
    if "particles" in params.image_sets:
        sets.append(_particles(store, folder / "data", of))
    return _description(of, sets), links


def _movies(
    store: SessionStore, folder: Path, of: Gathered, params: DepositStructureParams, links: dict[str, str]
) -> dict[str, Any]:
    folder.mkdir(parents=True)
    exposures = list(of.facts.exposures.values())
    for exposure in exposures:
        source, target = Path(exposure.source), folder / Path(exposure.source).name
        if params.are_movies_linked:
            target.symlink_to(source.absolute())
            links[f"data/movies/{target.name}"] = exposure.content_hash
        else:
            shutil.copyfile(source, target)
    gain = store.product(GAIN_ADDRESS).record()
    details = None
    if gain is not None and gain.details.get("is_gain_given"):
        write_mrc(folder / "gain.mrc", store.product(GAIN_ADDRESS).read()["gain"], 1.0)
        details = "gain.mrc: multiplies the counts, in the orientation of the frames as the files hold them"
    first = exposures[0]
    imported = store.exposure_product(first.id, "import_session").done_record(f"exposure {first.id}")
    is_movie = first.kind == "movie"
    image = open_exposure(Path(first.source), FileParams.model_validate(imported.params))
    format_ = _FORMATS[Path(first.source).suffix.lower()]
    n_frames = image.n_raw_frames if has_eer_suffix(first.source) and image.n_raw_frames else image.n_frames
    y, x = image.shape
    return {
        "name": "Movies" if is_movie else "Micrographs as they were recorded",
        "directory": "data/movies",
        "category": _MOVIES if is_movie else _MICROGRAPHS,
        "header_format": f"('{format_}', '')",
        "data_format": f"('{format_}', '')",
        "num_images_or_tilt_series": len(exposures),
        "frames_per_image": n_frames,
        "frame_range_min": 1 if is_movie else None,
        "frame_range_max": n_frames if is_movie else None,
        "voxel_type": _voxel_type(image.dtype.name),
        "pixel_width": round(first.optics.pixel_size_angstrom, 5),
        "pixel_height": round(first.optics.pixel_size_angstrom, 5),
        "details": details,
        "image_width": x,
        "image_height": y,
    }


def _micrographs(store: SessionStore, folder: Path, of: Gathered) -> dict[str, Any]:
    folder.mkdir(parents=True)
    exposures = list(of.facts.exposures.values())
    for exposure in exposures:
        image = micrograph(store, exposure.id)["micrograph"]
        write_mrc(folder / f"{file_name(exposure.id)}.mrc", image, exposure.optics.pixel_size_angstrom)
    y, x = image.shape
    pixel_size = exposures[0].optics.pixel_size_angstrom
    return {
        "name": "Micrographs, motion corrected and dose weighted",
        "directory": "data/micrographs",
        "category": _MICROGRAPHS,
        "num_images_or_tilt_series": len(exposures),
        **_mrc("T1", (y, x), pixel_size),
    }


def _particles(store: SessionStore, folder: Path, of: Gathered) -> dict[str, Any]:
    """Stacks, and beside their folder the table that names them, where RELION can be run."""
    (folder / "particles").mkdir(parents=True)
    exposures: Mapping[str, Exposure] = of.facts.exposures
    with_stack = [e for e in exposures if n_images(store, e)]
    for e in with_stack:
        write_stack(store, exposures[e], False, folder / "particles" / f"{file_name(e)}.mrcs")
    write_particle_star(store, "refined", dict(exposures), folder / "particles.star", of.map.is_mirrored)
    shape = store.exposure_product(with_stack[0], "extract_particles").read().shape("image")[1:]
    return {
        "name": "Particles with the poses and half sets of the final map",
        "directory": "data/particles",
        "category": _PARTICLES,
        "num_images_or_tilt_series": sum(n_images(store, e) for e in with_stack),
        "details": "normalised, protein white; particles.star (RELION 3.1) names those of the final map",
        "micrographs_file_pattern": None,
        "picked_particles_file_pattern": "data/particles.star",
        "picked_particles_directory": "data",
        **_mrc("T2", shape, particle_pixel_size(store, exposures[with_stack[0]])),
    }


def _mrc(kind: str, shape: tuple[int, ...], pixel_size_angstrom: float) -> dict[str, Any]:
    return {
        "header_format": f"('{kind}', '')",
        "data_format": f"('{kind}', '')",
        "frames_per_image": 1,
        "voxel_type": "('T7', '')",
        "pixel_width": round(pixel_size_angstrom, 5),
        "pixel_height": round(pixel_size_angstrom, 5),
        "image_width": int(shape[1]),
        "image_height": int(shape[0]),
    }


def _voxel_type(dtype: str) -> str:
    return f"('{_VOXELS[dtype]}', '')" if dtype in _VOXELS else f"('OT', '{np.dtype(dtype).itemsize * 8} BIT FLOAT')"


def _description(of: Gathered, image_sets: list[dict[str, Any]]) -> dict[str, Any]:
    told = of.told
    authors = [_author(i, author) for i, author in enumerate(told.authors)]
    return {
        "title": told.title,
        "release_date": _RELEASE[told.release],
        "experiment_type": _RAW_DATA_OF_EMDB_ENTRY,
        "scale": _MOLECULE,
        "cross_references": [],
        "authors": authors,
        "corresponding_author": _person(told.contact),
        "principal_investigator": [_person(told.principal_investigator)],
        "imagesets": image_sets,
        "citation": [
            {"authors": authors, "editors": [], "published": False, "j_or_nj_citation": True, "title": told.title}
        ],
    }


def _author(order: int, author: Author) -> dict[str, Any]:
    initials = author.initials.replace(".", "").replace("-", "")
    return {
        "name": f"('{author.family_name}', '{initials}')",
        "order_id": order,
        "author_orcid": author.orcid,
    }


def _person(person: Person) -> dict[str, Any]:
    found = {
        "author_orcid": person.orcid,
        "first_name": person.first_name,
        "middle_name": None,
        "last_name": person.last_name,
        "organization": person.organization,
        "email": person.email,
        "country": person.country,
    }
    return found | ({"town_or_city": person.town} if person.town else {})
