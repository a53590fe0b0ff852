"""Whose a session is, and the modes of what is written into it, told by the file system itself."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tasks.records.session import StageParams
from tasks.stores.ledger import rebuild
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.location import StoreError
from tasks.workers.stage import Stage, run_stage

NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to other users and groups")


def other_group() -> grp.struct_group:
    """A group of this machine that is not the one of this process."""
    return next(group for group in grp.getgrall() if group.gr_gid not in (0, os.getegid(), NOBODY))


def _import(store, item, params, attempt):
    attempt.write("micrograph", np.ones((600, 700), np.float32))


IMPORT = Stage("import_session", 1, "CPU", _import, lambda store, item: [])


@pytest.fixture
def settings_of_proposal(monkeypatch) -> grp.struct_group:
    group = other_group()
    monkeypatch.setenv("VITRIFLOW_GROUP", group.gr_name)
    monkeypatch.setenv("VITRIFLOW_OWNER", "m.curie")
    return group


def modes(folder: str) -> tuple[set[tuple[int, str]], set[tuple[int, str]]]:
    """(group, mode) of every folder and of every file."""
    paths = [Path(folder), *Path(folder).rglob("*")]
    found = [(path.is_dir(), (path.stat().st_gid, f"{stat.S_IMODE(path.stat().st_mode):o}")) for path in paths]
    return {what for is_folder, what in found if is_folder}, {what for is_folder, what in found if not is_folder}


@needs_root
@pytest.mark.parametrize(
    ("file_mode", "folders", "files", "umask"),
    [(None, "2770", "660", 0o022), ("0640", "2750", "640", 0o002), ("664", "2775", "664", 0o077)],
)
def test_everything_in_a_store_has_its_group_and_mode_whatever_the_umask(
    tmp_path, workers, monkeypatch, settings_of_proposal, file_mode, folders, files, umask
):
    if file_mode is not None:
        monkeypatch.setenv("VITRIFLOW_FILE_MODE", file_mode)
    before = os.umask(umask)
    try:
        store = SessionStore.create(str(tmp_path / "deep" / "s.zarr"))
        # a worker need not know the settings: the folder tells
        monkeypatch.delenv("VITRIFLOW_GROUP")
        monkeypatch.delenv("VITRIFLOW_FILE_MODE", raising=False)
        run_stage(store.url, IMPORT, ["a"], StageParams())
        rebuild(store)
        version = store.branch("other")
        run_stage(version.url, IMPORT, ["b"], StageParams())
    finally:
        os.umask(before)
    gid = settings_of_proposal.gr_gid
    for one in (store, version):
        assert modes(one.url) == ({(gid, folders)}, {(gid, files)})
        assert (one.session.owner, one.session.group) == ("m.curie", settings_of_proposal.gr_name)
    assert SessionStore.open(store.url).session == store.session


def test_without_settings_a_store_is_its_folders(tmp_path, monkeypatch):
    for name in ("VITRIFLOW_GROUP", "VITRIFLOW_OWNER", "VITRIFLOW_FILE_MODE"):
        monkeypatch.delenv(name, raising=False)
    store = SessionStore.create(str(tmp_path / "s.zarr"))
    found = Path(store.url).stat()
    assert store.session.owner == pwd.getpwuid(found.st_uid).pw_name
    assert store.session.group == grp.getgrgid(found.st_gid).gr_name


@needs_root
def test_a_store_made_in_the_folder_of_a_proposal_belongs_to_it(tmp_path, monkeypatch):
    monkeypatch.delenv("VITRIFLOW_GROUP", raising=False)
    group, folder = other_group(), tmp_path / "mx42"
    folder.mkdir()
    os.chown(folder, -1, group.gr_gid)
    folder.chmod(0o2750)
    store = SessionStore.create(str(folder / "s.zarr"))
    assert store.session.group == group.gr_name
    assert modes(store.url) == ({(group.gr_gid, "2750")}, {(group.gr_gid, "640")})


@needs_root
def test_a_session_of_another_group_is_refused_in_words_and_not_made_anew(settings_of_proposal):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        store = SessionStore.create(f"{folder}/s.zarr")
        header = (Path(store.url) / "zarr.json").read_bytes()
        for line in _told_to_nobody(store.url, groups=[]):
            assert line.startswith("StoreError")
            assert f"belongs to user root and group {settings_of_proposal.gr_name} with mode 2770" in line
            assert "ask root or an administrator to add you" in line
        opened = _told_to_nobody(store.url, groups=[settings_of_proposal.gr_gid])
        assert opened == [f"opened {settings_of_proposal.gr_name}"] * 2
        assert (Path(store.url) / "zarr.json").read_bytes() == header


def _told_to_nobody(url: str, groups: list[int]) -> list[str]:
    """What a process of the user nobody, a member of ``groups``, is told when it opens and when it creates a store."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups(groups)
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        lines = []
        for start in (SessionStore.open, SessionStore.create):
            try:
                lines.append(f"opened {start(url).session.group}")
            except Exception as error:
                lines.append(f"{type(error).__name__} {error}")
        os.write(writing, "\n".join(lines).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as answer:
        told = answer.read()
    os.waitpid(child, 0)
    return told.splitlines()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("GROUP", "no-such-group", "no group of this machine"), ("FILE_MODE", "rw", "octal number, for instance 0660")],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_is_written(tmp_path, monkeypatch, name, value, words):
    monkeypatch.setenv(f"VITRIFLOW_{name}", value)
    with pytest.raises((StoreError, ValueError), match=words):
        SessionStore.create(str(tmp_path / "s.zarr"))
    assert not (tmp_path / "s.zarr" / "zarr.json").exists()
