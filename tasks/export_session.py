"""Hand a session to other programs: STAR files, micrographs, particle stacks and maps in one folder.

The folder is laid out as a RELION project would be: run its programs there and the paths in the STAR files hold.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from kernels.optics import Optics
from tasks.formats.map_file import write_map
from tasks.formats.mrc import write_mrc
from tasks.formats.star import (
    OpticsGroup,
    StarMicrograph,
    StarMotion,
    StarParticles,
    is_path_for_relion,
    write_micrographs,
    write_motion,
    write_particles,
)
from tasks.formats.structure import parse_assembly, write_structure
from tasks.plots.exposures import micrograph_preview
from tasks.plots.style import encode_png
from tasks.records.exposure import Exposure
from tasks.records.particles import ParticleSet
from tasks.records.session import StageParams
from tasks.stores.products.exposure_store import exposure as exposure_of
from tasks.stores.products.exposure_store import exposure_ctf, micrograph
from tasks.stores.products.map_store import density_grid, read_map
from tasks.stores.products.model_store import mmcif_bytes
from tasks.stores.products.optics_groups import optics_groups
from tasks.stores.products.particle_store import read_particles
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import Location, StoreError

logger = logging.getLogger(__name__)

_MAP_FILES = {"map": "", "half_1": "_half1", "half_2": "_half2", "mask": "_mask", "local_resolution": "_locres"}
"""Array of a map product -> what stands behind the map's name; half1 and half2 as RELION looks for them."""


class ExportSessionParams(StageParams):
    """What is exported."""

    is_overwriting: bool = False
    """Replace files that are there already; otherwise their presence is an error before anything is written."""
    has_micrographs: bool = True
    has_particles: bool = True
    has_maps: bool = True
    has_previews: bool = True
    is_half_precision: bool = False
    """Stacks in 16 bits (MRC mode 12): half the size, read by RELION 4 and later and by cryoSPARC 4."""
    preview_px: int = Field(default=1024, ge=16)
    """Longer side of the PNG previews."""


class ExportError(RuntimeError):
    """Files that an export would have to overwrite."""


@task(name="export_session", cache_policy=NO_CACHE)
def export_session(session_url: str, folder: str, params: ExportSessionParams) -> list[str]:
    """Write what the session has into ``folder`` and return the files, in the order they were written.

    STAR files come last and name only files that are there. Every file appears whole, under a name of its own.
    Memory: one micrograph, one stack, or one map at a time, and the columns of one particle set.
    """
    store = SessionStore.open(session_url)
    target = Path(folder).expanduser().resolve()
    files = list(_files(store, params))
    present = [file.name for file in files if (target / file.name).exists()]
    if present and not params.is_overwriting:
        raise ExportError(
            f"folder {target}: found {len(present)} of the files to be written ({', '.join(present[:3])}…), expected "
            "none; choose another folder or allow overwriting (--overwrite)"
        )
    for file in files:
        path = target / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        file.write(path)
    logger.info("export_session: %d files in %s", len(files), target)
    return [str(target / file.name) for file in files]


@dataclass(frozen=True)
class _File:
    name: str
    """Path below the folder."""
    write: Callable[[Path], None]


def _files(store: SessionStore, params: ExportSessionParams) -> Iterator[_File]:
    """Every file of the export, arrays before the STAR files that name them."""
    accepted = [e for e in store.exposure_ids() if _is_accepted(store, e)]
    if not accepted and not list(_map_files(store)):
        raise StoreError(f"session {store.session.name}: nothing to export; run the first stages on it")
    numbers = optics_groups(store)
    exposures = {e: _in_group(exposure_of(store, e), numbers) for e in accepted}
    if params.has_micrographs:
        for e, exposure in exposures.items():
            yield _File(f"micrographs/{file_name(e)}.mrc", partial(_write_micrograph, store, exposure))
            if _has_motion(store, exposure):
                yield _File(f"motion/{file_name(e)}.star", partial(_write_motion, store, exposure))
    if params.has_previews:
        for e, exposure in exposures.items():
            yield _File(f"previews/{file_name(e)}.png", partial(_write_preview, store, exposure, params))
    with_stack = [e for e in accepted if _n_images(store, e)] if params.has_particles else []
    for e in with_stack:
        yield _File(f"particles/{file_name(e)}.mrcs", partial(_write_stack, store, exposures[e], params))
    if params.has_maps:
        yield from _map_files(store)
        yield from _model_files(store)
    if params.has_micrographs and exposures:
        yield _File("micrographs.star", partial(_write_micrograph_star, store, exposures))
        if any(_is_done(store, f"exposures/{e}/estimate_ctf") for e in accepted):
            yield _File("micrographs_ctf.star", partial(_write_micrograph_star, store, exposures, with_ctf=True))
    if params.has_particles:
        for name in store.names("particles"):
            if name != "zarr.json" and _is_done(store, f"particles/{name}") and with_stack:
                yield _File(f"particles_{file_name(name)}.star", partial(_write_particle_star, store, name, exposures))


def _in_group(exposure: Exposure, numbers: dict[str, int]) -> Exposure:
    """The exposure with its optics group, where grouping has run."""
    number = numbers.get(exposure.id)
    return exposure if number is None else exposure.model_copy(update={"optics_group": number})


def file_name(identifier: str) -> str:
    """The identifier without what RELION cannot have in a path; ids stay different by the hash they end in."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", identifier)


def _is_done(store: SessionStore, address: str) -> bool:
    record = store.product(address).record()
    return record is not None and record.state == "done"


def _is_accepted(store: SessionStore, exposure_id: str) -> bool:
    """Whether the exposure has a micrograph and no stage before the picks gave it up."""
    imported = store.exposure_product(exposure_id, "import_session").record()
    if imported is None or imported.state != "done":
        return False
    curated = store.exposure_product(exposure_id, "curate_exposures").record()
    if curated is not None and curated.state != "done":
        return False
    is_movie = exposure_of(store, exposure_id).kind == "movie"
    return not is_movie or _is_done(store, f"exposures/{exposure_id}/correct_motion")


# --- arrays ---------------------------------------------------------------------------------------------------------


def _write_micrograph(store: SessionStore, exposure: Exposure, path: Path) -> None:
    write_mrc(path, micrograph(store, exposure.id)["micrograph"], exposure.optics.pixel_size_angstrom)


def _write_preview(store: SessionStore, exposure: Exposure, params: ExportSessionParams, path: Path) -> None:
    image = micrograph(store, exposure.id)["micrograph"]
    grey = micrograph_preview(image, params.preview_px, exposure.optics.pixel_size_angstrom)
    Location.of(path).write_bytes(encode_png(Image.fromarray(grey)))


def _write_stack(store: SessionStore, exposure: Exposure, params: ExportSessionParams, path: Path) -> None:
    """Particles as RELION keeps them: protein white, which is ours times -1."""
    dtype = np.float16 if params.is_half_precision else np.float32
    images = store.exposure_product(exposure.id, "extract_particles").read()["image"]
    write_mrc(path, np.negative(images.astype(dtype)), _particle_pixel_size(store, exposure), is_stack=True)


def _n_images(store: SessionStore, exposure_id: str) -> int:
    if not _is_done(store, f"exposures/{exposure_id}/extract_particles"):
        return 0
    reader = store.exposure_product(exposure_id, "extract_particles").read()
    return reader.shape("image")[0] if "image" in reader else 0


def _particle_pixel_size(store: SessionStore, exposure: Exposure) -> float:
    """Of the stack, which may be binned; that of the exposure where the stack does not say."""
    value = store.exposure_product(exposure.id, "extract_particles").read().attributes.get("pixel_size_angstrom")
    return exposure.optics.pixel_size_angstrom if value is None else float(value)


def _map_files(store: SessionStore) -> Iterator[_File]:
    for name in store.names("maps"):
        if name == "zarr.json" or not _is_done(store, f"maps/{name}"):
            continue
        reader = read_map(store, name)
        for array, suffix in _MAP_FILES.items():
            if array in reader:
                yield _File(f"maps/{file_name(name)}{suffix}.mrc", partial(_write_map, store, name, array))


def _model_files(store: SessionStore) -> Iterator[_File]:
    for name in store.names("models"):
        if name != "zarr.json" and _is_done(store, f"models/{name}"):
            yield _File(f"models/{file_name(name)}.cif", partial(_write_model, store, name))
            if parse_assembly(mmcif_bytes(store, name), f"models/{name}") is not None:
                yield _File(f"models/{file_name(name)}_assembly.cif", partial(_write_assembly, store, name))


def _write_model(store: SessionStore, name: str, path: Path) -> None:
    Location.of(path).write_bytes(mmcif_bytes(store, name))


def _write_assembly(store: SessionStore, name: str, path: Path) -> None:
    """All copies that symmetry makes of the model."""
    copies = parse_assembly(mmcif_bytes(store, name), f"models/{name}")
    assert copies is not None
    write_structure(path, copies, f"{name} assembly")


def _write_map(store: SessionStore, name: str, array: str, path: Path) -> None:
    """A map in the frame of its models: a map of ours has its corner at the origin of coordinates, as in RELION."""
    write_map(path, density_grid(store, name, array))


# --- STAR files -------------------------------------------------------------------------------------------------------


def _write_micrograph_star(
    store: SessionStore, exposures: dict[str, Exposure], path: Path, with_ctf: bool = False
) -> None:
    rows, groups = [], {}
    for e, exposure in exposures.items():
        has_ctf = with_ctf and _is_done(store, f"exposures/{e}/estimate_ctf")
        if with_ctf and not has_ctf:
            continue
        name = f"micrographs/{file_name(e)}.mrc"
        fit = exposure_ctf(store, e) if has_ctf else None
        motion = f"motion/{file_name(e)}.star" if _has_motion(store, exposure) else None
        rows.append(StarMicrograph(name, exposure.optics_group, fit, motion))
        groups[exposure.optics_group] = _group(exposure.optics_group, exposure.optics, None)
    write_micrographs(path, rows, groups)


def _has_motion(store: SessionStore, exposure: Exposure) -> bool:
    """Whether RELION could use the exposure's motion: a movie, with a path that it can read."""
    if exposure.kind != "movie" or not is_path_for_relion(exposure.source):
        return False
    return "global_shift_angstrom" in micrograph(store, exposure.id)


def _write_motion(store: SessionStore, exposure: Exposure, path: Path) -> None:
    motion = StarMotion(
        movie=exposure.source,
        shape=exposure.shape,
        pixel_size_angstrom=exposure.optics.pixel_size_angstrom,
        voltage_kv=exposure.optics.voltage_kv,
        dose_per_frame=exposure.dose_per_frame or 0.0,
        pre_exposure=exposure.pre_exposure,
        shift_angstrom=micrograph(store, exposure.id)["global_shift_angstrom"],
    )
    write_motion(path, motion)


def _write_particle_star(store: SessionStore, name: str, exposures: dict[str, Exposure], path: Path) -> None:
    particles = read_particles(store.product(f"particles/{name}").read())
    exported = np.array([e in exposures for e in particles.exposure_ids], dtype=bool)
    if len(particles):
        particles = particles.select(exported[particles["exposure"]])
    used = sorted(set(particles["exposure"].tolist())) if len(particles) else []
    groups: dict[int, OpticsGroup] = {}
    for number in used:
        exposure = exposures[particles.exposure_ids[number]]
        pixel_size = _particle_pixel_size(store, exposure)
        reader = store.exposure_product(exposure.id, "extract_particles").read()
        group = _group(exposure.optics_group, exposure.optics, reader.shape("image")[-1], pixel_size)
        if groups.setdefault(exposure.optics_group, group) != group:
            raise ValueError(
                f"optics group {exposure.optics_group}: exposure {exposure.id} has {group}, the others have "
                f"{groups[exposure.optics_group]}; give exposures with other optics or boxes another optics group"
            )
    if used:  # as the micrographs have it now; the set may be older than the last grouping
        own = [exposures[e].optics_group if e in exposures else 0 for e in particles.exposure_ids]
        particles = particles.with_columns(optics_group=np.array(own)[particles["exposure"]])
    if "coordinate_px" in particles:
        # shifts count from the pixel that the window was cut around, and RELION cuts at whole pixels, rounded down
        particles = particles.with_columns(coordinate_px=np.round(particles["coordinate_px"]))
    stacks = tuple(f"particles/{file_name(e)}.mrcs" for e in particles.exposure_ids)
    named = tuple(f"micrographs/{file_name(e)}.mrc" for e in particles.exposure_ids)
    content = StarParticles(
        ParticleSet(named, dict(particles.columns)), groups, stacks, particles["exposure"].astype(np.int32)
    )
    write_particles(path, content)


def _group(number: int, optics: Optics, image_size: int | None, pixel_size: float | None = None) -> OpticsGroup:
    own = Optics(
        optics.voltage_kv,
        optics.spherical_aberration_mm,
        optics.amplitude_contrast,
        pixel_size or optics.pixel_size_angstrom,
    )
    return OpticsGroup(f"opticsGroup{number}", own, image_size)
