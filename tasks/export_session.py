"""Hand a session to other programs: STAR files, micrographs, particle stacks and maps in one folder.

The folder is laid out as a RELION project would be: run its programs there and the paths in the STAR files hold.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from PIL import Image
from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from tasks.formats.map_file import write_map
from tasks.formats.mrc import write_mrc
from tasks.formats.star import StarMicrograph, StarMotion, is_path_for_relion, write_micrographs, write_motion
from tasks.formats.structure import parse_assembly, write_structure
from tasks.plots.exposures import micrograph_preview
from tasks.plots.style import encode_png
from tasks.records.exposure import Exposure
from tasks.records.session import StageParams
from tasks.session_files.exposures import SessionFile, file_name, handed_on, is_done
from tasks.session_files.part_masks import mask_files
from tasks.session_files.particles import n_images, optics_group, write_particle_star, write_stack
from tasks.states.files import WRITERS
from tasks.stores.products.exposure_store import exposure_ctf, micrograph
from tasks.stores.products.map_store import density_grid, read_map
from tasks.stores.products.model_store import mmcif_bytes
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


def _files(store: SessionStore, params: ExportSessionParams) -> Iterator[SessionFile]:
    """Every file of the export, arrays before the STAR files that name them."""
    exposures = handed_on(store)
    if not exposures and not list(_map_files(store)):
        raise StoreError(f"session {store.session.name}: nothing to export; run the first stages on it")
    if params.has_micrographs:
        for e, exposure in exposures.items():
            yield SessionFile(f"micrographs/{file_name(e)}.mrc", partial(_write_micrograph, store, exposure))
            if _has_motion(store, exposure):
                yield SessionFile(f"motion/{file_name(e)}.star", partial(_write_motion, store, exposure))
    if params.has_previews:
        for e, exposure in exposures.items():
            yield SessionFile(f"previews/{file_name(e)}.png", partial(_write_preview, store, exposure, params))
    with_stack = [e for e in exposures if n_images(store, e)] if params.has_particles else []
    for e in with_stack:
        yield SessionFile(
            f"particles/{file_name(e)}.mrcs", partial(write_stack, store, exposures[e], params.is_half_precision)
        )
    if params.has_maps:
        yield from _map_files(store)
        yield from _model_files(store)
        yield from _state_files(store)
        yield from mask_files(store)
    if params.has_micrographs and exposures:
        yield SessionFile("micrographs.star", partial(_write_micrograph_star, store, exposures))
        if any(is_done(store, f"exposures/{e}/estimate_ctf") for e in exposures):
            yield SessionFile("micrographs_ctf.star", partial(_write_micrograph_star, store, exposures, with_ctf=True))
    if params.has_particles:
        for name in store.names("particles"):
            if name != "zarr.json" and is_done(store, f"particles/{name}") and with_stack:
                yield SessionFile(
                    f"particles_{file_name(name)}.star", partial(write_particle_star, store, name, exposures)
                )


# --- arrays ---------------------------------------------------------------------------------------------------------


def _write_micrograph(store: SessionStore, exposure: Exposure, path: Path) -> None:
    write_mrc(path, micrograph(store, exposure.id)["micrograph"], exposure.optics.pixel_size_angstrom)


def _write_preview(store: SessionStore, exposure: Exposure, params: ExportSessionParams, path: Path) -> None:
    image = micrograph(store, exposure.id)["micrograph"]
    grey = micrograph_preview(image, params.preview_px, exposure.optics.pixel_size_angstrom)
    Location.of(path).write_bytes(encode_png(Image.fromarray(grey)))


def _map_files(store: SessionStore) -> Iterator[SessionFile]:
    for name in store.names("maps"):
        if name == "zarr.json" or not is_done(store, f"maps/{name}"):
            continue
        reader = read_map(store, name)
        for array, suffix in _MAP_FILES.items():
            if array in reader:
                yield SessionFile(f"maps/{file_name(name)}{suffix}.mrc", partial(_write_map, store, name, array))


def _model_files(store: SessionStore) -> Iterator[SessionFile]:
    for name in store.names("models"):
        if name != "zarr.json" and is_done(store, f"models/{name}"):
            yield SessionFile(f"models/{file_name(name)}.cif", partial(_write_model, store, name))
            if parse_assembly(mmcif_bytes(store, name), f"models/{name}") is not None:
                yield SessionFile(f"models/{file_name(name)}_assembly.cif", partial(_write_assembly, store, name))


def _state_files(store: SessionStore) -> Iterator[SessionFile]:
    for name in store.names("comparisons"):
        if is_done(store, f"comparisons/{name}"):
            for ending, write in WRITERS.items():
                yield SessionFile(f"states/{file_name(name)}{ending}", partial(write, store, name))


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
        has_ctf = with_ctf and is_done(store, f"exposures/{e}/estimate_ctf")
        if with_ctf and not has_ctf:
            continue
        name = f"micrographs/{file_name(e)}.mrc"
        fit = exposure_ctf(store, e) if has_ctf else None
        motion = f"motion/{file_name(e)}.star" if _has_motion(store, exposure) else None
        rows.append(StarMicrograph(name, exposure.optics_group, fit, motion))
        groups[exposure.optics_group] = optics_group(exposure.optics_group, exposure.optics, None)
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
