"""Categories of recording, processing and map: what the session knows."""

from __future__ import annotations

from tasks.deposition.gathered import Gathered, NamedImaging
from tasks.deposition.lineage import programs_of
from tasks.deposition.people import Rows
from tasks.formats.pdbx import Value
from tasks.stores.commit import software_version

_PROGRAM = "vitriflow"
_TO_NM = 0.1
_OWN_STEPS = (
    "PARTICLE SELECTION",
    "CLASSIFICATION",
    "CTF CORRECTION",
    "INITIAL EULER ASSIGNMENT",
    "FINAL EULER ASSIGNMENT",
    "RECONSTRUCTION",
    "MASKING",
)


def experiment_categories(of: Gathered, resolution_angstrom: float) -> dict[str, Rows]:
    """Everything from the microscope to the map but the maps' own headers."""
    processing = enumerate(of.imaging, start=1)
    found: dict[str, Rows] = {
        "em_imaging": [_imaging(of, number, one) for number, one in enumerate(of.imaging, start=1)],
        "em_image_recording": [_recording(number, one) for number, one in enumerate(of.imaging, start=1)],
        "em_image_processing": [{"id": number, "image_recording_id": number} for number, _ in processing],
        "em_3d_reconstruction": [_reconstruction(of, resolution_angstrom)],
        "em_single_particle_entity": [
            {
                "entry_id": of.entry_id,
                "id": 1,
                "image_processing_id": 1,
                "point_symmetry": of.map.about.symmetry,
            }
        ],
        "em_software": _software(of),
    }
    phase_plates = [one.imaging.is_phase_plate_used for one in of.imaging]
    if any(phase_plates):
        found["em_imaging_optics"] = [
            {"id": i, "imaging_id": i, "phase_plate": "VOLTA PHASE PLATE"}
            for i, is_used in enumerate(phase_plates, 1)
            if is_used
        ]
    if of.map.refined is not None:
        found |= _own_processing(of)
    return found


def _own_processing(of: Gathered) -> dict[str, Rows]:
    """Of a map that the session made itself."""
    facts = of.facts
    found: dict[str, Rows] = {
        "em_particle_selection": [
            {
                "id": 1,
                "image_processing_id": 1,
                "num_particles_selected": facts.n_picked,
                "method": facts.picking_method,
            }
        ],
        "em_ctf_correction": [
            {
                "id": 1,
                "em_image_processing_id": 1,
                "type": "PHASE FLIPPING AND AMPLITUDE CORRECTION",
                "details": "in the reconstruction, weighted by the noise of each shell",
            }
        ],
        "em_start_model": [
            {"id": 1, "image_processing_id": 1, "type": "OTHER", "other": "ab initio, from the particles themselves"}
        ],
        "em_euler_angle_assignment": [
            {
                "id": 1,
                "image_processing_id": 1,
                "order": "FINAL",
                "type": "PROJECTION MATCHING",
                "details": "best pose of a search by likelihood, then least squares; halves apart",
            }
        ],
    }
    return found


def _imaging(of: Gathered, number: int, one: NamedImaging) -> dict[str, Value]:
    imaging, facts = one.imaging, of.facts
    fitted, nominal = facts.defocus_angstrom, facts.nominal_defocus_angstrom
    slit = imaging.energy_filter_slit_ev
    return {
        "entry_id": of.entry_id,
        "id": number,
        "specimen_id": 1,
        "microscope_model": one.microscope,
        "accelerating_voltage": round(imaging.voltage_kv),
        "nominal_cs": imaging.spherical_aberration_mm,
        "electron_source": of.told.instrument.electron_source,
        "illumination_mode": "FLOOD BEAM",
        "mode": "BRIGHT FIELD",
        "nominal_magnification": None if imaging.magnification is None else round(imaging.magnification),
        "nominal_defocus_min": None if nominal is None else round(nominal[0] * _TO_NM, 1),
        "nominal_defocus_max": None if nominal is None else round(nominal[1] * _TO_NM, 1),
        "calibrated_defocus_min": None if fitted is None else round(fitted[0] * _TO_NM, 1),
        "calibrated_defocus_max": None if fitted is None else round(fitted[1] * _TO_NM, 1),
        "date": facts.first_day,
        "cryogen": "NITROGEN",
        "details": None if slit is None else f"energy filter, slit of {slit:g} eV",
    }


def _recording(number: int, one: NamedImaging) -> dict[str, Value]:
    return {
        "id": number,
        "imaging_id": number,
        "film_or_detector_model": one.detector,
        "avg_electron_dose_per_image": one.dose_electrons_per_angstrom2,
        "average_exposure_time": one.imaging.exposure_time_s,
        "num_real_images": one.n_exposures or None,
        "num_grids_imaged": None,
    }


def _reconstruction(of: Gathered, resolution_angstrom: float) -> dict[str, Value]:
    about, facts = of.map.about, of.facts
    n_particles = facts.n_particles if of.map.refined is not None else of.told.instrument.n_particles
    b_factor = of.map.b_factor_angstrom2
    pixel = round(about.pixel_size_angstrom, 5)
    details = [] if b_factor is None else [f"sharpened with a B factor of {b_factor:g} A**2"]
    details += [] if of.map.part is None else [of.map.part.words]
    return {
        "entry_id": of.entry_id,
        "id": 1,
        "image_processing_id": 1,
        "algorithm": "FOURIER SPACE",
        "resolution": round(resolution_angstrom, 2),
        "resolution_method": "FSC 0.143 CUT-OFF",
        "refinement_type": "HALF-MAPS REFINED INDEPENDENTLY",
        "symmetry_type": "POINT",
        "num_particles": n_particles,
        "num_class_averages": facts.n_classes_2d,
        "nominal_pixel_size": pixel,
        "actual_pixel_size": pixel,
        "details": "; ".join(details) or None,
    }


def _software(of: Gathered) -> Rows:
    """Programs with their versions: ours as the records of map and model name them."""
    rows: list[dict[str, Value]] = []

    def add(category: str, name: str, version: str | None, **of_what: Value) -> None:
        row: dict[str, Value] = {"id": len(rows) + 1, "category": category, "name": name, "version": version}
        rows.append(row | of_what)

    for number, one in enumerate(of.imaging, start=1):
        if one.imaging.acquisition_software:
            add("IMAGE ACQUISITION", one.imaging.acquisition_software, None, imaging_id=number)
    if of.map.refined is not None:
        made = (of.map.refined, *([of.map.part.record] if of.map.part is not None else []))
        for step in _OWN_STEPS:
            add(step, _PROGRAM, programs_of(made) or None, image_processing_id=1)
    if of.model is not None:
        add("MODEL FITTING", _PROGRAM, programs_of(of.model.ancestors) or None, fitting_id=1)
        name, _, version = (of.model.refining_program or f"{_PROGRAM} {programs_of(of.model.ancestors)}").partition(" ")
        add("MODEL REFINEMENT", name, version or None, fitting_id=1)
    own = software_version().removeprefix("vitriflow").strip()
    add("OTHER", _PROGRAM, own, details="deposition", image_processing_id=1)
    return rows
