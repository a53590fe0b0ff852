"""Parts that were moved as one are found as domains, whatever turn and error the states have."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.models.residue_places import representatives
from kernels.models.rigid_domains import rigid_domains
from kernels.rotations import from_rotation_vector
from tests.truth.cage_model import cage_subunit
from tests.truth.states import laid_elsewhere, turned

MODEL = cage_subunit()
PLACES = representatives(MODEL)


def nearer_half() -> torch.Tensor:
    """Whole helices of the subunit that lie beside each other: the part of a domain that a knife would cut off."""
    axis = torch.linalg.svd(PLACES - PLACES.mean(0), full_matrices=False).Vh[0]
    along = (PLACES - PLACES.mean(0)) @ axis
    return along > along.median()


@settings(max_examples=8, deadline=None)
@given(angle=st.floats(12, 180), seed=st.integers(0, 1000), error=st.sampled_from([0.0, 0.3, 0.6]))
def test_the_residues_that_were_turned_are_one_domain(angle, seed, error):
    moves = nearer_half()
    axis = torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    second = laid_elsewhere(turned(MODEL, moves, axis, PLACES.mean(0), angle, 0.0), error)
    found = rigid_domains(PLACES, representatives(second))
    assert len(found) == 2
    moving = 0 if moves[found.domain == 0].double().mean() > 0.5 else 1
    wrong = ((found.domain == moving) & ~moves) | ((found.domain == 1 - moving) & moves)
    # near the axis both motions are the same
    assert int(wrong.sum()) <= 0.04 * len(PLACES)
    assert int((found.domain < 0).sum()) <= 0.2 * len(PLACES)


def test_a_molecule_that_lies_elsewhere_is_one_domain():
    found = rigid_domains(PLACES, representatives(laid_elsewhere(MODEL, 0.5)))
    assert len(found) == 1
    assert int((found.domain == 0).sum()) >= 0.95 * len(PLACES)
    # two models with errors of 0 and 0.5 Å
    assert found.error_angstrom == pytest.approx(0.5, abs=0.1)
    torch.testing.assert_close(found.moved(PLACES), representatives(laid_elsewhere(MODEL)), atol=0.2, rtol=0)
    torch.testing.assert_close(found.returned(found.moved(PLACES)), PLACES)


def test_chains_that_move_apart_are_domains_of_their_own():
    pair = torch.cat([PLACES, PLACES + torch.tensor([0.0, 0.0, 30.0])])
    apart = pair.clone()
    apart[len(PLACES) :] += torch.tensor([0.0, 0.0, 4.0])
    found = rigid_domains(pair, apart)
    assert torch.equal(found.domain, (torch.arange(len(pair)) >= len(PLACES)).long())


def test_a_loop_that_melts_is_flexible():
    generator = torch.Generator().manual_seed(2)
    second = PLACES.clone()
    second[60:75] += 5 * torch.randn(15, 3, generator=generator, dtype=torch.float64)
    found = rigid_domains(PLACES, second)
    assert len(found) == 1
    assert int((found.domain[60:75] < 0).sum()) >= 14
    assert int((found.domain < 0).sum()) <= 16


def test_small_parts_are_no_domains():
    second = PLACES.clone()
    turn = from_rotation_vector(torch.tensor([0.0, math.pi / 3, 0.0], dtype=torch.float64))
    second[-24:] = (PLACES[-24:] - PLACES[-24]) @ turn.T + PLACES[-24]
    assert len(rigid_domains(PLACES, second, fewest=30)) == 1
    assert len(rigid_domains(PLACES, second)) == 2


def test_the_same_residues_are_told_every_time():
    second = representatives(laid_elsewhere(turned(MODEL, nearer_half(), PLACES[0], PLACES.mean(0), 20.0, 1.0), 0.4))
    first, again = (rigid_domains(PLACES, second) for _ in range(2))
    assert torch.equal(first.domain, again.domain) and torch.equal(first.rotation, again.rotation)


def test_what_keeps_no_shape_is_told():
    with pytest.raises(ValueError, match="keep their distances within"):
        rigid_domains(PLACES, PLACES[torch.randperm(len(PLACES), generator=torch.Generator().manual_seed(1))])
    with pytest.raises(ValueError, match="expected 20 at least"):
        rigid_domains(PLACES[:10], PLACES[:10])
