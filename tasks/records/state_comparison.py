"""What moves between two states of a molecule, as a record."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, SupportsFloat

from pydantic import BaseModel, ConfigDict

Place = tuple[float, float, float]
"""(z, y, x) in Å."""
PocketChange = Literal["opened", "closed", "larger", "smaller", "same"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DomainOfStates(_Frozen):
    """Residues that keep their places relative to each other."""

    number: int
    """From 1, the largest first."""
    n_residues: int
    ranges: tuple[str, ...]
    """Stretches of the chains, as ``A/12-87``, in the first state's numbers."""
    rmsd_angstrom: float
    """Of Cα or C4' after its superposition."""
    centre_angstrom: Place
    """In the first state."""


class MotionOfDomain(_Frozen):
    """A domain that turns and shifts against another one, in the frame of the first state."""

    fixed: int
    moving: int
    angle_deg: float
    axis: Place
    """Direction, of length 1; the turn is counterclockwise seen against it."""
    point_angstrom: Place
    """Of the axis, nearest to the middle between the domains."""
    shift_angstrom: float
    """Along the axis."""
    closure_percent: float
    """Share of the turn that opens or closes the domains; the rest twists them."""
    displacement_angstrom: float
    """Root mean square of the moving domain's residues."""
    distances_angstrom: tuple[float, float]
    """Between the centres, in both states."""
    n_hinges: int
    axis_to_hinge_angstrom: float | None
    """To the nearest bending residue; None where no chain passes from one to the other."""
    is_hinge_axis: bool
    """Whether that is near enough for the domains to turn about the hinge."""


class HingeOfStates(_Frozen):
    """Residues at which a chain passes from one domain to another."""

    domains: tuple[int, int]
    first: str
    """Last residue of the domain before."""
    last: str
    """First residue of the domain after."""
    axis_distance_angstrom: float


class DistanceOfStates(_Frozen):
    """Between two residues that somebody asked about."""

    first: str
    second: str
    traces_angstrom: tuple[float, float]
    """Between Cα or C4', in both states."""
    nearest_angstrom: tuple[float, float]
    """Between the nearest atoms but hydrogens."""


class PocketOfStates(_Frozen):
    """A pocket of one state, and what stands for it in the other one."""

    change: PocketChange
    volumes_angstrom3: tuple[float, float]
    """In both states; 0 where there is none."""
    centre_angstrom: Place
    """In the frame of the first state."""
    lining: tuple[str, ...]


class ResidueOfStates(_Frozen):
    """One residue of both states."""

    chain: str
    number: int
    insertion_code: str = ""
    name: str
    other_chain: str
    other_number: int
    other_name: str
    domain: int | None
    """None where it is flexible."""
    displacement_angstrom: float
    """After superposition on the first domain."""
    deviation_angstrom: float | None
    """After superposition on its own domain."""
    is_hinge: bool


class StateComparison(_Frozen):
    """Two states of a molecule beside each other."""

    first: str
    """Session and model."""
    second: str
    n_first: int
    """Residues of proteins and nucleic acids."""
    n_second: int
    n_same: int
    """In both."""
    n_mutated: int
    """Of these, with another letter."""
    rmsd_angstrom: float
    """Of all of them after one superposition."""
    error_angstrom: float
    """By which residues differ among their neighbours: what the models' coordinates are good for."""
    tolerance_angstrom: float
    n_flexible: int
    domains: tuple[DomainOfStates, ...]
    motions: tuple[MotionOfDomain, ...]
    hinges: tuple[HingeOfStates, ...]
    distances: tuple[DistanceOfStates, ...]
    pockets: tuple[PocketOfStates, ...]
    residues: tuple[ResidueOfStates, ...]


def place_of(values: Iterable[SupportsFloat], digits: int = 2) -> Place:
    """(z, y, x), a tensor for instance, as a record holds it."""
    z, y, x = (round(float(v), digits) for v in values)
    return z, y, x
