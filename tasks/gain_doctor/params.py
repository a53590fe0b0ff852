"""Parameters of `diagnose_gain`; they lie here as the making of a gain reads them on the worker."""

from __future__ import annotations

from pydantic import Field, model_validator

from tasks.records.session import StageParams


class DiagnoseGainParams(StageParams):
    """When a gain is made from the movies themselves."""

    is_estimated: bool = True
    """Make a gain where none is given; `correct_motion` uses it from then on."""
    least_explained: float = Field(default=0.3, gt=0, le=1)
    """Share of the fixed pattern's variance that the gain has to take away before it is used."""
    enough_explained: float = Field(default=0.95, gt=0, le=1)
    """From here on the gain is not made anew."""
    most_exposures: int = Field(default=512, ge=2, le=4000)
    """Nor from here on. In between it is made anew when the exposures have doubled. A live session corrects each movie
    with the gain of that moment, and those that came before the last one once more when it is finished."""

    @model_validator(mode="after")
    def _used_before_enough(self) -> DiagnoseGainParams:
        self.require_not_falling("least_explained", "enough_explained")
        return self
