"""A prediction falls apart where its engine does not know how parts lie to each other."""

from dataclasses import replace

import pytest
import torch

from kernels.models.predicted_structure import PredictedStructure
from tasks.docking.domains import rigid_parts
from tasks.formats.prediction import read_predictions
from tests.truth.peptides import helix
from tests.truth.real_maps import REAL_DATA


def prediction(blocks: list[int], *, n_chains: int = 1) -> PredictedStructure:
    """Blocks of residues that are sure of themselves, 20 Å unsure of each other."""
    n = sum(blocks)
    model = helix("A" * n)
    if n_chains > 1:
        length = n // n_chains
        names = tuple(replace(r, chain="ABCDEF"[i // length]) for i, r in enumerate(model.residues))
        model = replace(model, residues=names)
    block = torch.repeat_interleave(torch.arange(len(blocks)), torch.tensor(blocks))
    pae = torch.where(block[:, None] == block[None], 3.0, 20.0)
    return PredictedStructure(model, torch.full((n,), 90.0), pae)


def numbers(part) -> set[int]:
    return set(torch.nonzero(part.is_taken).squeeze(1).tolist())


def test_parts_that_do_not_know_of_each_other_are_apart():
    split = rigid_parts(prediction([40, 60, 30]))
    assert [int(p.is_taken.sum()) for p in split.parts] == [60, 40, 30]
    assert numbers(split.parts[0]) == set(range(40, 100))
    assert split.parts[0].pae_angstrom == pytest.approx(3.0)
    assert (split.n_untrusted, split.n_small) == (0, 0)


def test_a_part_may_be_made_of_two_stretches():
    whole = prediction([30, 40, 30])
    pae = whole.pae_angstrom.clone()
    pae[:30, 70:] = pae[70:, :30] = 3.0
    split = rigid_parts(replace(whole, pae_angstrom=pae))
    assert [numbers(p) for p in split.parts] == [set(range(30)) | set(range(70, 100)), set(range(30, 70))]


def test_one_sure_direction_is_enough():
    """The error of a small part laid on a large one may be small, and large the other way round."""
    whole = prediction([50, 50])
    pae = whole.pae_angstrom.clone()
    pae[:50, 50:] = 4.0
    assert len(rigid_parts(replace(whole, pae_angstrom=pae)).parts) == 1


def test_what_is_not_trusted_is_left_out_but_for_short_gaps():
    whole = prediction([100])
    plddt = whole.plddt.clone()
    plddt[40:43] = 50.0  # a short loop
    plddt[60:70] = 40.0  # a long one
    plddt[80:90] = 40.0
    plddt[84:86] = 90.0  # a crumb in it
    split = rigid_parts(replace(whole, plddt=plddt))
    (part,) = split.parts
    assert numbers(part) == set(range(60)) | set(range(70, 80)) | set(range(90, 100))
    assert split.n_untrusted == 3 + 10 + 10
    assert part.plddt == pytest.approx(90.0)


def test_chains_are_parts_where_no_error_is_told():
    whole = replace(prediction([80], n_chains=2), pae_angstrom=None)
    split = rigid_parts(whole)
    assert [{r.chain for r in p.model.residues} for p in split.parts] == [{"A"}, {"B"}]
    assert split.parts[0].pae_angstrom is None


def test_chains_that_know_of_each_other_are_one_part():
    (part,) = rigid_parts(prediction([80], n_chains=2)).parts
    assert {r.chain for r in part.model.residues} == {"A", "B"}


def test_nothing_to_place_is_told():
    whole = prediction([60])
    with pytest.raises(ValueError, match=r"of 60 residues 0 have a pLDDT of 70 or more"):
        rigid_parts(replace(whole, plddt=torch.full((60,), 45.0)))
    split = rigid_parts(prediction([60, 10]))
    assert split.n_small == 10


@pytest.mark.skipif(not REAL_DATA.exists(), reason=f"{REAL_DATA} is absent")
def test_a_real_prediction_falls_into_its_three_domains():
    folder = REAL_DATA / "alphafold" / "cctbx"
    (found,) = read_predictions(folder / "pae_model.pdb", folder / "pae.json")
    split = rigid_parts(found.structure)
    assert sum(int(p.is_taken.sum()) for p in split.parts) > 0.6 * found.structure.model.n_residues
    assert len(split.parts) == 3
    for part in split.parts:
        alpha = part.model.positions("CA")[:, 0]
        radius = float((alpha - alpha.mean(0)).square().sum(-1).mean().sqrt())
        assert radius < 1.15 * 2.2 * len(alpha) ** 0.38  # of folded proteins (Skolnick & al.: 2.2 N^0.38 Å)
        assert part.pae_angstrom < 4
