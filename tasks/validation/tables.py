"""A validation in words and figures, for a table on a screen or a page."""

from __future__ import annotations

from tasks.records.model import ModelValidation

_MOST_REGIONS = 40


def summary_rows(found: ModelValidation) -> list[tuple[str, str, str]]:
    """(what, figure, aim) of the model as a whole."""
    of_map = f"{found.resolution_angstrom:.2f} Å ({found.resolution_source})"
    rows = [
        ("residues, atoms", f"{found.n_residues}, {found.n_atoms}", ""),
        ("resolution of the map", of_map, ""),
        ("map-model FSC 0.5", f"{found.map_model_resolution_angstrom:.2f} Å", "that of the map"),
        ("map-model FSC, mean", _figure(found.fsc_map, 3), ""),
        ("CC mask, box, peaks", f"{found.cc_mask:.3f}, {found.cc_box:.3f}, {found.cc_peaks:.3f}", "mask above 0.7"),
        ("Q-score", _figure(found.q_score, 3), f"{found.q_expected:.3f} at this resolution"),
        ("Ramachandran favoured", _figure(found.ramachandran_favoured_percent, 2, " %"), "98 %"),
        ("Ramachandran outliers", _figure(found.ramachandran_outlier_percent, 2, " %"), "below 0.2 %"),
        ("rotamer outliers", _figure(found.rotamer_outlier_percent, 2, " %"), "below 2 %"),
        ("clashscore", _figure(found.clashscore, 2), "below 6"),
        ("Cβ deviations from 0.25 Å on", str(found.n_cbeta_outliers), "0"),
        ("cis peptides not before proline, twisted", f"{found.n_cis_peptides}, {found.n_twisted_peptides}", "0, 0"),
        ("bond, angle outliers", f"{found.n_bond_outliers}, {found.n_angle_outliers}", "0, 0"),
        ("residues trusted", _figure(found.trusted_percent, 1, " %"), "90 %"),
    ]
    if found.fsc_work is not None and found.fsc_free is not None:
        rows.insert(4, ("FSC with half 1, half 2", f"{found.fsc_work:.3f}, {found.fsc_free:.3f}", "alike"))
    return rows


def region_rows(found: ModelValidation) -> list[tuple[str, str, str, str, str]]:
    """(chain, residues, verdict, probability, why) of the regions that are not trusted, the longest of very many."""
    chosen = sorted(found.regions, key=lambda region: -region.n_residues)[:_MOST_REGIONS]
    rows: list[tuple[str, str, str, str, str]] = [
        (
            region.chain,
            region.first if region.n_residues == 1 else f"{region.first} to {region.last}",
            region.verdict,
            f"{region.probability:.2f}",
            "; ".join(region.reasons),
        )
        for region in found.regions
        if region in chosen
    ]
    if len(chosen) < len(found.regions):
        rows.append(("", f"and {len(found.regions) - len(chosen)} shorter ones", "", "", "see the files"))
    return rows


def _figure(value: float | None, digits: int, unit: str = "") -> str:
    return "none" if value is None else f"{value:.{digits}f}{unit}"
