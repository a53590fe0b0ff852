"""Pictures of states beside each other: how far each residue moves, and with which domain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tasks.plots.style import BLUE, GREEN, GREY, INK, ORANGE, RED, figure_with_axes, in_style

_COLOURS = (BLUE, ORANGE, GREEN, RED, INK)
"""Of the domains in turn; the fifth and all smaller ones share the last."""
_MOST_CHAINS_NAMED = 30


@in_style
def displacements(displacement_angstrom: NDArray, domain: NDArray, chains: Sequence[str], is_hinge: NDArray) -> Figure:
    """How far each residue moves while the first domain stays, coloured by its domain.

    Parameters
    ----------
    displacement_angstrom
        (residue,)
    domain
        (residue,) from 1; 0 where it is flexible.
    chains
        (residue,) names.
    is_hinge
        (residue,) drawn as marks on the axis.
    """
    figure, axes = figure_with_axes(9.6, 2.6)
    cell = axes[0, 0]
    place = np.arange(len(displacement_angstrom))
    cell.vlines(place[domain == 0], 0, displacement_angstrom[domain == 0], color=GREY, lw=1, label="flexible")
    for number in range(1, int(domain.max(initial=0)) + 1):
        own = domain == number
        name = f"domain {number}" if number <= len(_COLOURS) else None
        cell.vlines(
            place[own], 0, displacement_angstrom[own], color=_COLOURS[min(number, len(_COLOURS)) - 1], lw=1, label=name
        )
    top = max(float(displacement_angstrom.max(initial=0)), 1.0)
    cell.plot(place[is_hinge], np.full(int(is_hinge.sum()), -0.04 * top), "^", color=INK, ms=3, label="hinge")
    starts = [i for i, chain in enumerate(chains) if i == 0 or chain != chains[i - 1]]
    if len(starts) <= _MOST_CHAINS_NAMED:
        for start in starts:
            cell.axvline(start - 0.5, color=GREY, lw=0.6)
            cell.text(start + 0.5, top, chains[start], fontsize=8, color=INK, va="top")
    cell.set_xlim(-1, len(place))
    cell.set_ylim(-0.08 * top, 1.05 * top)
    cell.set_xlabel("residues in both states, in the order of the first one's chains")
    cell.set_ylabel("moves by / Å")
    cell.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
