"""How a session was recorded, from the records of its exposures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tasks.records.exposure import Exposure, ExposureCtf
from tasks.records.microscope_metadata import MicroscopeMetadata
from tasks.session_files.exposures import handed_on, is_done
from tasks.stores.commit import Record
from tasks.stores.products.particle_store import read_particles
from tasks.stores.session_store import SessionStore

_PICKING_METHODS = {
    "blob": "matched to discs of the particle's diameter",
    "template": "matched to class averages of the same session",
}


@dataclass(frozen=True)
class Imaging:
    """Exposures that were recorded alike; None where nobody knows."""

    voltage_kv: float
    spherical_aberration_mm: float
    pixel_size_angstrom: float
    n_frames: int
    dose_electrons_per_angstrom2: float | None
    exposure_time_s: float | None
    magnification: float | None
    microscope: str | None
    """In the words of the microscope's files."""
    detector: str | None
    energy_filter_slit_ev: float | None
    is_phase_plate_used: bool | None
    acquisition_software: str | None


@dataclass(frozen=True)
class SessionFacts:
    """A session in figures."""

    groups: tuple[tuple[Imaging, int], ...]
    """With their numbers of exposures, the largest first."""
    first_day: str | None
    """Of the acquisition, ``2026-05-08``."""
    n_exposures: int
    """That were used."""
    defocus_angstrom: tuple[float, float] | None
    """Least and most of what was fitted."""
    nominal_defocus_angstrom: tuple[float, float] | None
    n_picked: int
    picking_method: str | None
    """In words."""
    n_classes_2d: int | None
    n_particles: int | None
    """Of the final map."""
    box_px: int | None
    particle_pixel_size_angstrom: float | None
    exposures: Mapping[str, Exposure]


def session_facts(store: SessionStore) -> SessionFacts:
    """What is known of the exposures that were used; of a session without any, nothing.

    Two commit records are read for each exposure, no pixel.
    """
    used = handed_on(store)
    metadata = {e: _metadata(store, e) for e in used}
    groups = Counter(_imaging(exposure, metadata[e]) for e, exposure in used.items())
    fits = [record.details["ctf"] for e in used if (record := _done(store, e, "estimate_ctf")) is not None]
    ctfs = [ExposureCtf.model_validate(fit) for fit in fits]
    nominal = [m.nominal_defocus_angstrom for m in metadata.values() if m.nominal_defocus_angstrom is not None]
    picked = [record for e in used if (record := _done(store, e, "pick_particles"))]
    method = next((record.params.get("method") for record in picked), None)
    first = next(iter(used), None)
    stack = _done(store, first, "extract_particles") if first is not None else None
    classes = store.product("classes/2d").record()
    return SessionFacts(
        groups=tuple(groups.most_common()),
        first_day=min((m.acquired_at[:10] for m in metadata.values() if m.acquired_at), default=None),
        n_exposures=len(used),
        defocus_angstrom=_range([d for fit in ctfs for d in (fit.defocus_u_angstrom, fit.defocus_v_angstrom)]),
        nominal_defocus_angstrom=_range(nominal),
        n_picked=sum(int(record.figures.get("n_picks") or 0) for record in picked),
        picking_method=None if method is None else _PICKING_METHODS.get(str(method), str(method)),
        n_classes_2d=len(classes.details["n_particles"]) if classes and "n_particles" in classes.details else None,
        n_particles=n_particles(store, "refined"),
        box_px=_int(stack.figures.get("box_size_px")) if stack else None,
        particle_pixel_size_angstrom=_float(stack.figures.get("pixel_size_angstrom")) if stack else None,
        exposures=used,
    )


def n_particles(store: SessionStore, name: str) -> int | None:
    """Of the set ``particles/<name>``; None where it is not there."""
    if not is_done(store, f"particles/{name}"):
        return None
    return len(read_particles(store.product(f"particles/{name}").read()))


def _done(store: SessionStore, exposure_id: str, stage: str) -> Record | None:
    return store.exposure_product(exposure_id, stage).record_if_done()


def _metadata(store: SessionStore, exposure_id: str) -> MicroscopeMetadata:
    record = store.exposure_product(exposure_id, "import_session").record()
    return MicroscopeMetadata.model_validate((record.details.get("metadata") if record else None) or {})


def _imaging(exposure: Exposure, told: MicroscopeMetadata) -> Imaging:
    dose = told.total_dose
    if exposure.dose_per_frame is not None:
        dose = exposure.dose_per_frame * exposure.n_frames + exposure.pre_exposure
    return Imaging(
        voltage_kv=exposure.optics.voltage_kv,
        spherical_aberration_mm=exposure.optics.spherical_aberration_mm,
        pixel_size_angstrom=exposure.optics.pixel_size_angstrom,
        n_frames=exposure.n_frames,
        dose_electrons_per_angstrom2=None if dose is None else round(dose, 2),
        exposure_time_s=None if told.exposure_time_s is None else round(told.exposure_time_s, 2),
        magnification=told.magnification,
        microscope=told.microscope,
        detector=told.detector,
        energy_filter_slit_ev=told.energy_filter_slit_ev,
        is_phase_plate_used=told.is_phase_plate_used,
        acquisition_software=told.software,
    )


def _range(values: Iterable[float]) -> tuple[float, float] | None:
    found = sorted(values)
    return (found[0], found[-1]) if found else None


def _int(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) else None


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
