"""The CTF stage from micrographs in a store to records, on simulated truth, bad input and real apoferritin."""

import json
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from kernels.ctf import Defocus
from kernels.micrographs.power_spectrum import Blur
from kernels.optics import Optics
from tasks.estimate_ctf import EstimateCtfParams, estimate_ctf
from tasks.stores.ledger import read_ledger
from tasks.stores.products.exposure_store import exposure_ctf
from tests.truth.thon_rings import micrograph, put_micrograph, put_movie

NOMINAL = Optics(voltage_kv=300, spherical_aberration_mm=2.7, amplitude_contrast=0.1, pixel_size_angstrom=1.5)


@pytest.fixture(autouse=True)
def _one_thread():
    """Many small operations: on a busy machine, threads that wait for each other cost more than they do."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


def test_the_recorded_ctf_is_that_of_the_micrograph(store, workers, place):
    put_micrograph(store, "a", micrograph(Defocus.of(17500, 16700, math.radians(110)), rings=6.0))
    report = estimate_ctf.fn(store.url, ["a"], EstimateCtfParams())
    assert report.done == ["a"]
    found = exposure_ctf(store, "a")
    assert found.defocus_u_angstrom == pytest.approx(17500, abs=50)
    assert found.defocus_v_angstrom == pytest.approx(16700, abs=50)
    assert found.defocus_angle_deg == pytest.approx(110, abs=4)
    assert found.phase_shift_deg == 0
    assert found.fit_resolution_angstrom < 4.5
    figures = read_ledger(store).lines[0].figures
    assert figures["astigmatism_angstrom"] == pytest.approx(800, abs=100)
    assert figures["drift_angstrom"] < 8
    assert figures["ice_ring_ratio"] == pytest.approx(1, abs=0.15)
    assert estimate_ctf.fn(store.url, ["a"], EstimateCtfParams()).kept == ["a"]


def test_the_arrays_are_those_of_the_layout(store, workers):
    put_micrograph(store, "a", micrograph(Defocus.of(15000)))
    estimate_ctf.fn(store.url, ["a"], EstimateCtfParams())
    product = store.exposure_product("a", "estimate_ctf").read()
    assert product.shape("power_spectrum") == (512, 257)
    assert np.isfinite(product["power_spectrum"]).all()
    frequency, observed, model, agreement = product["fit_curves"]
    assert frequency[0] == pytest.approx(1 / 30, rel=0.05)
    assert frequency[-1] == pytest.approx(1 / 3.5, rel=0.02)
    seen = frequency < 1 / 8
    assert np.corrcoef(observed[seen], model[seen])[0, 1] > 0.9
    assert agreement.max() <= 1 + 1e-6


def test_a_movie_is_fitted_on_its_plain_sum(store, workers):
    put_movie(store, "m", weighted=micrograph(Defocus.of(30000)), unweighted=micrograph(Defocus.of(12000)))
    estimate_ctf.fn(store.url, ["m"], EstimateCtfParams())
    assert exposure_ctf(store, "m").defocus_u_angstrom == pytest.approx(12000, abs=150)


def test_a_phase_plate_session_reports_its_phase_shift(store, workers):
    put_micrograph(store, "p", micrograph(Defocus.of(9000, 9000, 0.0, math.radians(80)), rings=6.0))
    estimate_ctf.fn(store.url, ["p"], EstimateCtfParams(is_phase_plate=True))
    assert exposure_ctf(store, "p").phase_shift_deg == pytest.approx(80, abs=6)


def test_drift_is_recorded_with_its_direction(store, workers):
    drifted = micrograph(Defocus.of(20000), blur=Blur(60.0, math.radians(25)))
    put_micrograph(store, "d", drifted)
    estimate_ctf.fn(store.url, ["d"], EstimateCtfParams())
    figures = read_ledger(store).lines[0].figures
    assert figures["drift_angstrom"] == pytest.approx(60, rel=0.25)
    assert figures["drift_angle_deg"] == pytest.approx(25, abs=8)


def test_bad_micrographs_fail_with_their_reason_and_stop_nobody(store, workers):
    good = micrograph(Defocus.of(16000))
    holed = good.clone()
    holed[3, 4:9] = torch.nan
    put_micrograph(store, "good", good)
    put_micrograph(store, "holed", holed)
    put_micrograph(store, "constant", torch.full((300, 400), 7.0))
    put_micrograph(store, "small", torch.randn(100, 400))
    put_micrograph(store, "coarse", torch.randn(400, 400), Optics(300, 2.7, 0.1, 12.0))
    put_micrograph(store, "narrow", torch.randn(400, 400), Optics(300, 2.7, 0.1, 0.1))
    report = estimate_ctf.fn(store.url, ["good", "holed", "constant", "small", "coarse", "narrow"], EstimateCtfParams())
    assert report.done == ["good"]
    expected = {
        "holed": "5 of 934337 pixels of its micrograph are not finite",
        "constant": r"its micrograph is constant \(7\)",
        "small": r"its micrograph is \(100, 400\) px, a CTF fit needs 128",
        "coarse": "with 12 Å pixels rings are seen from 30 to 24.6 Å only",
        "narrow": "a CTF fit needs 20 or more frequency shells, found",
    }
    assert set(report.failed) == set(expected)
    for item, reason in expected.items():
        assert re.search(f"exposure {item}: {reason}", report.failed[item])
    assert read_ledger(store).counts()["failed"] == 5


def test_pure_noise_is_fitted_to_no_useful_resolution(store, workers):
    put_micrograph(store, "noise", torch.randn(800, 900, generator=torch.Generator().manual_seed(2)))
    estimate_ctf.fn(store.url, ["noise"], EstimateCtfParams())
    assert exposure_ctf(store, "noise").fit_resolution_angstrom > 10


def test_no_exposures_are_no_work(store, workers):
    assert estimate_ctf.fn(store.url, [], EstimateCtfParams()).n_seen == 0


@pytest.mark.real
def test_real_defoci_agree_with_an_independent_fit(real_data, store, workers):
    folder = real_data / "micrographs" / "apoferritin_EMPIAR-10146"
    expected = json.loads((folder / "ctf_estimates_UNOFFICIAL.json").read_text())
    for name in expected:
        pixels = np.asarray(Image.open(folder / "avg" / name), dtype=np.float32)
        put_micrograph(store, name[:14], torch.tensor(pixels), NOMINAL)
    report = estimate_ctf.fn(store.url, [name[:14] for name in expected], EstimateCtfParams())
    assert len(report.done) == 10
    for name, other in expected.items():
        found = exposure_ctf(store, name[:14])
        mean = (found.defocus_u_angstrom + found.defocus_v_angstrom) / 2
        assert mean == pytest.approx((other["defocusU_A"] + other["defocusV_A"]) / 2, abs=300)
        assert found.fit_resolution_angstrom < 8
