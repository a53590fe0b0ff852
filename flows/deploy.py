"""Installing pools, limits, blocks, deployments and automations on the Prefect server; repeating it changes nothing.

Every kind is read from the server first and written only where it differs from its declaration, so what runs is not
disturbed. What an operator pauses in the Prefect UI (a pool, a queue, an automation) stays paused. Deployments and
automations carry the tag ``vitriflow-deploy``; only those that do are ever removed.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyOptions
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.utilities.schema_tools import validate
from prefect.workers.process import ProcessWorker
from pydantic import BaseModel, ConfigDict

from flows.declarations import (
    AutomationDeclaration,
    Declarations,
    DeploymentDeclaration,
    GlobalLimit,
    Notify,
    Queue,
    WorkPool,
    parameter_form,
)
from flows.settings import Settings

logger = logging.getLogger(__name__)

OURS = "vitriflow-deploy"
"""Tag of the deployments and automations that were installed here."""
ALARM_BLOCK = "vitriflow-alarm"
"""Name of the webhook block that is made of the settings."""

_PAGE = 200


class Change(BaseModel):
    """What became of one object of the server."""

    model_config = ConfigDict(frozen=True)

    kind: str
    name: str
    outcome: Literal["created", "updated", "unchanged", "removed"]
    fields: list[str] = []
    """What was different, for those that were updated."""


def deploy(declared: Declarations, settings: Settings) -> list[Change]:
    """Install everything that is declared on the server that Prefect's settings name.

    Returns
    -------
    One change for every object that is declared, and for every one that was removed.
    """
    with get_client(sync_client=True) as client:
        changes = []
        for pool in declared.work_pools:
            changes.append(_install_pool(client, pool))
            changes += _install_queues(client, pool)
        changes += [_install_limit(client, limit) for limit in declared.global_limits]
        alarm = _install_alarm(client, settings)
        changes += alarm.changes
        changes += [_install_deployment(client, deployment) for deployment in declared.deployments]
        ours = our_resources(client, declared.deployments)
        existing = _all_automations(client)
        for automation in declared.automations:
            core = automation_of(automation, ours, alarm.action)
            changes.append(_install_automation(client, core, existing))
        changes += _remove_automations(client, existing, {automation.name for automation in declared.automations})
        changes += _remove_deployments(client, {deployment.name for deployment in declared.deployments})
        changes += _remove_alarm(client, settings)
    n_changed = sum(change.outcome != "unchanged" for change in changes)
    logger.info("deploy: %d objects, %d changed", len(changes), n_changed)
    return changes


def _install_pool(client: SyncPrefectClient, pool: WorkPool) -> Change:
    template = copy.deepcopy(ProcessWorker.get_default_base_job_template())
    template["variables"]["properties"]["env"]["default"] = pool.env
    wanted: dict[str, Any] = {
        "description": pool.description,
        "concurrency_limit": pool.concurrency_limit,
        "base_job_template": template,
    }
    try:
        found = client.read_work_pool(pool.name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=pool.name, type=pool.type, **wanted))
        return Change(kind="work pool", name=pool.name, outcome="created")
    if found.type != pool.type:
        raise ValueError(
            f"work pool {pool.name}: found one of type {found.type}, expected {pool.type}; rename one of the two"
        )
    different = _different(wanted, found)
    if different:
        client.update_work_pool(pool.name, WorkPoolUpdate(**wanted))
    return _changed("work pool", pool.name, different)


def _install_queues(client: SyncPrefectClient, pool: WorkPool) -> list[Change]:
    """The queues in the order of their priority: the server moves a queue whose number another one takes."""
    changes = {}
    for queue in sorted(pool.queues, key=lambda queue: queue.priority):
        name = f"{pool.name}/{queue.name}"
        found = _queues(client, pool).get(queue.name)
        wanted: dict[str, Any] = {
            "description": queue.description,
            "concurrency_limit": queue.concurrency_limit,
            "priority": queue.priority,
        }
        if found is None:
            client.create_work_queue(queue.name, work_pool_name=pool.name, **wanted)
            changes[name] = Change(kind="work queue", name=name, outcome="created")
            continue
        different = _different(wanted, found)
        if different:
            client.update_work_queue(found.id, **{key: wanted[key] for key in different})
        changes[name] = _changed("work queue", name, different)
    _check_priorities(pool, {name: queue.priority for name, queue in _queues(client, pool).items()})
    return list(changes.values())


def _queues(client: SyncPrefectClient, pool: WorkPool) -> dict[str, Any]:
    return {queue.name: queue for queue in client.read_work_queues(work_pool_name=pool.name)}


def _check_priorities(pool: WorkPool, found: dict[str, int]) -> None:
    def order(queue: Queue) -> int:
        return found[queue.name]

    if [q.name for q in sorted(pool.queues, key=order)] != [
        q.name for q in sorted(pool.queues, key=lambda q: q.priority)
    ]:
        raise ValueError(f"work pool {pool.name}: its queues have the priorities {found}, expected {pool.queues}")


def _install_limit(client: SyncPrefectClient, limit: GlobalLimit) -> Change:
    wanted: dict[str, Any] = {"limit": limit.limit, "slot_decay_per_second": limit.slot_decay_per_second}
    try:
        found = client.read_global_concurrency_limit_by_name(limit.name)
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=limit.name, **wanted))
        return Change(kind="global limit", name=limit.name, outcome="created")
    different = _different(wanted, found)
    if different:
        client.update_global_concurrency_limit(limit.name, GlobalConcurrencyLimitUpdate(**wanted))
    return _changed("global limit", limit.name, different)


class _Alarm(BaseModel):
    """How an automation tells somebody."""

    type: Literal["call-webhook", "send-notification", "do-nothing"]
    block_document_id: UUID | None = None
    changes: list[Change] = []

    def action(self, notify: Notify) -> dict[str, Any]:
        if self.type == "send-notification":
            about = {"subject": notify.subject, "body": notify.message}
        elif self.type == "call-webhook":
            about = {"payload": _webhook_payload(notify)}
        else:
            return {"type": self.type}
        return {"type": self.type, "block_document_id": self.block_document_id, **about}


def _webhook_payload(notify: Notify) -> str:
    """A JSON object; a template inside a text becomes part of a Jinja string, which ``tojson`` escapes as a whole."""
    return (
        "{% set subject %}" + notify.subject + "{% endset %}{% set message %}" + notify.message + "{% endset %}"
        '{"subject": {{ subject | string | tojson }}, "message": {{ message | string | tojson }}}'
    )


def _install_alarm(client: SyncPrefectClient, settings: Settings) -> _Alarm:
    if settings.alarm_block is not None:
        slug, _, name = settings.alarm_block.partition("/")
        try:
            block = client.read_block_document_by_name(name, slug)
        except ObjectNotFound as error:
            raise ValueError(
                f"VITRIFLOW_ALARM_BLOCK is {settings.alarm_block}: the server has no such block; expected "
                "type/name, for instance slack-webhook/facility, of a block made in the Prefect UI"
            ) from error
        return _Alarm(type="send-notification", block_document_id=block.id)
    if settings.alarm_webhook is None:
        return _Alarm(type="do-nothing")
    data = {
        "method": "POST",
        "url": settings.alarm_webhook.get_secret_value(),
        "headers": {"Content-Type": "application/json"},
    }
    wanted = Webhook.model_validate(data)
    try:
        found = client.read_block_document_by_name(ALARM_BLOCK, "webhook", include_secrets=True)
    except ObjectNotFound:
        wanted.save(ALARM_BLOCK)
        found = client.read_block_document_by_name(ALARM_BLOCK, "webhook")
        change = Change(kind="block", name=f"webhook/{ALARM_BLOCK}", outcome="created")
    else:
        different = [key for key, value in data.items() if found.data.get(key) != value]
        if different:
            wanted.save(ALARM_BLOCK, overwrite=True)
        change = _changed("block", f"webhook/{ALARM_BLOCK}", different)
    return _Alarm(type="call-webhook", block_document_id=found.id, changes=[change])


def _remove_alarm(client: SyncPrefectClient, settings: Settings) -> list[Change]:
    """The block of a webhook that is no longer in the settings, once no automation calls it."""
    if settings.alarm_webhook is not None and settings.alarm_block is None:
        return []
    try:
        found = client.read_block_document_by_name(ALARM_BLOCK, "webhook")
    except ObjectNotFound:
        return []
    client.delete_block_document(found.id)
    return [Change(kind="block", name=f"webhook/{ALARM_BLOCK}", outcome="removed")]


def _install_deployment(client: SyncPrefectClient, declared: DeploymentDeclaration) -> Change:
    flow = declared.flow()
    name = f"{flow.name}/{declared.name}"
    parameters = declared.filled_parameters()
    form = parameter_form(flow)
    _check_schedules(declared, parameters, form)
    limit = declared.concurrency_limit
    options = None
    if isinstance(limit, ConcurrencyLimitConfig):
        options = ConcurrencyOptions(
            collision_strategy=limit.collision_strategy, grace_period_seconds=limit.grace_period_seconds
        )
        limit = limit.limit
    wanted: dict[str, Any] = {
        "description": declared.description,
        "entrypoint": declared.entrypoint,
        "tags": sorted({*declared.tags, OURS}),
        "parameters": parameters,
        "parameter_openapi_schema": form,
        "enforce_parameter_schema": declared.enforce_parameter_schema,
        "work_pool_name": declared.work_pool.name,
        "work_queue_name": declared.work_pool.work_queue_name,
        "job_variables": declared.work_pool.job_variables,
        "concurrency_limit": limit,
        "concurrency_options": options,
    }
    schedules = [
        DeploymentScheduleCreate(schedule=s.timing(), active=s.active, parameters=s.parameters)
        for s in declared.schedules
    ]
    try:
        found = client.read_deployment_by_name(name)
    except ObjectNotFound:
        found = None
    different = [] if found is None else _different_deployment(wanted, schedules, found)
    if found is None or different:
        flow_id = client.create_flow(flow)
        client.create_deployment(flow_id, declared.name, schedules=schedules, **wanted)
    return _changed("deployment", name, different, is_new=found is None)


def _check_schedules(declared: DeploymentDeclaration, parameters: dict[str, Any], form: dict[str, Any]) -> None:
    """A schedule that is on needs every parameter; without one a person fills in the form."""
    for schedule in declared.schedules:
        errors = validate(parameters | schedule.parameters, form, raise_on_error=False) if schedule.active else []
        if errors:
            found = "; ".join(error.message for error in errors)
            raise ValueError(
                f"deployment {declared.name}: its schedule is active, but its parameters do not suffice: {found}; give "
                "them in the facility's file (VITRIFLOW_FACILITY), or set the schedule to active: false"
            )


def _different_deployment(
    wanted: dict[str, Any], schedules: list[DeploymentScheduleCreate], found: DeploymentResponse
) -> list[str]:
    limit = found.global_concurrency_limit
    plain = {key: value for key, value in wanted.items() if key not in ("concurrency_limit", "tags")}
    different = _different(plain, found)
    if wanted["concurrency_limit"] != (limit.limit if limit else None):
        different.append("concurrency_limit")
    if wanted["tags"] != sorted(found.tags):
        different.append("tags")
    keys = {"schedule", "active", "parameters"}

    def told(schedule: Any) -> str:
        return str(sorted(schedule.model_dump(mode="json", include=keys).items()))

    if sorted(map(told, schedules)) != sorted(map(told, found.schedules)):
        different.append("schedules")
    return different


def _remove_deployments(client: SyncPrefectClient, declared: set[str]) -> list[Change]:
    changes = []
    for found in _pages(lambda offset: client.read_deployments(limit=_PAGE, offset=offset)):
        if OURS in found.tags and found.name not in declared:
            client.delete_deployment(found.id)
            changes.append(Change(kind="deployment", name=found.name, outcome="removed"))
    return changes


def our_resources(
    client: SyncPrefectClient, deployments: Sequence[DeploymentDeclaration]
) -> dict[str, dict[str, str | list[str]]]:
    """What ``our flows`` and ``our deployments`` mean: related resources that the events of their runs have."""
    flows = {deployment.flow().name for deployment in deployments}
    ids = [client.read_deployment_by_name(f"{d.flow().name}/{d.name}").id for d in deployments]
    return {
        "our flows": {"prefect.resource.role": "flow", "prefect.resource.name": sorted(flows)},
        "our deployments": {
            "prefect.resource.role": "deployment",
            "prefect.resource.id": sorted(f"prefect.deployment.{deployment_id}" for deployment_id in ids),
        },
    }


def automation_of(
    declared: AutomationDeclaration,
    ours: Mapping[str, Mapping[str, str | list[str]]],
    notify: Callable[[Notify], dict[str, Any]],
) -> AutomationCore:
    """Prefect's automation, with what is ours and the way to tell somebody filled in."""
    trigger = dict(declared.trigger)
    related = trigger.get("match_related")
    if isinstance(related, str):
        if related not in ours:
            raise ValueError(f"automation {declared.name}: match_related is {related!r}, expected one of {list(ours)}")
        trigger["match_related"] = ours[related]
    actions = [
        notify(Notify.model_validate(action["notify"])) if "notify" in action else action for action in declared.actions
    ]
    return AutomationCore.model_validate(
        {
            "name": declared.name,
            "description": declared.description,
            "tags": [OURS],
            "trigger": trigger,
            "actions": actions,
        }
    )


def _install_automation(client: SyncPrefectClient, wanted: AutomationCore, existing: list[Automation]) -> Change:
    found = next((a for a in existing if a.name == wanted.name and OURS in a.tags), None)
    if found is None:
        client.create_automation(wanted)
        return Change(kind="automation", name=wanted.name, outcome="created")
    # not as JSON: its lists have what is a set in any order
    has = found.model_dump()
    told = wanted.model_dump(exclude={"name", "enabled", "owner_resource"})
    different = [key for key, value in told.items() if value != has[key]]
    if different:
        client.update_automation(found.id, wanted.model_copy(update={"enabled": found.enabled}))
    return _changed("automation", wanted.name, different)


def _remove_automations(client: SyncPrefectClient, existing: list[Automation], declared: set[str]) -> list[Change]:
    changes = []
    for found in existing:
        if OURS in found.tags and found.name not in declared:
            client.delete_automation(found.id)
            changes.append(Change(kind="automation", name=found.name, outcome="removed"))
    return changes


def _all_automations(client: SyncPrefectClient) -> list[Automation]:
    def page(offset: int) -> list[Automation]:
        response = client.request("POST", "/automations/filter", json={"limit": _PAGE, "offset": offset})
        response.raise_for_status()
        return [Automation.model_validate(automation) for automation in response.json()]

    return _pages(page)


def _pages(read: Callable[[int], list[Any]]) -> list[Any]:
    found: list[Any] = []
    while page := read(len(found)):
        found += page
        if len(page) < _PAGE:
            break
    return found


def _different(wanted: dict[str, Any], found: BaseModel) -> list[str]:
    """Names of the fields that the server has otherwise."""
    has = found.model_dump(mode="json", include=set(wanted))
    return [key for key, value in wanted.items() if _plain(value) != has.get(key)]


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _changed(kind: str, name: str, different: list[str], is_new: bool = False) -> Change:
    outcome: Literal["created", "updated", "unchanged"] = (
        "created" if is_new else "updated" if different else "unchanged"
    )
    return Change(kind=kind, name=name, outcome=outcome, fields=different)
