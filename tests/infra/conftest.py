"""Real servers from Debian's packages, started by the tests that need them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.infra.swift_server import SwiftServer, swift_server


@pytest.fixture(scope="module")
def swift(tmp_path_factory) -> Iterator[SwiftServer]:
    with swift_server(tmp_path_factory.mktemp("swift")) as server:
        yield server
