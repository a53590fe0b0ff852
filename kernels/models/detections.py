"""What the detection network tells of a map: candidates for residues, each with its frame, neighbours and type."""

from __future__ import annotations

from dataclasses import dataclass, fields

from torch import Tensor

from kernels.models.polymers import NUCLEIC_ACID, PROTEIN, Polymer


@dataclass(frozen=True)
class ProteinDetections:
    """Candidates for amino acids, the surest first; positions in Å, (z, y, x), in the frame of the map."""

    alpha_angstrom: Tensor
    """(n, 3) Cα."""
    confidence: Tensor
    """(n,) calibrated probability that a Cα lies within 2 Å."""
    backbone_offset_angstrom: Tensor
    """(n, 3, 3) from the Cα to N, C and O."""
    next_offset_angstrom: Tensor
    """(n, 3) from the Cα to that of the next residue towards the C terminus."""
    previous_offset_angstrom: Tensor
    """(n, 3) from the Cα to that of the residue before."""
    amino_acid: Tensor
    """(n, 20) probabilities in the order of `residues.AMINO_ACIDS`."""
    secondary_structure: Tensor
    """(n, 3) probabilities in the order of `residues.SECONDARY_STRUCTURES`."""

    def __len__(self) -> int:
        return len(self.confidence)

    @property
    def polymer(self) -> Polymer:
        """The kind of chain that they are of."""
        return PROTEIN

    @property
    def place_angstrom(self) -> Tensor:
        """(n, 3) of the atom that chains are traced by."""
        return self.alpha_angstrom

    @property
    def types(self) -> Tensor:
        """(n, type) probabilities in the order of the polymer's letters."""
        return self.amino_acid

    def surest(self, least_confidence: float) -> ProteinDetections:
        """Candidates of at least this confidence."""
        return self.take(self.confidence >= least_confidence)

    def take(self, index: Tensor) -> ProteinDetections:
        """Some of them, by a mask or by their rows."""
        return ProteinDetections(*(getattr(self, field.name)[index] for field in fields(self)))

    def on_cpu(self) -> ProteinDetections:
        """The same in single precision on the CPU."""
        return ProteinDetections(*(getattr(self, field.name).float().cpu() for field in fields(self)))


@dataclass(frozen=True)
class NucleotideDetections:
    """Candidates for nucleotides, the surest first; positions in Å, (z, y, x), in the frame of the map."""

    sugar_angstrom: Tensor
    """(n, 3) C4'."""
    confidence: Tensor
    """(n,) calibrated probability that a C4' lies within 3 Å."""
    phosphate_offset_angstrom: Tensor
    """(n, 3) from the C4' to the P of the same nucleotide."""
    base_offset_angstrom: Tensor
    """(n, 3) from the C4' to the centre of the base's ring atoms."""
    next_offset_angstrom: Tensor
    """(n, 3) from the C4' to that of the next nucleotide towards the 3' end."""
    previous_offset_angstrom: Tensor
    """(n, 3) from the C4' to that of the nucleotide before."""
    base: Tensor
    """(n, 4) probabilities in the order of `residues.BASES`."""

    def __len__(self) -> int:
        return len(self.confidence)

    @property
    def polymer(self) -> Polymer:
        """The kind of chain that they are of."""
        return NUCLEIC_ACID

    @property
    def place_angstrom(self) -> Tensor:
        """(n, 3) of the atom that chains are traced by."""
        return self.sugar_angstrom

    @property
    def types(self) -> Tensor:
        """(n, type) probabilities in the order of the polymer's letters."""
        return self.base

    def surest(self, least_confidence: float) -> NucleotideDetections:
        """Candidates of at least this confidence."""
        return self.take(self.confidence >= least_confidence)

    def take(self, kept: Tensor) -> NucleotideDetections:
        """Some candidates, by a mask or indices."""
        return NucleotideDetections(*(getattr(self, field.name)[kept] for field in fields(self)))

    def on_cpu(self) -> NucleotideDetections:
        """The same in single precision on the CPU."""
        return NucleotideDetections(*(getattr(self, field.name).float().cpu() for field in fields(self)))


Detections = ProteinDetections | NucleotideDetections
"""Candidates for residues of one kind of chain."""
