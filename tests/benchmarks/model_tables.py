"""Every figure that models are asked for, in one table of real maps and one of simulated maps.

``python -m tests.benchmarks.session --only models`` runs it; ``--quick`` with few cases of each kind, to see
whether something broke: its figures are no benchmark.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks import (
    acting,
    detection,
    docking,
    flexible_fitting,
    hybrid,
    models,
    nucleic_acids,
    rebuilding,
    secondary_structure,
    states,
    validation,
)
from tests.benchmarks.estimates import Section, measured

_MANY, _FEW = 120, 12
"""Patches of secondary structure."""
_EVERY, _TWO = 1000, 2
"""Structures that errors are planted in for the validation."""
_REBUILT = 13
"""As many of them as errors are repaired in."""
_DOCKED = 16
"""Complexes for each range of resolutions."""
_BENT, _MOVED = 6, 12
"""Chains turned about a hinge at each resolution, and real motions."""
_COMPARED, _PAIRED = 40, 8
"""Chains with a part turned, and real pairs of states."""


def real_sections(folder: Path, data: Path, is_quick: bool) -> Iterator[Section]:
    """Of real maps, none of which anything was tuned on; each when it has been measured."""
    cases = (models.vp6_case,) if is_quick else (models.apoferritin_case, models.vp6_case)
    yield measured("residues found", detection.__doc__, lambda: detection.lines(data))
    for case in cases:
        yield models.modelled(folder, data, case)
    yield measured("merged with predictions", hybrid.__doc__, lambda: hybrid.lines(folder, data))
    yield measured("secondary structure", secondary_structure.__doc__, lambda: secondary_structure.real_lines(data))
    yield measured("docking", docking.__doc__, lambda: docking.real_lines(data))
    yield measured("Q-scores", validation.__doc__, lambda: validation.q_score_lines(data))


def simulated_sections(folder: Path, data: Path, is_quick: bool) -> Iterator[Section]:
    """Of maps simulated from structures that were held out; each when it has been measured."""
    n_docked = 1 if is_quick else _DOCKED
    n_patches, n_planted, n_rebuilt = (_FEW, _TWO, _TWO) if is_quick else (_MANY, _EVERY, _REBUILT)
    n_compared = (_TWO, _TWO) if is_quick else (_COMPARED, _PAIRED)
    n_bent = (_TWO, _TWO) if is_quick else (_BENT, _MOVED)
    levels = nucleic_acids.LEVELS_ANGSTROM[-1:] if is_quick else nucleic_acids.LEVELS_ANGSTROM
    yield models.modelled(folder, data, models.small_simulated_case if is_quick else models.simulated_case)
    yield measured(
        "secondary structure", secondary_structure.__doc__, lambda: secondary_structure.lines(data, n_patches)
    )
    yield measured("nucleic acids", nucleic_acids.__doc__, lambda: nucleic_acids.lines(data, levels))
    yield measured("planted errors", validation.__doc__, lambda: validation.planted_lines(data, n_planted))
    if not is_quick:
        for name in acting.CHAINS:
            yield acting.acted(folder / name, data, name)
    yield measured("rebuilding", rebuilding.__doc__, lambda: rebuilding.lines(data, n_rebuilt))
    yield measured("flexible fitting", flexible_fitting.__doc__, lambda: flexible_fitting.lines(data, *n_bent))
    yield measured("states", states.__doc__, lambda: states.lines(data, *n_compared))
    yield measured("docking", docking.__doc__, lambda: docking.lines(data, n_docked))
    yield measured("docking, cost", docking.__doc__, lambda: docking.cost_lines(data, folder))
