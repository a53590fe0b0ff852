"""A session from movies on disk to a refined map and a judged model, for a deposition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from kernels.optics import Optics
from kernels.rotations import random_rotations
from tasks.build_model import BuildModelParams
from tasks.formats.exposure_file import FileParams
from tasks.formats.mrc import write_mrc
from tasks.model_refinement.params import RefineModelParams
from tasks.records.density_map import DensityMap
from tasks.records.exposure import Exposure, ExposureCtf
from tasks.records.microscope_metadata import MicroscopeMetadata
from tasks.records.session import StageParams
from tasks.refine_map import RefineMapParams, refine_map
from tasks.sharpen_map import SharpenMapParams, sharpen_map
from tasks.stores.products.map_store import describe, map_mates
from tasks.stores.products.model_store import copy_model, write_model
from tasks.stores.products.validation_store import write_validation
from tasks.stores.session_store import SessionStore
from tests.truth.extracted_session import write_extracted
from tests.truth.gaussian_particles import cage_points, gaussian_map, gaussian_projections, imaged
from tests.truth.modelled_session import SEQUENCES, Modelled, two_helices, validation_of

BOX, PIXEL, SYMMETRY, N_PARTICLES, N_PICKS, N_FRAMES, DOSE = 48, 3.0, "O", 120, 70, 5, 8.0
WHOLE = (f"MGS{SEQUENCES[0]}GG", SEQUENCES[1])
"""Sequences in the sample: the model lacks five residues of the first."""

TOLD = """
title: Structure of two simulated helices
keywords: DE NOVO PROTEIN, simulated
authors:
  - {family_name: Curie, initials: M., orcid: 0000-0002-1825-0097}
  - {family_name: van der Waals, initials: J.D.}
contact: &contact
  first_name: Marie
  last_name: Curie
  email: marie@example.org
  organization: University of Paris
  country: FR
  orcid: 0000-0002-1825-0097
principal_investigator: *contact
grants:
  - {organization: European Research Council, number: "123", country: GB}
sample:
  name: two helices
  organism: Escherichia coli
  taxonomy_id: 562
  expression_host: Escherichia coli
  expression_host_taxonomy_id: 562
  buffer_ph: 7.4
  molecules:
    - {name: first helix, uniprot: P02794}
    - {name: second helix}
specimen: {plunger: FEI VITROBOT MARK IV}
"""
"""A depositor's file that lacks nothing."""


def fill_for_deposition(store: SessionStore, folder: Path) -> None:
    """Two movies in ``folder``, their particles, a map refined from them, and a model of two helices.

    Stages of maps run, on the workers; what comes before and after is written as those stages write it.
    """
    _movies_and_particles(store, folder)
    points = cage_points(SYMMETRY, 12, 40.0, 3)
    with store.product("maps/initial").write("build_initial_map", 1, StageParams(), {}) as attempt:
        attempt.write("map", gaussian_map(points, BOX, PIXEL, 6.0).numpy())
        describe(attempt, DensityMap(name="initial", kind="initial", pixel_size_angstrom=PIXEL, symmetry=SYMMETRY))
    params = RefineMapParams(
        diameter_angstrom=110, symmetry=SYMMETRY, initial_low_pass_angstrom=25, max_iterations=2,
        particles_per_block=40, shift_range_angstrom=6, shift_step_angstrom=3, n_candidates=4,
    )  # fmt: skip
    refine_map.fn(store.url, params)
    sharpen_map.fn(store.url, SharpenMapParams())
    _model(store)


def _movies_and_particles(store: SessionStore, folder: Path) -> None:
    generator = torch.Generator().manual_seed(8)
    rotation = random_rotations(N_PARTICLES, generator)
    shift = 1.5 * torch.randn(N_PARTICLES, 2, generator=generator)
    points = cage_points(SYMMETRY, 12, 40.0, 3)
    seen = imaged(gaussian_projections(points, rotation, shift, BOX, PIXEL, 2.5), PIXEL, 0.3, 5)
    write_extracted(store, seen, n_exposures=2)
    for number in range(2):
        _record(store, folder, f"exposure_{number:02d}", seen.optics, np.random.default_rng(number))


def _record(store: SessionStore, folder: Path, name: str, optics: Optics, random: np.random.Generator) -> None:
    movie = folder / f"{name}.mrc"
    folder.mkdir(parents=True, exist_ok=True)
    write_mrc(movie, random.poisson(1.0, (N_FRAMES, 40, 48)).astype(np.int16), PIXEL, is_stack=True)
    exposure = Exposure(
        id=name, name=movie.name, source=str(movie), content_hash=f"{name}-hash", kind="movie", n_frames=N_FRAMES,
        shape=(40, 48), optics=optics, dose_per_frame=DOSE,
    )  # fmt: skip
    told = MicroscopeMetadata(
        microscope="TITAN KRIOS 52", detector="Falcon 4i", exposure_time_s=2.5, acquired_at="2026-05-08T06:09:02",
        nominal_defocus_angstrom=15000.0, magnification=96000.0, energy_filter_slit_ev=10.0,
    )  # fmt: skip
    params = FileParams(
        kind="movies", optics=optics, dose_per_frame=DOSE, total_dose=None, pre_exposure=0.0, expected_frames=None,
        eer_upsampling=1, eer_fractions=None, eer_dose_per_fraction=None,
    )  # fmt: skip
    with store.exposure_product(name, "import_session").write("import_session", 1, params, {}) as attempt:
        attempt.details.update(exposure=exposure.model_dump(mode="json"), metadata=told.model_dump(mode="json"))
    with store.exposure_product(name, "correct_motion").write("correct_motion", 1, StageParams(), {}) as attempt:
        attempt.write("micrograph", random.normal(0, 1, (40, 48)).astype(np.float32))
    fit = ExposureCtf(
        defocus_u_angstrom=15200.0, defocus_v_angstrom=14800.0, defocus_angle_deg=10.0, fit_correlation=0.3,
        fit_resolution_angstrom=4.0,
    )  # fmt: skip
    with store.exposure_product(name, "estimate_ctf").write("estimate_ctf", 1, StageParams(), {}) as attempt:
        attempt.details["ctf"] = fit.model_dump(mode="json")
    with store.exposure_product(name, "pick_particles").write("pick_particles", 1, StageParams(), {}) as attempt:
        attempt.figures["n_picks"] = N_PICKS


def _model(store: SessionStore) -> None:
    model = two_helices()
    inputs = store.fingerprints(["maps/sharpened"])
    params = BuildModelParams(sequences=WHOLE)
    with store.product("models/built").write("build_model", 1, params, inputs) as attempt:
        write_model(attempt, model, "built", map_mates(store, "sharpened"))
    inputs |= store.fingerprints(["models/built", "maps/refined"])
    with store.product("models/refined").write("refine_model", 1, RefineModelParams(), inputs) as attempt:
        write_model(attempt, model, "refined", map_mates(store, "sharpened"))
        attempt.figures.update(program="servalcat 0.4.142", angle_rmsd_deg=1.4)
    inputs = store.fingerprints(["models/refined", "maps/sharpened"])
    with store.product("models/chosen").write("choose_model", 1, StageParams(), inputs) as attempt:
        copy_model(store, attempt, "refined")
    judge(store, "chosen")


def judge(store: SessionStore, name: str) -> None:
    """``validations/<name>`` of the model as it is now."""
    confidence = torch.full((two_helices().n_residues,), 0.95)
    found = validation_of(Modelled(two_helices(), confidence)).model_copy(update={"regions": (), "decision": "deposit"})
    inputs = store.fingerprints([f"models/{name}"])
    with store.product(f"validations/{name}").write("validate_model", 1, StageParams(), inputs) as attempt:
        write_validation(attempt, found)
