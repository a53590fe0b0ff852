"""A file of a microscope as the disk shows it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict


class SourceFile(BaseModel):
    """Where a file lies, and how it is told from a changed one without reading it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """Absolute."""
    size: int
    """Bytes; -1 where it could not be asked."""
    mtime_ns: int

    @classmethod
    def of(cls, path: str | Path) -> SourceFile:
        """The file as it is now; raises OSError where it cannot be asked."""
        place = Path(path).absolute()
        status = place.stat()
        return cls(path=str(place), size=status.st_size, mtime_ns=status.st_mtime_ns)

    @classmethod
    def seen(cls, path: str | Path) -> SourceFile:
        """The same for a file that may be gone or out of reach: whoever reads it says why."""
        try:
            return cls.of(path)
        except OSError:
            return cls(path=str(Path(path).absolute()), size=-1, mtime_ns=0)
