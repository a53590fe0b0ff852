"""What is known of atomic models: each residue judged in its map, and the model as a whole."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Verdict = Literal["trust", "rebuild", "not supported"]


class ResidueValidation(BaseModel):
    """One residue; None where a figure does not apply to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chain: str
    number: int
    insertion_code: str = ""
    name: str
    """Of the monomer: ALA, A, HEM, HOH."""
    local_resolution_angstrom: float
    """Where the residue stands; of the whole map where there are no half maps."""
    q_score: float | None
    """Mean of its atoms."""
    q_backbone: float | None
    q_side_chain: float | None
    q_expected: float
    """Of well-built models at this resolution."""
    correlation: float | None
    """Of the map with the model's density around the residue's atoms."""
    phi_deg: float | None
    psi_deg: float | None
    omega_deg: float | None
    """Of the peptide to the residue before."""
    ramachandran: Literal["favoured", "allowed", "outlier"] | None
    ramachandran_share: float | None
    """Of residues of good structures, those that are less usual."""
    rotamer_deg: float | None
    """Largest difference of a chi angle from the nearest rotamer."""
    is_rotamer_outlier: bool | None
    cbeta_angstrom: float | None
    """Distance of CB from where the backbone puts it."""
    worst_bond_sigma: float | None
    """Of the backbone's bonds."""
    worst_angle_sigma: float | None
    n_clashes: int
    side_chain_fit: float | None
    """Logarithm of the probability of its amino acid, by the density beside its backbone, over that one's share; of a
    nucleotide, that of its base by the density in its plane."""
    register_shift: float | None
    """How much better the density around fits the sequence shifted by one to three residues, in the same unit, summed
    over six residues on either side; positive where it does."""
    amino_acid_fit: float | None = None
    """Logarithm of the network's probability for its own amino acid over the mean one, as DAQ; None without network."""
    probability: float | None
    """That backbone, side chain and amino acid, or backbone, base and its type, are right; None for what is neither
    amino acid nor a whole nucleotide."""
    base_contrast: float | None = None
    """Of a nucleotide: density at its base less that with the base turned over, in units of the sugars'."""
    verdict: Verdict | None

    @property
    def is_doubted(self) -> bool:
        """Whether it was judged, and is not trusted as it stands."""
        return self.verdict not in (None, "trust")


class Element(BaseModel):
    """A helix or a strand of a traced model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["helix", "strand"]
    chain: str
    first: str
    """Number of the first residue."""
    last: str
    start_angstrom: tuple[float, float, float]
    """End of its axis at the first residue, (z, y, x)."""
    end_angstrom: tuple[float, float, float]
    probability: float
    """Mean of its residues'."""


class Region(BaseModel):
    """Residues in a row that are not trusted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chain: str
    first: str
    """Number of the first residue, with its insertion code."""
    last: str
    n_residues: int = Field(ge=1)
    verdict: Verdict
    probability: float
    """Mean over the region."""
    reasons: tuple[str, ...]


class ModelValidation(BaseModel):
    """A model judged in its map."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_residues: int
    n_atoms: int
    """Without hydrogens."""
    resolution_angstrom: float
    resolution_source: Literal["given", "half maps", "map and model"]
    """Half maps: FSC 0.143 inside of the model's mask; map and model: where their FSC falls below 0.5."""
    map_model_resolution_angstrom: float
    """Where the FSC of map and model falls below 0.5."""
    fsc_map: float
    """Mean of that curve up to the resolution, weighted by coefficients."""
    fsc_work: float | None
    """The same for the first half map, with which the model was refined."""
    fsc_free: float | None
    """For the second one; where it is much lower, the model follows noise."""
    cc_mask: float
    cc_box: float
    cc_peaks: float
    q_score: float
    """Mean over all atoms but hydrogens and waters."""
    q_expected: float
    ramachandran_favoured_percent: float | None
    ramachandran_outlier_percent: float | None
    rotamer_outlier_percent: float | None
    """Chi angles further than 40 degrees from every rotamer, a rule of this program."""
    clashscore: float
    n_cbeta_outliers: int
    n_cis_peptides: int
    """Other than before proline."""
    n_twisted_peptides: int
    n_bond_outliers: int
    """Residues with a bond of the backbone further than four standard deviations from ideal."""
    n_angle_outliers: int
    trusted_percent: float | None
    """Of the residues that have a verdict."""
    decision: Literal["deposit", "rebuild", "collect more"]
    decision_reason: str
    regions: tuple[Region, ...]
    """That are not trusted, in the order of the chain."""
    residues: tuple[ResidueValidation, ...]
