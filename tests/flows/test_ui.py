"""An operator in the Prefect UI: starts a session, looks at it, suspends, resumes, cancels and repeats flow runs."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.deployments.runner import EntrypointType

from flows.process_session import process_session
from flows.reprocess_session import reprocess_session
from flows.services import CLIENT_ENVIRONMENT, Services
from flows.settings import Settings
from flows.sole_use import EXPOSURES
from tasks.records.session import StageParams
from tasks.simulate_session import simulate_session
from tasks.stores import ledger
from tasks.stores.session_store import SessionStore
from tasks.stores.storage.lease import holder_of
from tasks.stores.upkeep.costs import read_costs
from tasks.workers.connection import connect
from tests.truth.tiny_session import TINY, tiny_recipe

pytest.importorskip("selenium", reason="selenium is not installed; `make setup` installs it")
from tests.flows.browser import CHROMEDRIVER, CHROMIUM, PATIENCE_SECONDS, Browser, browser
from tests.flows.gated_flow import gated

pytestmark = [
    pytest.mark.site,
    pytest.mark.server,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (CHROMIUM and CHROMEDRIVER),
        reason="Chromium is absent; `bash infra/test-servers.sh` installs it where apt can",
    ),
]

ROOT = Path(__file__).parents[2]
POOL = "operator"
N_ITEMS = 6
EFFECT_SECONDS = 15.0
"""Within which pause, resume and cancel take effect."""


class Server:
    """What the server says of flow runs, to compare with what the UI shows."""

    def __init__(self, api_url: str) -> None:
        self._api_url = api_url

    def post(self, path: str, content: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self._api_url + path, json.dumps(content).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def runs(self, flow_name: str) -> list[dict[str, Any]]:
        """Newest first."""
        wanted = {"flows": {"name": {"any_": [flow_name]}}, "sort": "EXPECTED_START_TIME_DESC"}
        return self.post("/flow_runs/filter", wanted)

    def has_artifact(self, key: str) -> bool:
        return bool(self.post("/artifacts/count", {"artifacts": {"key": {"any_": [key]}}}))

    def wait_for(self, flow_name: str, state: str, n_runs: int = 1) -> str:
        """Id of the newest of ``n_runs`` runs of a flow, once it is in a state."""

        def newest() -> str | None:
            runs = self.runs(flow_name)
            if runs and runs[0]["state"]["type"] in {"FAILED", "CRASHED"}:
                raise AssertionError(f"{flow_name}: {runs[0]['state']}")
            return runs[0]["id"] if len(runs) == n_runs and runs[0]["state"]["name"] == state else None

        return until(newest, f"{flow_name} {state}")


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + 3 * PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {3 * PATIENCE_SECONDS} s for {what}"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def server(connected) -> Server:
    return Server(connected.prefect_api_url)


@pytest.fixture(scope="module")
def movies(tmp_path_factory, connected) -> Path:
    folder = tmp_path_factory.mktemp("microscope")
    with connect(connected.dask_address):
        simulate_session.fn(str(folder), TINY)
    return folder


def worker_environment(connected: Services, settings: Settings) -> dict[str, str]:
    """As `vitriflow up` sets it for the workers of the pools."""
    return {
        **os.environ,
        **CLIENT_ENVIRONMENT,
        "PREFECT_API_URL": connected.prefect_api_url,
        "PREFECT_HOME": str(settings.home / "worker"),
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        "VITRIFLOW_HOME": str(settings.home),
        "PYTHONPATH": str(ROOT),
    }


@pytest.fixture(scope="module")
def deployments(connected, settings, movies) -> Iterator[dict[str, str]]:
    """Name -> id of the deployments, with a worker that runs them."""
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    recipe = tiny_recipe(movies).model_dump(mode="json")
    found = {
        flow.name: str(
            flow.to_deployment(
                flow.name, work_pool_name=POOL, entrypoint_type=EntrypointType.MODULE_PATH, parameters=defaults
            ).apply()
        )
        for flow, defaults in ((process_session, {"recipe": recipe}), (reprocess_session, {}), (gated, {}))
    }
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
    with open(settings.home / "worker.log", "wb") as log:
        worker = subprocess.Popen(
            command,
            cwd=ROOT,
            env=worker_environment(connected, settings),
            stdout=log,
            stderr=log,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    yield found
    worker.send_signal(signal.SIGINT)
    try:
        worker.wait(30)
    except subprocess.TimeoutExpired:
        worker.kill()


@pytest.fixture(scope="module")
def operator(connected, tmp_path_factory) -> Iterator[Browser]:
    """Pictures stay in a folder of the test; VITRIFLOW_PICTURES names another one."""
    folder = tmp_path_factory.mktemp("browser")
    with browser(connected.prefect_ui_url, folder, Path(os.environ.get("VITRIFLOW_PICTURES") or folder)) as opened:
        yield opened


@pytest.fixture(scope="module")
def session(operator, server, deployments, movies) -> SessionStore:
    """Started from the form of the deployment and processed."""
    operator.open(f"/deployments/deployment/{deployments['process_session']}")
    operator.sees("process_session", POOL)
    operator.click("Run")
    operator.click("Custom run")
    operator.sees(
        "session_url", "Import session", "Pixel size (Å)", "Of the pixels in the file.", "Validate parameters"
    )
    url = str(movies.parent / "apo42.zarr")
    operator.fill("session_url", url)
    operator.fill("source", str(movies))
    operator.picture("form", height=760)
    operator.submit()
    until(lambda: server.has_artifact("apo42-session"), "the session's artifact while it is processed")
    operator.open_artifact("apo42-session")
    operator.sees("in use", "Progress")
    operator.picture("running")
    run = server.wait_for("process_session", "Completed")
    operator.open(f"/runs/flow-run/{run}")
    operator.sees("Completed", "process_session")
    return SessionStore.open(url)


def test_a_session_that_was_started_from_the_form_is_seen_in_its_artifacts(session, operator):
    assert ledger.read_ledger(session).counts() == {"done": 3, "failed": 0, "skipped": 0, "quarantined": 1}
    operator.open_artifact("apo42-session")
    operator.sees("3 of 4 exposures in use", "extract particles", "3 of 4", "report.html")
    operator.open_artifact("apo42-ledger")
    operator.sees("quarantined", "truncated")
    operator.picture("ledger", height=560)
    for picture, words in (("overview", "course of the session"), ("fsc", "Half-map FSC")):
        operator.open_artifact(f"apo42-{picture}")
        operator.sees(words)


def test_only_what_failed_is_repeated_from_the_form(session, operator, server, deployments):
    failed, *others = [line.exposure for line in ledger.read_ledger(session).lines if line.state == "done"]
    before = {e: session.exposure_product(e, "pick_particles").record() for e in others}
    session.exposure_product(failed, "pick_particles").put_outcome(
        "failed", "no space left on device", "pick_particles", 1, StageParams(), {}
    )
    ledger.rebuild(session)
    operator.open(f"/deployments/deployment/{deployments['reprocess_session']}/run")
    operator.sees("session_url", "Try again what failed")
    operator.fill("session_url", session.url)
    operator.switch_on("only_failed (Optional)")
    operator.submit()
    server.wait_for("reprocess_session", "Completed")
    assert ledger.read_ledger(session).counts() == {"done": 3, "failed": 0, "skipped": 0, "quarantined": 1}
    assert {e: session.exposure_product(e, "pick_particles").record() for e in others} == before


def committed(store: SessionStore) -> dict[str, str]:
    """Address -> fingerprint of what lies in the folder of a store itself, not of what it was made from."""
    found = Path(store.url).rglob("commit.json")
    return {
        path.parent.relative_to(store.url).as_posix(): json.loads(path.read_text())["fingerprint"]
        for path in found
        if "versions" not in path.relative_to(store.url).parts
    }


def test_a_new_version_from_the_form_makes_what_depends_on_its_change_and_is_compared(
    session, operator, server, deployments
):
    before, n_before = committed(session), len(server.runs("reprocess_session"))
    operator.open(f"/deployments/deployment/{deployments['reprocess_session']}/run")
    operator.sees("session_url", "changes (Optional)")
    operator.fill("session_url", session.url)
    operator.fill("version (Optional)", "blurred")
    operator.fill("changes (Optional)", '{"sharpen_map.b_factor_angstrom2": 150.0}')
    operator.picture("version")
    operator.submit()
    server.wait_for("reprocess_session", "Completed", n_before + 1)
    version = SessionStore.open(session.version_location("blurred").url)
    assert committed(session) == before
    assert {address for address in committed(version) if not address.startswith("session/")} == {"maps/sharpened"}
    costs = [sum(cost.cpu_seconds for cost in read_costs(store).values()) for store in (session, version)]
    assert 0 < costs[1] < costs[0]
    operator.open_artifact("apo42-versions")
    operator.sees("sharpen_map.b_factor_angstrom2", "blurred", "150", "CPU seconds spent", f"{costs[1]:.1f}")
    operator.picture("versions")


def begun(folder: Path) -> list[str]:
    return sorted(path.name.rsplit("-", 1)[0].removeprefix("begun-") for path in folder.glob("begun-*"))


def start_gated(server: Server, deployments: dict[str, str], folder: Path) -> None:
    parameters = {"session_url": f"{folder}.zarr", "folder": str(folder), "n_items": N_ITEMS}
    server.post(f"/deployments/{deployments['gated']}/create_flow_run", {"parameters": parameters})


def is_all_done(folder: Path) -> bool:
    store = SessionStore.open(f"{folder}.zarr")
    records = [store.exposure_product(item, "import_session").record() for item in store.exposure_ids()]
    return len(records) == N_ITEMS and all(record is not None and record.state == "done" for record in records)


def let_go(folder: Path) -> bool:
    return holder_of(SessionStore.open(f"{folder}.zarr").location, EXPOSURES) is None


def is_begun_once(folder: Path) -> bool:
    return begun(folder) == sorted(set(begun(folder)))


def slowdown() -> float:
    """How many times longer than its CPU time a process takes now; above 1 where others want the cores as well."""
    started = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import prefect"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return max(1.0, (time.monotonic() - started) / cpu_seconds)


def in_time(order: str, clicked_at: float, before: float, record_property: Callable[[str, object], None]) -> None:
    """An operator waits 15 s at most; where the machine has other work to do, as much longer as that takes away.

    That is measured by `slowdown` before the click and after its effect.
    """
    seconds, share = time.monotonic() - clicked_at, max(before, slowdown())
    record_property(f"{order}_seconds", f"{seconds:.1f}")
    record_property(f"{order}_slowdown", f"{share:.1f}")
    assert seconds < EFFECT_SECONDS * share, (
        f"{order} took {seconds:.1f} s where processes take {share:.1f} times longer"
    )


def test_a_run_is_suspended_and_resumed_and_nothing_is_lost_or_done_twice(
    operator, server, deployments, tmp_path, record_property
):
    folder = tmp_path / "gate"
    folder.mkdir()
    start_gated(server, deployments, folder)
    until(lambda: begun(folder), "the first item")
    run = server.wait_for("gated", "Running")
    operator.open(f"/runs/flow-run/{run}")
    operator.click("Suspend")
    operator.sees("Suspend Flow Run")
    before = slowdown()
    clicked_at = operator.click("Submit", within=".p-modal")
    server.wait_for("gated", "Suspended")
    until(lambda: let_go(folder), "the suspended flow to let go of the session")
    in_time("suspend", clicked_at, before, record_property)
    operator.sees("Suspended", "Resume")
    operator.picture("suspended", height=560)
    at_suspension = begun(folder)
    assert len(at_suspension) < N_ITEMS
    (folder / "open").touch()
    store = SessionStore.open(f"{folder}.zarr")
    until(lambda: all(store.exposure_product(item, "import_session").record() for item in at_suspension), "their end")
    assert begun(folder) == at_suspension, "an item was begun while the run was suspended"
    operator.click("Resume")
    operator.sees("Do you want to resume this flow run?")
    before = slowdown()
    clicked_at = operator.confirm_and_leave()
    until(lambda: len(begun(folder)) > len(at_suspension), "an item to be begun")
    in_time("resume", clicked_at, before, record_property)
    server.wait_for("gated", "Completed")
    assert is_begun_once(folder), begun(folder)
    assert is_all_done(folder)


def test_a_run_is_cancelled_and_the_next_one_continues_it(operator, server, deployments, tmp_path, record_property):
    folder = tmp_path / "gate"
    folder.mkdir()
    n_before = len(server.runs("gated"))
    start_gated(server, deployments, folder)
    until(lambda: begun(folder), "the first item")
    run = server.wait_for("gated", "Running", n_before + 1)
    operator.open(f"/runs/flow-run/{run}")
    operator.click("Cancel")
    operator.sees("Cancel Flow Run")
    before = slowdown()
    clicked_at = operator.click("Confirm", within=".p-modal")
    server.wait_for("gated", "Cancelled", n_before + 1)
    until(lambda: let_go(folder), "the cancelled flow to let go of the session")
    in_time("cancel", clicked_at, before, record_property)
    operator.sees("Cancelled")
    at_cancellation = begun(folder)
    assert len(at_cancellation) < N_ITEMS
    start_gated(server, deployments, folder)
    server.wait_for("gated", "Running", n_before + 2)
    assert begun(folder) == at_cancellation, "an item was begun while others of the cancelled run are worked on"
    (folder / "open").touch()
    server.wait_for("gated", "Completed", n_before + 2)
    assert is_begun_once(folder), begun(folder)
    assert is_all_done(folder)
    assert server.runs("gated")[1]["state"]["name"] == "Cancelled"


def test_a_run_from_a_terminal_is_cancelled_from_another_one(server, connected, settings, tmp_path, record_property):
    folder = tmp_path / "gate"
    folder.mkdir()
    n_before = len(server.runs("gated"))
    words = f"from tests.flows.gated_flow import gated; gated({f'{folder}.zarr'!r}, {str(folder)!r}, {N_ITEMS})"
    environment = worker_environment(connected, settings)
    with open(settings.home / "terminal.log", "wb") as log:
        terminal = subprocess.Popen([sys.executable, "-c", words], env=environment, stdout=log, stderr=log)
    try:
        until(lambda: begun(folder), "the first item")
        run = server.wait_for("gated", "Running", n_before + 1)
        before = slowdown()
        command = [sys.executable, "-m", "prefect", "flow-run", "cancel", run]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        cancelled_at = time.monotonic()
        server.wait_for("gated", "Cancelled", n_before + 1)
        until(lambda: let_go(folder), "the cancelled flow to let go of the session")
        in_time("cancel_in_a_terminal", cancelled_at, before, record_property)
        (folder / "open").touch()
        assert terminal.wait(PATIENCE_SECONDS) != 0
    finally:
        terminal.kill()
        terminal.wait()
    assert len(begun(folder)) < N_ITEMS
