"""A predicted structure: atoms, and how sure the engine is of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kernels.models.atomic_model import AtomicModel


@dataclass(frozen=True, eq=False)
class PredictedStructure:
    """One hypothesis of an engine, in a frame of its own."""

    model: AtomicModel
    """B-factors are those of no experiment; they are 0."""
    plddt: Tensor
    """(residue,) predicted lDDT, 0 to 100, mean of the residue's atoms."""
    pae_angstrom: Tensor | None
    """(residue, residue) predicted aligned error: how far off the second is expected when the first is laid right.
    None where the engine tells none."""
    ptm: float | None = None
    """Predicted TM-score, 0 to 1."""
    iptm: float | None = None
    """The same of the contacts between chains."""

    def __post_init__(self) -> None:
        n = self.model.n_residues
        if tuple(self.plddt.shape) != (n,):
            raise ValueError(f"pLDDT has shape {tuple(self.plddt.shape)}; expected ({n},), one for each residue")
        if self.pae_angstrom is not None and tuple(self.pae_angstrom.shape) != (n, n):
            raise ValueError(f"PAE has shape {tuple(self.pae_angstrom.shape)}; expected {(n, n)}, residues by residues")
