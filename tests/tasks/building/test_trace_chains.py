"""Traces follow the chains that the candidates come from."""

from dataclasses import replace

import pytest
import torch

from kernels.models.detections import ProteinDetections
from tasks.building.trace_chains import SHORTEST_TRACE, trace_chains
from tests.truth.protein_detections import EASY, TYPICAL, cage_subunits, simulated_detections
from tests.truth.traced import positions_in_truth, trace_figures

CHAINS = cage_subunits(4)


def nothing() -> ProteinDetections:
    return ProteinDetections(
        torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, 3, 3), torch.zeros(0, 3), torch.zeros(0, 3),
        torch.zeros(0, 20), torch.zeros(0, 3),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("noise", "broken", "wrong", "recovered"), [(EASY, 0.01, 0.01, 0.97), (TYPICAL, 0.05, 0.02, 0.9)]
)
def test_few_links_are_broken_or_wrong(noise, broken, wrong, recovered):
    detections = simulated_detections(CHAINS, noise, 3)
    figures = trace_figures([t.alpha_angstrom for t in trace_chains(detections)], CHAINS, detections)
    assert figures.n_broken <= broken * figures.n_neighbours
    assert figures.n_wrong <= wrong * figures.n_residues
    assert figures.n_recovered >= recovered * figures.n_residues


def test_a_candidate_is_used_once_and_steps_are_those_of_a_chain():
    detections = simulated_detections(CHAINS, TYPICAL, 4)
    traces = trace_chains(detections)
    used = torch.cat([t.candidate[t.candidate >= 0] for t in traces])
    assert len(used.unique()) == len(used)
    for t in traces:
        assert len(t) >= SHORTEST_TRACE
        assert len(t.link_log_odds) == len(t) - 1
        assert torch.equal(t.alpha_angstrom[t.candidate >= 0], detections.alpha_angstrom[t.candidate[t.candidate >= 0]])
        assert t.alpha_angstrom.diff(dim=0).norm(dim=1).max() < 6.6


def test_missing_residues_are_put_where_they_belong():
    noise = replace(EASY, missing=0.12, false=0.0)
    detections = simulated_detections(CHAINS, noise, 5)
    traces = trace_chains(detections)
    put = torch.cat([t.alpha_angstrom[t.candidate < 0] for t in traces])
    whole = torch.cat([t.alpha_angstrom for t in traces])
    is_put = torch.cat([t.candidate < 0 for t in traces])
    right = positions_in_truth(whole, CHAINS)[is_put] >= 0
    assert len(put) > 20
    assert right.double().mean() > 0.85


def test_a_stretch_told_backwards_is_turned():
    noise = replace(EASY, reversed_stretch=0.05, missing=0.0)
    detections = simulated_detections(CHAINS, noise, 6)
    traces = trace_chains(detections)
    assert sum(int(t.is_reversed.sum()) for t in traces) > 10
    figures = trace_figures([t.alpha_angstrom for t in traces], CHAINS, detections)
    assert figures.n_broken <= 0.04 * figures.n_neighbours


def test_candidates_that_are_strewn_anywhere_make_no_long_chains():
    generator = torch.Generator().manual_seed(0)

    def vectors() -> torch.Tensor:
        return 3.8 * torch.nn.functional.normalize(torch.randn(400, 3, generator=generator), dim=1)

    place = 45 * torch.rand(400, 3, generator=generator)
    backbone = torch.stack([0.4 * vectors() for _ in range(3)], 1)
    detections = ProteinDetections(
        place, torch.full((400,), 0.4), backbone, vectors(), vectors(), torch.full((400, 20), 0.05),
        torch.full((400, 3), 1 / 3),
    )  # fmt: skip
    assert max((len(t) for t in trace_chains(detections)), default=0) < 15


def test_nothing_gives_no_traces():
    assert trace_chains(nothing()) == []
