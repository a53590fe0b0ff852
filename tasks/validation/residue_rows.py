"""What was judged of each residue as records, and regions of residues that are not trusted."""

from __future__ import annotations

import math
from itertools import groupby

import torch
from torch import Tensor

from kernels.models.assessment import Assessment
from kernels.models.atomic_model import AtomicModel
from kernels.models.geometry import ROTAMER_OUTLIER_DEG
from kernels.models.nucleotide_reliability import nucleotide_probabilities
from kernels.models.ramachandran import VERDICTS as RAMACHANDRAN
from kernels.models.reliability import VERDICTS, probabilities, verdicts
from tasks.records.model import Region, ResidueValidation

_LOW_Q_SHARE = 0.7
"""Of the expected Q-score, below which a region's density is called weak."""

_SHIFT_FITS = 2.0
"""Of the evidence for a shift of register: of right residues, 2 % have more at 3 Å and 5 % at 5 Å."""

_TURNED_CONTRAST = -0.2


def residue_probability(found: Assessment) -> Tensor:
    """(residue,) that each amino acid or nucleotide is right; NaN for what is neither."""
    return torch.where(found.is_nucleotide, nucleotide_probabilities(found), probabilities(found))


def residue_rows(
    model: AtomicModel, found: Assessment, amino_acid_fit: Tensor | None = None
) -> list[ResidueValidation]:
    """Each residue of a model with what was judged of it."""
    probability = residue_probability(found)
    verdict = verdicts(probability, found.q_score, found.q_expected).tolist()
    figures = {
        name: [rounded(value, digits) for value in values.tolist()]
        for name, values, digits in (
            ("local_resolution_angstrom", found.resolution_angstrom, 2),
            ("q_score", found.q_score, 3),
            ("q_backbone", found.q_backbone, 3),
            ("q_side_chain", found.q_side_chain, 3),
            ("q_expected", found.q_expected, 3),
            ("correlation", found.correlation, 3),
            ("phi_deg", found.phi_deg, 1),
            ("psi_deg", found.psi_deg, 1),
            ("omega_deg", found.omega_deg, 1),
            ("ramachandran_share", found.ramachandran, 5),
            ("rotamer_deg", found.rotamer_deg, 1),
            ("cbeta_angstrom", found.cbeta_angstrom, 3),
            ("worst_bond_sigma", found.worst_bond_sigma, 2),
            ("worst_angle_sigma", found.worst_angle_sigma, 2),
            ("side_chain_fit", found.side_chain_fit, 2),
            ("register_shift", torch.where(found.side_chain_fit.isnan(), math.nan, found.register_shift), 2),
            ("base_contrast", found.base_contrast, 2),
            ("probability", probability, 4),
            ("amino_acid_fit", torch.full_like(probability, math.nan) if amino_acid_fit is None else amino_acid_fit, 3),
        )
    }
    rama = found.ramachandran_verdict.tolist()
    n_clashes = found.n_clashes.long().tolist()
    rows = []
    for i, about in enumerate(model.residues):
        mine = {name: values[i] for name, values in figures.items()}
        rotamer = mine["rotamer_deg"]
        rows.append(
            ResidueValidation.model_validate(
                {
                    "chain": about.chain,
                    "number": about.number,
                    "insertion_code": about.insertion_code,
                    "name": about.name,
                    "ramachandran": RAMACHANDRAN[rama[i]] if rama[i] >= 0 else None,
                    "is_rotamer_outlier": None if rotamer is None else rotamer > ROTAMER_OUTLIER_DEG,
                    "n_clashes": n_clashes[i],
                    "verdict": VERDICTS[verdict[i]] if verdict[i] >= 0 else None,
                    **mine,
                }
            )
        )
    return rows


def _plural(what: str) -> str:
    noun, _, rest = what.partition(" with ")
    return f"{noun}s with {rest}" if rest else f"{noun}s"


def rounded(value: float | None, digits: int) -> float | None:
    """A figure as it is shown; None where there is none."""
    return None if value is None or math.isnan(value) else round(value, digits)


def doubtful_regions(rows: list[ResidueValidation]) -> list[Region]:
    """Rows one after the other in a chain with the same verdict, but those that are trusted."""
    regions: list[Region] = []
    for (chain, verdict), group in groupby(enumerate(rows), key=lambda pair: (pair[1].chain, pair[1].verdict)):
        members = list(group)
        if verdict is None or verdict == "trust":
            continue
        some = [row for _, row in members]
        first, last = some[0], some[-1]
        probability = [row.probability for row in some if row.probability is not None]
        regions.append(
            Region(
                chain=chain,
                first=f"{first.number}{first.insertion_code}",
                last=f"{last.number}{last.insertion_code}",
                n_residues=len(some),
                verdict=verdict,
                probability=round(sum(probability) / max(1, len(probability)), 3),
                reasons=tuple(_reasons(some)),
            )
        )
    return regions


def _reasons(rows: list[ResidueValidation]) -> list[str]:
    """What speaks against a region, the gravest first."""
    found = []
    q_scores = [row.q_score / row.q_expected for row in rows if row.q_score is not None and row.q_expected > 0]
    if q_scores and sum(q_scores) / len(q_scores) < _LOW_Q_SHARE:
        found.append(f"weak density: Q-score {100 * sum(q_scores) / len(q_scores):.0f} % of what is expected")
    shifts = [row.register_shift for row in rows if row.register_shift is not None]
    if shifts and sum(shift > _SHIFT_FITS for shift in shifts) * 2 > len(shifts):
        found.append("the sequence shifted by one to three residues fits better")
    turned = [row.base_contrast for row in rows if row.base_contrast is not None]
    n_turned = sum(contrast < _TURNED_CONTRAST for contrast in turned)
    for what, count in (
        ("base with more density if turned over", n_turned),
        ("Ramachandran outlier", sum(row.ramachandran == "outlier" for row in rows)),
        ("rotamer outlier", sum(bool(row.is_rotamer_outlier) for row in rows)),
        ("residue with clashes", sum(row.n_clashes > 0 for row in rows)),
    ):
        if count:
            found.append(f"{count} {what if count == 1 else _plural(what)}")
    return found or [f"{'bases' if turned else 'side chains or peptides'} that fit the density less well than others"]
