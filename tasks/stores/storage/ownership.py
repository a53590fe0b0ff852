"""Whose a store in a folder is: its owner, its group, and the modes of what is written into it.

The folder of a store tells. Where its setgid bit is set, the operating system gives everything below it the group of
the folder, and what is written here takes the folder's mode as well, whatever the umask of the process that writes: a
store of mode 2770 has folders of 2770 and files of 660, one of 2750 files of 640. Without that bit the umask decides,
as everywhere. A new store gets group and mode from ``VITRIFLOW_GROUP`` and ``VITRIFLOW_FILE_MODE``, else from the
folder that it is made in; a version of a session gets those of the session.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

_DEFAULT_FILE_MODE = 0o660


@dataclass(frozen=True)
class Ownership:
    """Who a session belongs to; None where nothing tells."""

    owner: str | None
    group: str | None


def claim(folder: Path | None, like: Path | None = None) -> Ownership:
    """Make the folder of a new store, with the group and the mode that it is to have, and say whose it is.

    Parameters
    ----------
    folder
        None for a store that is not a folder: then the settings alone tell.
    like
        Folder of a store whose group and mode it gets.
    """
    owner, group = os.environ.get("VITRIFLOW_OWNER"), os.environ.get("VITRIFLOW_GROUP")
    if folder is None:
        return Ownership(owner, group)
    make_folders(folder)
    if like is not None:
        _take(folder, like.stat().st_gid, stat.S_IMODE(like.stat().st_mode))
    elif group is not None or "VITRIFLOW_FILE_MODE" in os.environ:
        _take(folder, folder.stat().st_gid if group is None else _group_id(group), _folder_mode(_file_mode()))
    found = folder.stat()
    return Ownership(owner or _user_name(found.st_uid), _group_name(found.st_gid))


def _take(folder: Path, group_id: int, mode: int) -> None:
    try:
        if folder.stat().st_gid != group_id:
            os.chown(folder, -1, group_id)
        folder.chmod(mode)
    except PermissionError as error:
        raise PermissionError(
            error.errno,
            f"{folder} cannot be given to group {_group_name(group_id)}; set VITRIFLOW_GROUP to a group that this "
            "process is a member of",
        ) from error


def _file_mode() -> int:
    """VITRIFLOW_FILE_MODE, an octal number like 0640."""
    text = os.environ.get("VITRIFLOW_FILE_MODE", f"{_DEFAULT_FILE_MODE:o}")
    if not re.fullmatch(r"0?6[0246][046]", text):
        raise ValueError(
            f"VITRIFLOW_FILE_MODE is {text!r}, expected the mode of files as an octal number, for instance 0660 or 0640"
        )
    return int(text, 8)


def _folder_mode(file_mode: int) -> int:
    """Who may read the files may search their folders; setgid hands the group on."""
    return stat.S_ISGID | file_mode | ((file_mode & 0o444) >> 2)


def _group_id(group: str) -> int:
    try:
        return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise ValueError(f"VITRIFLOW_GROUP is {group!r}, which is no group of this machine; check the name") from error


def _group_name(group_id: int) -> str:
    try:
        return grp.getgrgid(group_id).gr_name
    except KeyError:
        return str(group_id)


def _user_name(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)


def refusal(path: Path) -> str:
    """Whose the part of a path is that this process may not enter or read, and what to do."""
    for part in [*reversed(path.parents), path]:
        try:
            found = part.stat()
        except OSError:
            break
        if not os.access(part, os.R_OK if part == path else os.X_OK):
            user, group = _user_name(found.st_uid), _group_name(found.st_gid)
            return (
                f"{part} belongs to user {user} and group {group} with mode {stat.S_IMODE(found.st_mode):o}, and "
                f"this process runs as {_user_name(os.geteuid())}; ask {user} or an administrator to add you to {group}"
            )
    return "check permissions"


def make_folders(folder: Path) -> None:
    """Make a folder and those above it; each takes the mode of the one it is made in where that hands on its group."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:  # another process made it
        return
    above = folder.parent.stat().st_mode
    if above & stat.S_ISGID:
        folder.chmod(stat.S_IMODE(above))


def follow_folder(file: Path, folder: Path) -> None:
    """Give a file the mode of its folder where that hands on its group."""
    above = folder.stat().st_mode
    if above & stat.S_ISGID:
        file.chmod(above & 0o666)


class FolderStore(LocalStore):
    """Zarr store in a folder, whose files and folders follow the folder that they lie in."""

    async def _open(self, *, mode: str | None = None) -> None:  # type: ignore[override]
        if not self.read_only:
            make_folders(self.root)
        await super()._open()

    def _ensure_open_sync(self) -> None:
        if not self._is_open and not self.read_only:
            make_folders(self.root)
        super()._ensure_open_sync()

    async def _set(self, key: str, value: Buffer, exclusive: bool = False) -> None:
        path = self.root / key
        make_folders(path.parent)
        await super()._set(key, value, exclusive)
        follow_folder(path, path.parent)

    def set_sync(self, key: str, value: Buffer) -> None:
        path = self.root / key
        make_folders(path.parent)
        super().set_sync(key, value)
        follow_folder(path, path.parent)
