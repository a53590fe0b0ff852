"""Room on the disk of a store."""

from __future__ import annotations

import os
from pathlib import Path

from tasks.records.alarm import DiskShortage


def missing_room(
    place: str, *, to_be_written_bytes: int = 0, min_free_fraction: float = 0.0, min_free_gigabytes: float = 0.0
) -> DiskShortage | None:
    """What is missing on the disk of a folder, None where there is enough; an ``s3://`` address has no disk.

    Parameters
    ----------
    place
        Folder, which need not exist yet.
    to_be_written_bytes
        What is still to come, for instance of a forecast.
    min_free_fraction, min_free_gigabytes
        Share of the disk, and room, of which the larger is to stay free.
    """
    if "://" in place:
        return None
    folder = next(path for path in (Path(place).absolute(), *Path(place).absolute().parents) if path.exists())
    disk = os.statvfs(folder)
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    needed = int(max(min_free_fraction * total, min_free_gigabytes * 1e9)) + to_be_written_bytes
    if free >= needed:
        return None
    return DiskShortage(path=str(folder), free_bytes=free, total_bytes=total, needed_bytes=needed)
