"""The tables come from cctbx, or it is said how to get them."""

import sys

import pytest

from tasks.formats import ramachandran_tables as module


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')  # without installed packages
    program.chmod(0o755)
    monkeypatch.setattr(module.sys, "executable", str(program))
    module.ramachandran_tables.cache_clear()
    with pytest.raises(module.MissingTablesError, match=r"boost_adaptbx.*pip install cctbx-base"):
        module.ramachandran_tables()


def test_tables_are_shares_that_reach_one():
    module.ramachandran_tables.cache_clear()
    tables = module.ramachandran_tables()
    assert tables.shape == (6, 180, 180)
    assert tables.min() >= 0
    assert tables.amax((1, 2)).tolist() == [1.0] * 6
