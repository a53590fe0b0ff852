"""Digests of files, as SHA-256 has them."""

from hashlib import sha256

import pytest

from tasks.formats import FormatError
from tasks.formats.content_digest import content_digest


def test_it_is_the_sha_256_of_all_files_in_their_order(tmp_path):
    first, second = tmp_path / "a.mrc", tmp_path / "b.mrc"
    large = bytes(range(256)) * 20_000  # more than a block
    first.write_bytes(large)
    second.write_bytes(b"abc")
    assert content_digest(second, remedy="") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert content_digest(str(first), second, remedy="") == sha256(large + b"abc").hexdigest()


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FormatError, match=r"gone.mrc: there is no such file; give another one"):
        content_digest(tmp_path / "gone.mrc", remedy="give another one")
    with pytest.raises(FormatError, match="there is no such file"):
        content_digest(tmp_path, remedy="give a file")
