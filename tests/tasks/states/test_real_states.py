"""Crystal structures of two states: what is told to move is what was published to move."""

import pytest
import torch

from kernels.models.atomic_model import AtomicModel
from kernels.models.pockets import Probes, pockets, radii
from tasks.formats.structure import read_structure
from tasks.records.state_comparison import StateComparison
from tasks.states.comparison import compared

pytestmark = pytest.mark.real


def states(folder, first: str, second: str, probes: Probes | None = None) -> StateComparison:
    models = [read_structure(folder / "structures_bm5" / f"{name}_b-matched.pdb.gz") for name in (first, second)]
    return compared(models[0], models[1], (first, second), probes=probes)[0]


def moved(found: StateComparison, numbers: range) -> float:
    """Median displacement of some residues."""
    values = [row.displacement_angstrom for row in found.residues if row.number in numbers]
    return float(torch.tensor(values).median())


def test_ras_opens_its_nucleotide_site_for_its_exchange_factor(real_data):
    """Boriack-Sjodin et al. 1998, Nature 394:337: SOS pulls switch 1 away and changes switch 2."""
    found = states(real_data, "1WQ1_l", "1BKD_l", Probes())
    (core,) = found.domains
    assert core.n_residues > 110 and core.rmsd_angstrom < 0.6
    assert moved(found, range(28, 39)) > 8 and moved(found, range(60, 63)) > 4
    assert moved(found, range(76, 100)) < 1
    site = max(found.pockets, key=lambda pocket: len({"B/GLY13", "B/LYS16", "B/SER17"} & set(pocket.lining)))
    assert {"B/GLY13", "B/GLY15", "B/LYS16"} <= set(site.lining)
    assert site.change == "smaller" and site.volumes_angstrom3[0] > 400


def test_domains_of_an_antibody_bend_where_they_are_joined(real_data):
    """CH2 from CH3 of Fc: the joint is told to lie at residues 340 and 341 in the numbers of Edelman."""
    found = states(real_data, "1FC2_l", "1FCC_r")
    assert len(found.domains) == 2
    (hinge,) = found.hinges
    first, last = (int(end.removeprefix("B/")[3:]) for end in (hinge.first, hinge.last))
    assert 334 <= first <= 341 <= last + 1 <= 348
    assert 5 < found.motions[0].angle_deg < 15


def test_a_rigid_enzyme_with_two_inhibitors_stands_still(real_data):
    found = states(real_data, "2SIC_r", "2SNI_r", Probes())
    assert len(found.domains) == 1 and found.n_flexible < 6
    assert {pocket.change for pocket in found.pockets} == {"same"}


@pytest.mark.parametrize("name", ["6m2b_EZO", "6wtn_RXT", "6yr2_T1C", "6zpb_3D1", "7afx_R9K", "7jmv_4NC", "7qfm_AY3"])
def test_ligands_lie_in_pockets(real_data, name):
    model = read_structure(real_data / "complexes_posebusters" / f"{name}.pdb.gz")
    ligand = torch.tensor([residue.name == name[-3:] for residue in model.residues])
    protein = _heavy(model.take_residues(model.amino_acid >= 0))
    found = pockets(
        protein.coordinates_angstrom, radii(protein.elements), protein.residue, protein.n_residues, Probes()
    )
    atoms = _heavy(model.take_residues(ligand)).coordinates_angstrom
    distance = torch.cdist(atoms, found.place_angstrom[found.pocket == 0]).amin(1)
    assert float((distance < 1).double().mean()) > 0.7


def _heavy(model: AtomicModel) -> AtomicModel:
    return model.take(torch.tensor([element not in ("H", "D") for element in model.elements]))
