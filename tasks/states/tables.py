"""A comparison of states in words and figures, for a table on a screen or a page."""

from __future__ import annotations

from typing import NamedTuple

from tasks.records.state_comparison import StateComparison

_DOMAIN_COLUMNS = ("domain", "residues", "RMSD", "where")
_MOTION_COLUMNS = ("domains", "turn", "shift along axis", "closure", "moves by", "centres apart", "axis")
_POCKET_COLUMNS = ("pocket", "volume", "lined by")
_HINGE_COLUMNS = ("hinge between", "from", "to", "off the axis")
_DISTANCE_COLUMNS = ("from", "to", "Cα or C4'", "nearest atoms")
_MOST_RANGES, _MOST_LINING = 6, 6


class Table(NamedTuple):
    """Words of its cells."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def summary_words(found: StateComparison) -> str:
    """One line: how much is the same, and how much is rigid."""
    n_rigid = found.n_same - found.n_flexible
    words = (
        f"{found.first} ({found.n_first} residues) and {found.second} ({found.n_second}): {found.n_same} in both,"
        f" {found.rmsd_angstrom:.2f} Å RMSD as a whole; {n_rigid} in {len(found.domains)} rigid"
        f" {'domain' if len(found.domains) == 1 else 'domains'} within {found.tolerance_angstrom:.1f} Å"
    )
    return words + (f"; {found.n_mutated} with another letter" if found.n_mutated else "")


def tables_of(found: StateComparison, most_pockets: int | None = None) -> list[Table]:
    """Domains, motions, hinges, distances and pockets that change; those that there are."""
    tables = (
        Table(_DOMAIN_COLUMNS, _domain_rows(found)),
        Table(_MOTION_COLUMNS, _motion_rows(found)),
        Table(_HINGE_COLUMNS, _hinge_rows(found)),
        Table(_DISTANCE_COLUMNS, _distance_rows(found)),
        Table(_POCKET_COLUMNS, _pocket_rows(found)[:most_pockets]),
    )
    return [table for table in tables if table.rows]


def _domain_rows(found: StateComparison) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (str(one.number), str(one.n_residues), f"{one.rmsd_angstrom:.2f} Å", _few(one.ranges, _MOST_RANGES))
        for one in found.domains
    ]
    return [*rows, ("flexible", str(found.n_flexible), "", "")] if found.n_flexible else rows


def _motion_rows(found: StateComparison) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for one in found.motions:
        axis = "no hinge in between"
        if one.axis_to_hinge_angstrom is not None:
            kind = "at the hinge" if one.is_hinge_axis else "off the hinge"
            axis = f"{kind}, {one.axis_to_hinge_angstrom:.1f} Å"
        before, after = one.distances_angstrom
        rows.append(
            (
                f"{one.moving} against {one.fixed}",
                f"{one.angle_deg:.1f}°",
                f"{one.shift_angstrom:.1f} Å",
                f"{one.closure_percent:.0f} %",
                f"{one.displacement_angstrom:.1f} Å",
                f"{before:.1f} to {after:.1f} Å",
                axis,
            )
        )
    return rows


def _pocket_rows(found: StateComparison) -> list[tuple[str, ...]]:
    """Those that change alone."""
    return [
        (one.change, "{:.0f} to {:.0f} Å³".format(*one.volumes_angstrom3), _few(one.lining, _MOST_LINING))
        for one in found.pockets
        if one.change != "same"
    ]


def _hinge_rows(found: StateComparison) -> list[tuple[str, ...]]:
    return [
        ("{} and {}".format(*one.domains), one.first, one.last, f"{one.axis_distance_angstrom:.1f} Å")
        for one in found.hinges
    ]


def _distance_rows(found: StateComparison) -> list[tuple[str, ...]]:
    return [
        (
            one.first,
            one.second,
            *("{:.1f} to {:.1f} Å".format(*pair) for pair in (one.traces_angstrom, one.nearest_angstrom)),
        )
        for one in found.distances
    ]


def _few(words: tuple[str, ...], most: int) -> str:
    left = len(words) - most
    return ", ".join(words[:most]) + (f" and {left} more" if left > 0 else "")
