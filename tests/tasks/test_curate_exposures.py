"""Curation by figures with known answers, by simulated drift, and of real good and spoilt micrographs."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from kernels.ctf import Defocus
from kernels.micrographs.power_spectrum import Blur
from kernels.optics import Optics
from tasks.curate_exposures import CurateExposuresParams, curate_exposures
from tasks.estimate_ctf import EstimateCtfParams, estimate_ctf
from tasks.records.session import StageParams
from tasks.stores.ledger import read_ledger
from tests.truth.thon_rings import micrograph, put_micrograph, put_movie

GOOD = {
    "defocus_u_angstrom": 18000.0,
    "defocus_v_angstrom": 17500.0,
    "astigmatism_angstrom": 500.0,
    "fit_resolution_angstrom": 4.5,
    "drift_angstrom": 4.0,
    "drift_angle_deg": 30.0,
    "ice_ring_ratio": 1.05,
}
MOTION = {"total_motion_angstrom": 20.0, "early_motion_angstrom": 8.0}


@pytest.fixture(autouse=True)
def _one_thread():
    """Many small operations: on a busy machine, threads that wait for each other cost more than they do."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def put_figures(store, exposure_id, **changed):
    """A corrected movie with the figures of a good exposure, but for those given."""
    figures = GOOD | MOTION | changed
    blank = torch.zeros(8, 8)
    put_movie(store, exposure_id, blank, blank, **{name: figures[name] for name in MOTION})
    product = store.exposure_product(exposure_id, "estimate_ctf")
    inputs = store.fingerprints([f"exposures/{exposure_id}/correct_motion"])
    with product.write("estimate_ctf", 1, StageParams(), inputs) as attempt:
        attempt.figures.update({name: figures[name] for name in GOOD})


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"drift_angstrom": 60.0}, "drift of 60 Å within the exposure along 30°"),
        ({"fit_resolution_angstrom": 14.0}, "CTF fits only to 14 Å"),
        ({"defocus_u_angstrom": 49000.0, "defocus_v_angstrom": 48000.0}, "defocus 48500 Å .limit 45000"),
        ({"defocus_u_angstrom": 3300.0, "defocus_v_angstrom": 3100.0}, "defocus 3200 Å .at least 4000"),
        ({"astigmatism_angstrom": 4000.0}, "astigmatism 4000 Å"),
        ({"total_motion_angstrom": 400.0}, "drift over the movie 400 Å"),
        ({"early_motion_angstrom": 90.0}, "early motion 90 Å"),
        ({"ice_ring_ratio": 3.0}, "crystalline ice, ring ratio 3.00"),
    ],
)
def test_each_figure_beyond_its_limit_rejects_with_its_reason(store, workers, changed, reason):
    put_figures(store, "bad", **changed)
    put_figures(store, "good")
    report = curate_exposures.fn(store.url, ["bad", "good"], CurateExposuresParams())
    assert report.done == ["good"]
    with_reason = store.exposure_product("bad", "curate_exposures").record()
    assert with_reason.state == "skipped"
    assert with_reason.reason.startswith("rejected: ")
    assert re.search(reason, with_reason.reason)
    assert read_ledger(store).counts() == {"done": 1, "failed": 0, "skipped": 1, "quarantined": 0}


def test_a_figure_that_is_missing_or_a_limit_that_is_off_rejects_nothing(store, workers):
    put_figures(store, "no_ice_range", ice_ring_ratio=None)
    put_figures(store, "coarse", fit_resolution_angstrom=14.0)
    params = CurateExposuresParams(max_fit_resolution_angstrom=None)
    assert curate_exposures.fn(store.url, ["no_ice_range", "coarse"], params).available == ["coarse", "no_ice_range"]


def test_a_looser_limit_takes_a_rejected_exposure_back(store, workers):
    put_figures(store, "a", drift_angstrom=50.0)
    assert curate_exposures.fn(store.url, ["a"], CurateExposuresParams()).skipped
    assert curate_exposures.fn(store.url, ["a"], CurateExposuresParams(max_drift_angstrom=80)).done == ["a"]


def test_an_exposure_without_a_ctf_is_passed_over(store, workers):
    put_micrograph(store, "constant", torch.zeros(300, 300))
    estimate_ctf.fn(store.url, ["constant"], EstimateCtfParams())
    report = curate_exposures.fn(store.url, ["constant"], CurateExposuresParams())
    assert "constant" in report.skipped
    assert read_ledger(store).lines[0].stage == "estimate_ctf"
    assert curate_exposures.fn(store.url, [], CurateExposuresParams()).n_seen == 0


def test_drifted_and_empty_exposures_are_rejected_and_still_ones_accepted(store, workers):
    rejected = {
        "drifted_70": micrograph(Defocus.of(18000, 17600, 0.3), blur=Blur(70.0, 0.4), seed=11),
        "drifted_120": micrograph(Defocus.of(25000, 24500, 1.3), blur=Blur(120.0, 2.0), seed=12),
        "empty": micrograph(None, seed=13),
    }
    accepted = {
        f"still_{i}": micrograph(Defocus.of(u, u - 500, 0.5 * i), seed=20 + i, rings=r)
        for i, (u, r) in enumerate([(9000.0, 1.0), (16000.0, 1.0), (22000.0, 2.0), (30000.0, 1.0)])
    }
    accepted["slightly_drifted"] = micrograph(Defocus.of(18000), blur=Blur(8.0, 0.4), seed=31)
    exposures = [*rejected, *accepted]
    for exposure_id, image in (rejected | accepted).items():
        put_micrograph(store, exposure_id, image)
    estimate_ctf.fn(store.url, exposures, EstimateCtfParams())
    report = curate_exposures.fn(store.url, exposures, CurateExposuresParams())
    assert report.available == sorted(accepted)
    reasons = {e: store.exposure_product(e, "curate_exposures").record().reason for e in rejected}
    assert "drift" in reasons["drifted_70"]
    assert "drift" in reasons["drifted_120"]
    assert "CTF fits only to" in reasons["empty"]


@pytest.mark.real
def test_of_the_real_micrographs_only_the_drifted_one_is_rejected(real_data, store, workers):
    folder = real_data / "micrographs" / "apoferritin_EMPIAR-10146" / "avg"
    nominal = Optics(voltage_kv=300, spherical_aberration_mm=2.7, amplitude_contrast=0.1, pixel_size_angstrom=1.5)
    ids = []
    for path in sorted(folder.glob("*.png")):
        ids.append(path.name[:14])
        put_micrograph(store, ids[-1], torch.tensor(np.asarray(Image.open(path), dtype=np.float32)), nominal)
    estimate_ctf.fn(store.url, ids, EstimateCtfParams())
    report = curate_exposures.fn(store.url, ids, CurateExposuresParams())
    assert len(report.done) == 10
    rejected = store.exposure_product("May08_06.09.02", "curate_exposures").record()
    assert rejected.reason.startswith("rejected: drift of ")
