"""One set of embedded services for all tests of flows: a Prefect server, a scheduler, a worker of each label."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows.services import Services, down, up
from flows.settings import Settings


@pytest.fixture(scope="session")
def settings(tmp_path_factory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("home"), dask_address=None, prefect_api_url=None)


@pytest.fixture(scope="session")
def services(settings) -> Iterator[Services]:
    yield up(settings)
    down(settings)


@pytest.fixture(scope="module")
def connected(services, settings) -> Iterator[Services]:
    """The services, found by flows that run in this process."""
    changed = {PREFECT_API_URL: services.prefect_api_url, PREFECT_HOME: settings.home / "client"}
    with pytest.MonkeyPatch.context() as environment, temporary_settings(changed):
        environment.setenv("VITRIFLOW_HOME", str(settings.home))
        yield services
