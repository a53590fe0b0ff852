"""Two states of a molecule, each with a model of its own, to what moves between them."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import Field, field_validator, model_validator

from kernels.models.pockets import Probes
from tasks.records.forecast import Need
from tasks.records.session import StageParams, StageReport
from tasks.states.comparison import NAMED_PAIR, compared
from tasks.stores.commit import Attempt
from tasks.stores.products.comparison_store import write_comparison
from tasks.stores.products.model_store import n_copies_of, n_residues_of, read_assembly, read_model
from tasks.stores.session_store import SessionStore
from tasks.workers.stage import Stage, run_stage

_AND, _AS = " and ", " as "
"""In an item: the models of the session that it reads, and its name."""
_BYTES, _BYTES_OF_PAIRS = 15_000_000, 100_000
_BYTES_OF_GRID, _BYTES_OF_POCKETS = 75_000_000, 350_000
"""At least, and a residue of the larger model; the second pair where pockets are looked for, in molecules that fill a
fifth of their box. Measured with real pairs of 166 to 493 residues and up to 4,992."""


class CompareStatesParams(StageParams):
    """Parameters of `compare_states`."""

    other_session: str | None = None
    """Store with the other state; None where it is another model of this session."""
    model: str = "chosen"
    """Name of the session's model, whose frame and numbers everything is told in."""
    other_model: str | None = None
    """Name of the other state's model; None for the same name."""
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Of the comparison; None for the name of the other session or model."""
    distances: tuple[str, ...] = ()
    """Pairs of residues of the session's model, by chain and number, as ``A/10:B/20``."""
    tolerance_angstrom: float | None = Field(default=None, gt=0, le=10)
    """Within which residues lie that move as one body; None for twice the models' error, between 1 and 2 Å."""
    fewest_residues: int = Field(default=20, ge=8)
    """Of a domain."""
    has_copies: bool = False
    """Whether the copies that the point groups of the maps make are compared too, named A, B …: how subunits move
    against each other is told by all of them only."""
    has_pockets: bool = True
    """Whether pockets are looked for."""
    probe_angstrom: float = Field(default=1.4, ge=0.8, le=3)
    """What a pocket has room for: water."""
    large_probe_angstrom: float = Field(default=4.0, ge=2, le=20)
    """What it has no room for."""

    @field_validator("distances")
    @classmethod
    def _name_residues(cls, pairs: tuple[str, ...]) -> tuple[str, ...]:
        for words in pairs:
            if NAMED_PAIR.fullmatch(words) is None:
                raise ValueError(f"distance {words!r}: expected two residues by chain and number, as A/10:B/20")
        return pairs

    @model_validator(mode="after")
    def _are_two(self) -> CompareStatesParams:
        if self.other_session is None and self.other_model in (None, self.model):
            raise ValueError(
                f"the model {self.model!r} is to be compared with itself; name another session, or another model"
                " (`other_model`)"
            )
        self.require_rising("probe_angstrom", "large_probe_angstrom")
        return self

    @property
    def told_other_model(self) -> str:
        return self.other_model or self.model


class _KnownParams(CompareStatesParams):
    """With what the other session holds, so that another model under the same name is another input."""

    name: str
    other_name: str
    """Of the other session."""
    other_fingerprint: str


@task(name="compare_states", cache_policy=NO_CACHE)
def compare_states(session_url: str, params: CompareStatesParams) -> StageReport:
    """``comparisons/<name>``: domains, the axes that they turn about, hinges, distances, pockets, and a residue table.

    Everything is told in the frame of the session's model; the other state is kept beside it with its largest domain
    laid on that of this one. Memory: see `_needs`.

    Raises
    ------
    StoreError
        Where the other session or its model is not there.
    """
    here = SessionStore.open(session_url)
    is_own = params.other_session is None or SessionStore.open(params.other_session).url == here.url
    other = here if is_own or params.other_session is None else SessionStore.open(params.other_session)
    model = params.told_other_model
    record = other.product(f"models/{model}").done_record(f"model {model!r} of {other.url}", "build it first")
    called = model if is_own else other.session.name + ("" if model == params.model else f"-{model}")
    known = _KnownParams(
        **{**params.model_dump(), "name": params.name or called},
        other_name=other.session.name,
        other_fingerprint=record.fingerprint,
    )
    models = _AND.join((params.model, model) if is_own else (params.model,))
    return run_stage(session_url, _comparing, [f"{models}{_AS}{known.name}"], known)


def _inputs(_store: SessionStore, item: str) -> list[str]:
    return [f"models/{name}" for name in item.split(_AS)[0].split(_AND)]


def _address(item: str) -> str:
    return f"comparisons/{item.split(_AS)[1]}"


def _compare(store: SessionStore, _item: str, params: _KnownParams, attempt: Attempt) -> None:
    other = _other(store, params)
    read = read_assembly if params.has_copies else read_model
    first, second = read(store, params.model), read(other, params.told_other_model)
    names = (f"{store.session.name}/{params.model}", f"{params.other_name}/{params.told_other_model}")
    probes = Probes(small_angstrom=params.probe_angstrom, large_angstrom=params.large_probe_angstrom)
    found, laid = compared(
        first, second, names, params.distances, params.tolerance_angstrom, params.fewest_residues,
        probes if params.has_pockets else None,
    )  # fmt: skip
    write_comparison(attempt, found, laid, params.name)


def _other(store: SessionStore, params: _KnownParams) -> SessionStore:
    return store if params.other_session is None else SessionStore.open(params.other_session)


def _needs(store: SessionStore, _items: Sequence[str], params: _KnownParams) -> Need | None:
    models = ((store, params.model), (_other(store, params), params.told_other_model))
    n_residues = max(
        (n_residues_of(where, name) or 0) * (n_copies_of(where, name) if params.has_copies else 1)
        for where, name in models
    )
    if not n_residues:
        return None
    memory_bytes = _BYTES + _BYTES_OF_PAIRS * n_residues
    if params.has_pockets:
        memory_bytes += _BYTES_OF_GRID + _BYTES_OF_POCKETS * n_residues
    return Need(
        stage=_comparing.name,
        n_items=1,
        memory_bytes=memory_bytes,
        disk_bytes=20_000 + 700 * n_residues,
        cpu_seconds=0.3 + (0.009 if params.has_pockets else 0.002) * n_residues,
        told_from=f"{n_residues} residues",
        remedy="look for no pockets (`has_pockets: false`), or give a larger worker",
    )


_comparing = Stage("compare_states", 1, "CPU", _compare, _inputs, _address, _needs)
