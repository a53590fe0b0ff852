"""Residues that the network sees as what they are fit better than others."""

import math

import pytest
import torch

from kernels.models.detections import ProteinDetections
from kernels.models.network_fit import amino_acid_fit
from tests.truth.ideal_proteins import ideal_protein


def test_the_fit_is_the_logarithm_of_the_own_over_the_mean_probability():
    model = ideal_protein("AWAW")
    alpha = model.positions("CA")[:, 0]
    probability = torch.full((3, 20), 0.01)
    probability[0, 0], probability[1, 17], probability[2, 17] = 0.8, 0.5, 0.2
    zero = torch.zeros(3, 3)
    found = ProteinDetections(
        torch.stack([alpha[0] + 0.5, alpha[1], alpha[2] - 0.5]).float(),
        torch.ones(3),
        torch.zeros(3, 3, 3),
        zero,
        zero,
        probability,
        zero,
    )
    fit = amino_acid_fit(model, found)
    mean_a, mean_w = (0.8 + 0.01 + 0.01) / 3, (0.01 + 0.5 + 0.2) / 3
    expected = [math.log(0.8 / mean_a), math.log(0.5 / mean_w), math.log(0.01 / mean_a)]
    assert fit[:3].tolist() == pytest.approx(expected, abs=1e-5)
    assert fit[3].isnan()  # nothing was found there
    nothing = ProteinDetections(
        zero[:0], zero[:0, 0], torch.zeros(0, 3, 3), zero[:0], zero[:0], probability[:0], zero[:0]
    )
    assert amino_acid_fit(model, nothing).isnan().all()
