"""Where the files of a followed session lie."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class SourceFolder(BaseModel):
    """A session's folder as the last scan that opened it found it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    folder: str
    layout: Literal["epu", "serialem", "plain"]
    gain: str | None = None
    """Gain reference in the folder, the first where there are several."""
    defects: str | None = None
    mirror: str | None = None
    """EPU: folder with the XML files, where the movies lie in a tree of their own."""
