"""Where a predicted structure comes from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class PredictionSource(BaseModel):
    """Who predicted a structure, with what, and on which terms it may be used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: str
    """AlphaFold DB, AlphaFold Server, ColabFold, Boltz, ESMFold, RoseTTAFold; "unknown" where nothing tells."""
    version: str | None = None
    """Of the engine, or of its weights."""
    licence: str | None = None
    """Of the prediction, as its source states it."""
    rank: int = 0
    """Among the predictions of one run, the best first."""
    template: str | None = None
    """Model of the session that the engine was shown."""
    sha256: dict[str, str] = Field(default_factory=dict)
    """Of each file that was read, by its name."""
