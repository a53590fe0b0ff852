"""What the network says of C4' beside what is there, whatever it was calibrated to before."""

import torch
from torch.testing import assert_close

from tasks.building.detector import detector
from tasks.training.nucleotide_calibration import LEAST_PROBABILITY, sugar_evidence
from tests.truth.ideal_nucleic_acids import duplex


def test_raw_probabilities_are_told_and_the_calibration_is_left_as_it_was():
    network = detector()
    before = network.calibration.clone()
    try:
        network.calibration[1] = torch.tensor([0.0, -2.0])  # says the same of every candidate
        probability, is_right = sugar_evidence(network, duplex("GGACUCAG"), 3.0, 1)
        assert_close(network.calibration[1], torch.tensor([0.0, -2.0]))
    finally:
        network.calibration.copy_(before)
    assert probability.min() >= LEAST_PROBABILITY
    assert probability.std() > 0.05
    assert 8 <= int(is_right.sum()) <= 16
    assert probability[is_right].mean() > probability[~is_right].sum() / max(1, int((~is_right).sum()))
