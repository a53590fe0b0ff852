"""What is known of built chains, and that there are none."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.building.thread_chains import ThreadedChain


class NoChainError(ValueError):
    """A map shows no chain of the kind that was looked for."""


@dataclass(frozen=True)
class BuiltChain:
    """What is known of one chain of a built model."""

    name: str
    sequence: int | None
    """Index of its target; None where it has no place in any sequence."""
    n_residues: int
    p_value: float
    """Of its surest piece: that a shuffled sequence fits as well."""
    register_probability: float
    """Mean over its residues; 0 without a sequence."""

    def __str__(self) -> str:
        if self.sequence is None:
            return f"chain {self.name}: {self.n_residues} residues without a place in any sequence, types as they look"
        return (
            f"chain {self.name}: {self.n_residues} residues of sequence {self.sequence + 1}, register right with a"
            f" probability of {self.register_probability:.2f}, p {self.p_value:.1e}"
        )


def described(name: str, chain: ThreadedChain) -> BuiltChain:
    """What is known of a threaded chain."""
    register = float(chain.register_probability.mean()) if chain.sequence is not None else 0.0
    return BuiltChain(name, chain.sequence, len(chain), float(chain.p_value.min()), register)
