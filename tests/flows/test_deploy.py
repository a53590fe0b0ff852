"""What `vitriflow deploy` leaves on a real server: once, twice, with a changed file, and beside what is not ours."""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.utilities.schema_tools import is_valid_schema, validate

import flows
from flows.declarations import DEPLOYMENTS, Declarations, parameter_form, read_declarations
from flows.deploy import ALARM_BLOCK, OURS, Change, deploy
from flows.process_session import process_session
from flows.recipe import Recipe, read_recipe
from flows.services import down, up
from flows.settings import Settings

DECLARED = read_declarations()
FOREIGN = AutomationCore.model_validate(
    {
        "name": "quality drift",
        "trigger": {"type": "event", "expect": ["elsewhere"], "threshold": 1, "within": 0},
        "actions": [{"type": "do-nothing"}],
    }
)
VOLATILE = {"status", "last_polled", "active_slots"}
"""Fields that change by themselves."""
FOREMAN = ("work_pools", "deployments", "queues of")
"""Objects that a service of the server touches every few seconds, so their time of change says nothing."""


# the files


@pytest.mark.parametrize("deployment", DECLARED.deployments, ids=lambda d: d.name)
def test_the_entrypoint_imports_and_the_parameters_are_of_its_flow(deployment):
    flow = deployment.flow()
    assert deployment.description
    errors = validate(deployment.filled_parameters(), parameter_form(flow), ignore_required=True, raise_on_error=False)
    assert errors == []


@pytest.mark.parametrize("deployment", DECLARED.deployments, ids=lambda d: d.name)
def test_every_parameter_of_a_deployment_is_described(deployment):
    form = parameter_form(deployment.flow())
    assert [name for name, about in form["properties"].items() if not about.get("description")] == []


def test_what_a_terminal_starts_is_deployed():
    modules = [importlib.import_module(f"flows.{found.name}") for found in pkgutil.iter_modules(flows.__path__)]
    every = {one.name for module in modules for one in vars(module).values() if isinstance(one, Flow)}
    parts_of_others = {"preprocess", "find_particles", "reconstruct"}
    assert every - parts_of_others - {"demonstrate"} == {deployment.flow().name for deployment in DECLARED.deployments}


@pytest.mark.parametrize(
    "name, lacking",
    [("dock", {"session_url", "recipe"}), ("predict", {"session_url", "params"}), ("model", {"session_url"})],
)
def test_a_form_asks_for_what_nobody_but_the_user_knows(name, lacking):
    (deployment,) = [one for one in DECLARED.deployments if one.name == name]
    assert set(parameter_form(deployment.flow())["required"]) - deployment.filled_parameters().keys() == lacking


def test_the_example_of_a_facility_gives_every_schedule_what_it_needs():
    example = read_declarations(DEPLOYMENTS, DEPLOYMENTS / "facility.example.yaml")
    scheduled = [d for d in example.deployments if any(schedule.active for schedule in d.schedules)]
    assert [d.name for d in scheduled] == ["watch-sessions", "sweep-sessions"]
    for deployment in scheduled:
        deployment.flow().validate_parameters(deployment.filled_parameters())


def test_every_deployment_has_a_pool_and_a_queue():
    queues = {pool.name: {queue.name for queue in pool.queues} for pool in DECLARED.work_pools}
    for deployment in DECLARED.deployments:
        assert deployment.work_pool.work_queue_name in queues[deployment.work_pool.name]


def test_live_goes_before_reprocess_before_user():
    for pool in DECLARED.work_pools:
        order = [queue.name for queue in sorted(pool.queues, key=lambda queue: queue.priority)]
        assert order == ["live", "reprocess", "user", "default"]


def test_a_facility_changes_only_what_it_names(tmp_path):
    facility = tmp_path / "facility.yaml"
    facility.write_text(
        "work_pools: [{name: vitriflow-gpu, concurrency_limit: 8, queues: [{name: live, concurrency_limit: 2}]}]\n"
        "deployments: [{name: process, parameters: {source: /data}}]\n"
    )
    found = read_declarations(DEPLOYMENTS, facility)
    cpu, gpu = found.work_pools
    assert cpu == DECLARED.work_pools[0]
    assert gpu.concurrency_limit == 8
    assert gpu.env == DECLARED.work_pools[1].env
    assert [(queue.name, queue.concurrency_limit) for queue in gpu.queues][:2] == [("live", 2), ("reprocess", None)]
    assert found.deployments[0].parameters == {"recipe": "default", "source": "/data"}


def test_a_misspelt_key_is_named(tmp_path):
    facility = tmp_path / "facility.yaml"
    facility.write_text("deployments: [{name: process, shedules: []}]")
    with pytest.raises(ValueError, match=r"shedules.*found \[\]"):
        read_declarations(DEPLOYMENTS, facility)


# the forms


def test_the_form_of_a_session_says_what_everything_means():
    form = parameter_form(process_session)
    is_valid_schema(form)
    assert [about["title"] for about in form["properties"].values()] == ["Session url", "Source", "Recipe"]
    assert all(about["description"] for about in form["properties"].values())
    stages = {name: model for name, model in form["definitions"].items() if name.endswith("Params")}
    assert len(stages) > 8
    importing = form["definitions"]["ImportSessionParams"]["properties"]
    assert importing["kind"]["enum"] == ["movies", "micrographs"]
    assert importing["kind"]["default"] == "movies"
    assert importing["voltage_kv"]["title"] == "Voltage (kV)"
    assert (importing["amplitude_contrast"]["minimum"], importing["amplitude_contrast"]["maximum"]) == (0, 1)
    assert "physical pixel" in importing["pixel_size_angstrom"]["description"]


def test_what_the_form_sends_is_the_recipe():
    recipe = read_recipe("demo")
    sent = recipe.model_dump(mode="json")
    values = {"session_url": "s", "source": "f", "recipe": sent}
    form = parameter_form(process_session)
    assert validate(values, form, raise_on_error=False) == []
    assert process_session.validate_parameters(values)["recipe"] == recipe
    sent["classify_2d"]["n_classes"] = 0
    assert validate(values, form, raise_on_error=False)
    sent["classify_2d"] = {**sent["classify_2d"], "n_classes": 5, "n_clases": 5}
    assert validate(values, form, raise_on_error=False)


def test_every_default_of_the_recipe_is_within_its_bounds():
    recipe = read_recipe("demo")
    assert Recipe.model_validate(recipe.model_dump()) == recipe


# the server


@pytest.fixture(scope="module")
def client(connected) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        foreign = client.create_automation(FOREIGN)
        yield client
        client.delete_automation(foreign)
        deploy(Declarations(), Settings())


@pytest.fixture(scope="module")
def installed(client) -> list[Change]:
    return deploy(DECLARED, Settings())


def everything(client: SyncPrefectClient) -> dict[str, Any]:
    """All objects that a deployment could touch, with their times of change where only clients change them."""
    found: dict[str, Any] = {}
    for kind in ("work_pools", "v2/concurrency_limits", "deployments", "automations", "block_documents", "variables"):
        response = client.request("POST", f"/{kind}/filter", json={"limit": 200})
        response.raise_for_status()
        found[kind] = response.json()
    for pool in found["work_pools"]:
        response = client.request("POST", f"/work_pools/{pool['name']}/queues/filter", json={"limit": 200})
        response.raise_for_status()
        found[f"queues of {pool['name']}"] = response.json()
    hidden = {kind: VOLATILE | ({"updated"} if kind.startswith(FOREMAN) else set()) for kind in found}
    return {
        kind: {
            item["id"]: {key: in_order(value) for key, value in item.items() if key not in hidden[kind]}
            for item in items
        }
        for kind, items in found.items()
    }


def in_order(value: Any) -> Any:
    """The server tells sets of names as lists in any order."""
    if isinstance(value, dict):
        return {key: in_order(inner) for key, inner in value.items()}
    if isinstance(value, list):
        inner = [in_order(item) for item in value]
        return sorted(inner) if all(isinstance(item, str) for item in inner) else inner
    return value


def by_name(changes: list[Change]) -> dict[str, str]:
    return {f"{change.kind} {change.name}": change.outcome for change in changes}


def ours(client: SyncPrefectClient) -> set[str]:
    return {a["name"] for a in everything(client)["automations"].values() if OURS in a["tags"]}


@pytest.mark.server
def test_everything_declared_is_on_the_server(installed, client):
    assert len(installed) == len({(change.kind, change.name) for change in installed})
    found = everything(client)
    for pool in DECLARED.work_pools:
        queues = found[f"queues of {pool.name}"].values()
        assert {(q["name"], q["priority"]) for q in queues} == {(q.name, q.priority) for q in pool.queues}
    names = {d["name"]: d for d in found["deployments"].values() if OURS in d["tags"]}
    assert set(names) == {d.name for d in DECLARED.deployments}
    for deployment in DECLARED.deployments:
        on_server = names[deployment.name]
        assert on_server["work_pool_name"] == deployment.work_pool.name
        assert on_server["work_queue_name"] == deployment.work_pool.work_queue_name
        assert len(on_server["schedules"]) == len(deployment.schedules)
        assert "description" in next(iter(on_server["parameter_openapi_schema"]["properties"].values()))
    assert ours(client) == {a.name for a in DECLARED.automations}


@pytest.mark.server
def test_a_second_time_nothing_changes(installed, client):
    before = everything(client)
    again = deploy(DECLARED, Settings())
    assert {change.outcome for change in again} == {"unchanged"}
    assert everything(client) == before


@pytest.mark.server
def test_a_changed_file_updates_in_place_and_leaves_the_foreign_alone(installed, client, tmp_path):
    facility = tmp_path / "facility.yaml"
    changed = {
        "work_pools": [{"name": "vitriflow-gpu", "concurrency_limit": 5}],
        "global_limits": [{"name": "gpu-slots", "limit": 3}],
        "deployments": [
            {"name": "process", "schedules": [{"cron": "0 3 * * *", "active": False}], "concurrency_limit": 2}
        ],
        "automations": [{"name": "disk low", "description": "Changed."}],
    }
    facility.write_text(yaml.safe_dump(changed))
    wanted = read_declarations(DEPLOYMENTS, facility)
    dropped = wanted.automations[-1].name
    wanted = wanted.model_copy(update={"automations": wanted.automations[:-1]})
    before = everything(client)
    changes = by_name(deploy(wanted, Settings()))
    assert {name: outcome for name, outcome in changes.items() if outcome != "unchanged"} == {
        "work pool vitriflow-gpu": "updated",
        "global limit gpu-slots": "updated",
        "deployment process_session/process": "updated",
        "automation disk low": "updated",
        f"automation {dropped}": "removed",
    }
    after = everything(client)
    assert {kind: set(items) for kind, items in after.items() if kind != "automations"} == {
        kind: set(items) for kind, items in before.items() if kind != "automations"
    }, "an object was made anew instead of updated"
    assert len(before["automations"]) - len(after["automations"]) == 1
    foreign = [a for a in after["automations"].values() if OURS not in a["tags"]]
    assert foreign == [a for a in before["automations"].values() if OURS not in a["tags"]]
    assert foreign
    deployment = client.read_deployment_by_name("process_session/process")
    assert [schedule.schedule.cron for schedule in deployment.schedules] == ["0 3 * * *"]
    assert deployment.global_concurrency_limit.limit == 2
    assert client.read_global_concurrency_limit_by_name("gpu-slots").limit == 3

    deploy(DECLARED, Settings())
    assert by_name(deploy(DECLARED, Settings())).keys() == by_name(installed).keys()
    assert ours(client) == {a.name for a in DECLARED.automations}


@pytest.mark.server
def test_an_active_schedule_without_its_parameters_is_refused(installed, client):
    watch = next(d for d in DECLARED.deployments if d.name == "watch-sessions")
    active = watch.model_copy(update={"schedules": [s.model_copy(update={"active": True}) for s in watch.schedules]})
    before = everything(client)
    with pytest.raises(ValueError, match=r"watch-sessions: its schedule is active.*'roots' is a required property"):
        deploy(Declarations(deployments=[active]), Settings())
    assert everything(client) == before


@pytest.mark.server
def test_what_an_operator_paused_stays_paused(installed, client):
    automation = next(a for a in everything(client)["automations"].values() if a["name"] == "disk low")
    client.pause_automation(automation["id"])
    response = client.request("PATCH", "/work_pools/vitriflow-gpu", json={"is_paused": True})
    response.raise_for_status()
    changed = DECLARED.model_copy(
        update={
            "automations": [a.model_copy(update={"description": "Other words."}) for a in DECLARED.automations],
            "work_pools": [p.model_copy(update={"description": "Other words."}) for p in DECLARED.work_pools],
        }
    )
    deploy(changed, Settings())
    assert everything(client)["automations"][automation["id"]]["enabled"] is False
    assert client.read_work_pool("vitriflow-gpu").is_paused
    client.resume_automation(automation["id"])
    client.request("PATCH", "/work_pools/vitriflow-gpu", json={"is_paused": False})
    deploy(DECLARED, Settings())


@pytest.mark.server
def test_the_alarm_is_a_block_only_while_it_is_in_the_settings(installed, client):
    settings = Settings(alarm_webhook="http://127.0.0.1:9/first")
    name = f"block webhook/{ALARM_BLOCK}"
    assert by_name(deploy(DECLARED, settings))[name] == "created"
    before = everything(client)
    assert by_name(deploy(DECLARED, settings))[name] == "unchanged"
    assert everything(client) == before
    elsewhere = Settings(alarm_webhook="http://127.0.0.1:9/second")
    assert by_name(deploy(DECLARED, elsewhere))[name] == "updated"
    assert "127.0.0.1:9" not in str(everything(client)["block_documents"]), "the address is a secret"
    assert by_name(deploy(DECLARED, Settings()))[name] == "removed"
    with pytest.raises(ValueError, match="slack-webhook/nowhere: the server has no such block"):
        deploy(DECLARED, Settings(alarm_block="slack-webhook/nowhere"))


@pytest.mark.server
def test_a_worker_is_given_the_live_session_first(installed, client):
    flow_id = client.create_flow(process_session)
    runs = {}
    for queue in ("user", "reprocess", "live"):
        place = {"work_pool_name": "vitriflow-cpu", "work_queue_name": queue}
        body = {"flow_id": str(flow_id), "name": queue, "state": {"type": "SCHEDULED"}, **place}
        response = client.request("POST", "/flow_runs/", json=body)
        response.raise_for_status()
        runs[response.json()["id"]] = queue
    try:
        due = client.request("POST", "/work_pools/vitriflow-cpu/get_scheduled_flow_runs", json={"limit": 10}).json()
        assert [runs[run["flow_run"]["id"]] for run in due if run["flow_run"]["id"] in runs] == [
            "live",
            "reprocess",
            "user",
        ]
    finally:
        for run in runs:
            client.delete_flow_run(run)


@pytest.mark.server
def test_workers_of_the_pools_run_what_is_deployed(installed, client, connected, tmp_path):
    """`up` with the addresses of running services starts a worker for each pool and nothing else."""
    workers = Settings(
        home=tmp_path, dask_address=connected.dask_address, prefect_api_url=connected.prefect_api_url, serves_pools=True
    )
    (tmp_path / "stores").mkdir()
    started = up(workers)
    try:
        assert [process.name for process in started.processes] == ["vitriflow-cpu-worker", "vitriflow-gpu-worker"]
        deployment = client.read_deployment_by_name("sweep_sessions/sweep-sessions")
        run = client.create_flow_run_from_deployment(
            deployment.id, parameters={"store_root": str(tmp_path / "stores"), "is_dry_run": True}
        )
        deadline = time.monotonic() + 180
        while not (state := client.read_flow_run(run.id).state) or not state.is_final():
            assert time.monotonic() < deadline, (tmp_path / "vitriflow-cpu-worker.log").read_text()[-3000:]
            time.sleep(0.5)
        assert state.is_completed(), (tmp_path / "vitriflow-cpu-worker.log").read_text()[-3000:]
        assert client.read_flow_run(run.id).work_queue_name == "default"
    finally:
        assert down(workers) == 2
