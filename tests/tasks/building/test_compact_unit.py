"""Residues that were found in any of their copies stand together again."""

import torch

from kernels.maps.grid import DensityGrid
from kernels.models.asymmetric_unit import moved, one_of_each
from kernels.models.atomic_model import joined
from kernels.models.mates import Mates
from tasks.building.build_chains import build_chains
from tasks.building.compact_unit import compact, is_apart_from_mates
from tests.truth.cage_model import cage_subunit
from tests.truth.protein_detections import DetectorNoise, cage_subunits, simulated_detections


def cage_mates() -> Mates:
    return Mates.about("O", DensityGrid(torch.zeros(8, 8, 8), 1.0, torch.full((3,), -4.0, dtype=torch.float64)))


def test_a_chain_is_built_of_residues_that_lay_in_24_copies():
    (truth,) = cage_subunits(1)
    mates = cage_mates()
    found = one_of_each(simulated_detections([truth], DetectorNoise(), seed=5), mates)
    operation = torch.randint(24, (len(found),), generator=torch.Generator().manual_seed(2))
    scattered = moved(found, mates, operation)
    built = build_chains(compact(scattered, mates), (truth.sequence,), (1,))
    place = built.model.positions("CA")[:, 0]
    number = torch.tensor([r.number - 1 for r in built.model.residues])
    # all in one of the copies, and with the right numbers; 94 % of them where nothing was scattered
    apart = [(copy - truth.alpha_angstrom[number]).norm(dim=1) for copy in mates.of(place)]
    in_place = max(int((distance < 3).sum()) for distance in apart)
    assert in_place > 0.75 * len(truth.position)


def test_residues_where_a_copy_of_a_surer_chain_stands_are_told():
    subunit, mates = cage_subunit(40), cage_mates()
    alone = is_apart_from_mates(subunit, mates)
    assert alone.all()
    copied = subunit.at(mates.of(subunit.coordinates_angstrom)[7])
    renamed = type(subunit)(
        tuple(type(r)("B", r.name, r.number) for r in copied.residues), copied.residue, copied.names, copied.elements,
        copied.coordinates_angstrom, copied.b_factor_angstrom2, copied.occupancy,
    )  # fmt: skip
    both = is_apart_from_mates(joined([subunit, renamed]), mates)
    assert both[:40].all() and not both[40:].any()
