"""Candidates that crowd beyond what can be told apart in time, and a chain among them."""

from dataclasses import fields

import pytest
import torch
from scipy.optimize import OptimizeResult, milp

from kernels.models.detections import ProteinDetections
from tasks.building import paths
from tasks.building.chain_names import NoChainError
from tasks.building.trace_chains import trace_chains
from tasks.building.trace_in_time import trace_in_time
from tests.truth.protein_detections import EASY, cage_subunits, simulated_detections


def crowd(side: int = 6) -> ProteinDetections:
    """Candidates 2.8 Å apart that point anywhere, of which none is sure."""
    generator = torch.Generator().manual_seed(0)
    axis = 2.8 * torch.arange(side, dtype=torch.float32) + 300.0
    place = torch.cartesian_prod(axis, axis, axis)
    place = place + 0.5 * torch.randn(place.shape, generator=generator)
    n = len(place)

    def towards(*shape: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(*shape, 3, generator=generator), dim=-1)

    confidence = 0.1 + 0.3 * torch.rand(n, generator=generator)
    even = torch.full((n, 20), 0.05), torch.full((n, 3), 1 / 3)
    return ProteinDetections(place, confidence, 1.5 * towards(n, 3), 3.8 * towards(n), 3.8 * towards(n), *even)


def together(first: ProteinDetections, second: ProteinDetections) -> ProteinDetections:
    return ProteinDetections(
        *(torch.cat([getattr(first, field.name), getattr(second, field.name)]) for field in fields(first))
    )


@pytest.fixture
def slow_solver(monkeypatch):
    """A solver that finds no more than so many nodes and links in time."""

    def limit(most: int) -> None:
        late = OptimizeResult(x=None, message="Time limit reached")
        monkeypatch.setattr(paths, "milp", lambda c, **given: milp(c, **given) if len(c) <= most else late)

    return limit


def test_a_chain_among_too_many_candidates_is_traced_without_the_unsure_ones(slow_solver, caplog):
    chain = simulated_detections(cage_subunits(1), EASY, seed=1)
    both = together(crowd(), chain)
    slow_solver(600)
    with pytest.raises(TimeoutError):
        trace_chains(both)
    found = trace_in_time(both)
    assert found.least_confidence is not None and 0.1 < found.least_confidence < 0.5
    rows, place = (torch.cat([getattr(t, name) for t in found.traces]) for name in ("candidate", "alpha_angstrom"))
    seen, traced = rows[rows >= 0], place[rows >= 0]
    assert int((seen >= len(both) - len(chain)).sum()) > 0.8 * len(chain)
    assert torch.equal(traced.float(), both.alpha_angstrom[seen])  # rows are those of all candidates
    assert "traced again" in caplog.text and f"at least {found.least_confidence:.3f}" in caplog.text


def test_what_can_be_traced_is_traced_whole():
    detections = simulated_detections(cage_subunits(1), EASY, seed=2)
    found, plain = trace_in_time(detections), trace_chains(detections)
    assert found.least_confidence is None
    assert [t.candidate.tolist() for t in found.traces] == [t.candidate.tolist() for t in plain]


def test_candidates_that_are_never_traced_in_time_say_what_to_do(slow_solver):
    slow_solver(0)
    with pytest.raises(NoChainError, match=r"surest of 50 candidates were tried last.*cut the map out"):
        trace_in_time(crowd().take(torch.arange(50)))
