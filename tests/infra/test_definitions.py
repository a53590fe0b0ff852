"""What `infra/` declares: valid for the programs that read it, and in agreement with the services started here."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from flows.declarations import DEPLOYMENTS
from flows.services import CLIENT_ENVIRONMENT, POOLS, QUIET_ENVIRONMENT, SCHEDULER_ENVIRONMENT, worker_environment
from flows.settings import Settings
from flows.slurm import SlurmSettings

INFRA = Path(__file__).parents[2] / "infra"
SCHEMAS = Path(__file__).parent / "schemas"
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())
MANIFESTS = [
    (path.name, manifest)
    for path in sorted((INFRA / "kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
]
UNITS = sorted(path for folder in ("systemd", "slurm") for path in (INFRA / folder).glob("*.service"))


@dataclass(frozen=True)
class Container:
    """A program and its environment, wherever it is declared."""

    where: str
    command: list[str]
    environment: dict[str, str]
    """Values of secrets are empty."""

    def runs(self, *words: str) -> bool:
        joined = " ".join(self.command)
        return re.search(rf"(^|/|\s){re.escape(' '.join(words))}(\s|$)", joined) is not None

    def option(self, name: str) -> str | None:
        """Value of ``--name value`` or ``--name=value``."""
        match = re.search(rf"--{name}[= ](\S+)", " ".join(self.command))
        return match[1] if match else None


def compose_containers() -> Iterator[Container]:
    for name, service in COMPOSE["services"].items():
        environment = {key: filled(str(value)) for key, value in service.get("environment", {}).items()}
        yield Container(f"compose:{name}", [filled(str(w)) for w in service.get("command", [])], environment)


def filled(text: str) -> str:
    """A compose value with its defaults; what `.env` has to give stays empty."""
    return re.sub(r"\$\{[A-Z0-9_]+(?::-([^}]*))?(?::\?[^}]*)?\}", lambda match: match[1] or "", text)


def kubernetes_containers() -> Iterator[Container]:
    maps = {m["metadata"]["name"]: m["data"] for _, m in MANIFESTS if m["kind"] == "ConfigMap"}
    for file, manifest in MANIFESTS:
        for container in found(manifest, "containers"):
            environment = {}
            for source in container.get("envFrom", []):
                environment |= maps[source["configMapRef"]["name"]]
            environment |= {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}
            name = f"kubernetes:{file}:{manifest['metadata']['name']}:{container['name']}"
            yield Container(name, container["args"], environment)


def found(tree: Any, key: str) -> Iterator[dict]:
    """Items of every list under this key, however deep."""
    if isinstance(tree, dict):
        yield from tree.get(key, [])
        tree = list(tree.values())
    for branch in tree if isinstance(tree, list) else []:
        yield from found(branch, key)


def systemd_containers() -> Iterator[Container]:
    shared = environment_of(INFRA / "systemd" / "vitriflow.env")
    for unit in UNITS:
        lines = unit.read_text().splitlines()
        environment = dict(shared)
        for line in lines:
            if line.startswith("Environment="):
                environment |= dict(pair.split("=", 1) for pair in shlex.split(line.removeprefix("Environment=")))
        (start,) = (line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart="))
        command = re.sub(r"\$\{(\w+)\}", lambda match: shared[match[1]], start).split()
        environment |= dict(word.split("=", 1) for word in command if re.fullmatch(r"[A-Z_]+=\S*", word))
        yield Container(f"systemd:{unit.name}", command, environment)


def environment_of(path: Path) -> dict[str, str]:
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


CONTAINERS = [*compose_containers(), *kubernetes_containers(), *systemd_containers()]


def those_that_run(*words: str) -> list[Any]:
    return [pytest.param(c, id=c.where) for c in CONTAINERS if c.runs(*words)]


def test_each_way_has_every_part():
    for way in ("compose", "kubernetes", "systemd"):
        here = [c for c in CONTAINERS if c.where.startswith(way)]
        for words, n in ((("prefect", "server", "start"), 1), (("dask", "scheduler"), 1), (("dask", "worker"), 2)):
            assert sum(c.runs(*words) for c in here) == n, (way, words)
        assert any(c.runs("prefect", "worker", "start") for c in here), way


@pytest.mark.parametrize("worker", those_that_run("dask", "worker"))
def test_every_dask_worker_carries_one_label_and_the_environment_of_an_embedded_one(worker):
    label, n_slots = (worker.option("resources") or "=").split("=")
    assert label in ("CPU", "GPU"), f"{worker.where}: unlabelled work lands on any worker, so each needs --resources"
    assert n_slots == worker.option("nthreads"), "one item a slot, one slot a thread"
    assert worker.option("nworkers") == "1" and worker.option("memory-limit")
    n_threads = int(worker.environment["OMP_NUM_THREADS"])
    assert n_threads == 1 if label == "CPU" else n_slots == "1"
    expected = worker_environment(label, n_threads)
    assert {name: worker.environment.get(name) for name in expected} == expected
    assert label == "CPU" or "CUDA_VISIBLE_DEVICES" not in worker.environment


@pytest.mark.parametrize("way", ["compose", "kubernetes", "systemd"])
def test_both_labels_are_served(way):
    workers = [c for c in CONTAINERS if c.where.startswith(way) and c.runs("dask", "worker")]
    assert sorted((w.option("resources") or "")[:3] for w in workers) == ["CPU", "GPU"]


@pytest.mark.parametrize("scheduler", those_that_run("dask", "scheduler"))
def test_a_scheduler_listens_where_flows_and_workers_look(scheduler):
    expected = {**SCHEDULER_ENVIRONMENT, **QUIET_ENVIRONMENT}
    assert {name: scheduler.environment.get(name) for name in expected} == expected
    port = scheduler.option("port")
    way = scheduler.where.split(":")[0]
    addresses = {
        c.environment["VITRIFLOW_DASK_ADDRESS"] for c in CONTAINERS if way in c.where and c.runs("prefect", "worker")
    }
    assert {address.rsplit(":", 1)[1] for address in addresses} == {port}


@pytest.mark.parametrize("worker", those_that_run("prefect", "worker", "start"))
def test_a_flow_worker_serves_a_declared_pool_and_asks_again(worker):
    declared = {pool["name"] for pool in yaml.safe_load((DEPLOYMENTS / "pools.yaml").read_text())["work_pools"]}
    pool = worker.option("pool")
    assert pool == "%i" or pool in declared & set(POOLS)
    assert worker.option("type") == "process"
    assert {name: worker.environment.get(name) for name in CLIENT_ENVIRONMENT} == CLIENT_ENVIRONMENT
    assert worker.environment["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] == "false"
    assert worker.environment["PREFECT_API_URL"] == worker.environment["VITRIFLOW_PREFECT_API_URL"]


@pytest.mark.parametrize("server", those_that_run("prefect", "server", "start"))
def test_the_prefect_server_listens_where_the_flow_workers_look(server):
    way = server.where.split(":")[0]
    urls = {c.environment["PREFECT_API_URL"] for c in CONTAINERS if way in c.where and c.runs("prefect", "worker")}
    assert urls == {server.environment["PREFECT_API_URL"]}
    assert server.environment["PREFECT_API_URL"].endswith(f":{server.option('port')}/api")
    if way != "systemd":  # there the line is a comment: a workstation starts on SQLite
        assert "PREFECT_SERVER_DATABASE_CONNECTION_URL" in server.environment


def test_every_vitriflow_variable_is_one_that_is_read():
    known = {f"VITRIFLOW_{name.upper()}" for name in Settings.model_fields} | {"VITRIFLOW_STORE_PATIENCE_SECONDS"}
    used = {name for c in CONTAINERS for name in c.environment if name.startswith("VITRIFLOW_")}
    assert used <= known
    slurm = set(environment_of(INFRA / "slurm" / "slurm.env"))
    assert slurm <= {f"VITRIFLOW_SLURM_{name.upper()}" for name in SlurmSettings.model_fields}


def test_the_values_of_the_slurm_settings_can_be_read(monkeypatch):
    for name, value in environment_of(INFRA / "slurm" / "slurm.env").items():
        monkeypatch.setenv(name, value)
    assert SlurmSettings().max_gpu_jobs == 4


def test_no_definition_holds_a_secret():
    secret = re.compile(r"PASSWORD|SECRET|_ACCESS_KEY$|DATABASE_URL|CONNECTION_URL")
    for container in CONTAINERS:
        for name, value in container.environment.items():
            if secret.search(name):
                assert re.fullmatch(r"|postgresql\+asyncpg://vitriflow:@database/prefect", value), (
                    container.where,
                    name,
                )


def test_published_ports_are_those_of_this_machine_only():
    for service in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_compose_file_is_valid():
    schema = json.loads((SCHEMAS / "compose-spec-1.29.2.json").read_text())
    numbers = json.loads(json.dumps(COMPOSE))
    numbers.pop("name")  # of the specification since 2022, after this schema
    jsonschema.validate(numbers, schema)


def test_the_compose_file_names_only_what_it_defines():
    services = COMPOSE["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", [])) <= set(services), name
        named = {v.split(":")[0] for v in service.get("volumes", []) if not v.startswith(("/", ".", "$"))}
        assert named <= set(COMPOSE["volumes"]), name
    asked = set(re.findall(r"\$\{([A-Z0-9_]+):?\?", (INFRA / "compose.yaml").read_text()))
    assert asked <= set(environment_of(INFRA / "compose.env"))


@pytest.mark.parametrize("file, manifest", [pytest.param(f, m, id=f"{f}:{m['kind']}") for f, m in MANIFESTS])
def test_a_manifest_is_valid(file, manifest):
    if manifest["apiVersion"].startswith("kubernetes.dask.org/"):
        schema = closed(json.loads((SCHEMAS / "dask-operator-2026.3.json").read_text())[manifest["kind"]])
        body = {key: value for key, value in manifest.items() if key not in ("apiVersion", "kind", "metadata")}
        jsonschema.validate(body, schema)
        return
    definitions = json.loads((SCHEMAS / "kubernetes-1.34.json").read_text())["$defs"]
    group = {"v1": "core.v1", "apps/v1": "apps.v1"}[manifest["apiVersion"]]
    schema = {"$defs": definitions, "$ref": f"#/$defs/io.k8s.api.{group}.{manifest['kind']}"}
    jsonschema.validate(manifest, schema)


def closed(schema: Any) -> Any:
    """The schema of a custom resource that refuses what the server would drop without a word."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {key: closed(part) for key, part in schema.items()}
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not is_open:
        parts["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    return parts


@pytest.mark.parametrize("mistake", ["replica", "container"])
def test_a_misspelt_manifest_is_refused(mistake):
    ((_, cluster),) = [(f, m) for f, m in MANIFESTS if m["kind"] == "DaskCluster"]
    wrong = json.loads(json.dumps({"spec": cluster["spec"]}))
    if mistake == "replica":
        wrong["spec"]["worker"]["replica"] = 3
    else:
        wrong["spec"]["worker"]["spec"]["containers"][0]["agrs"] = []
    schema = closed(json.loads((SCHEMAS / "dask-operator-2026.3.json").read_text())["DaskCluster"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


def test_what_a_manifest_refers_to_is_declared():
    here = {(m["kind"], m["metadata"]["name"]) for _, m in MANIFESTS}
    text = "\n".join(path.read_text() for path in (INFRA / "kubernetes").glob("*.yaml"))
    for name in re.findall(r"claimName: ([\w-]+)", text):
        assert ("PersistentVolumeClaim", name) in here
    for name in re.findall(r"configMapRef: \{name: ([\w-]+)\}", text):
        assert ("ConfigMap", name) in here
    keys = set(re.findall(r"secretKeyRef: \{name: vitriflow-secrets, key: ([\w-]+)\}", text))
    assert keys == set(re.findall(r"--from-literal=([\w-]+)=", text))
    assert all(m["metadata"]["namespace"] == "vitriflow" for _, m in MANIFESTS if m["kind"] != "Namespace")
    ((_, group),) = [(f, m) for f, m in MANIFESTS if m["kind"] == "DaskWorkerGroup"]
    assert ("DaskCluster", group["spec"]["cluster"]) in here
    pod = group["spec"]["worker"]["spec"]
    assert pod["nodeSelector"] and pod["tolerations"] and pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]


def test_the_units_are_valid(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is absent (Debian: systemd)")
    for path in (INFRA / "systemd").iterdir():
        name = path.name.replace("@.service", "@vitriflow-cpu.service")
        (tmp_path / name).write_text(path.read_text().replace("/opt/vitriflow/.venv", sys.prefix))
    slurm = INFRA / "slurm" / "vitriflow-slurm.service"
    (tmp_path / slurm.name).write_text(slurm.read_text().replace("/opt/vitriflow/.venv", sys.prefix))
    units = sorted(str(path) for path in tmp_path.iterdir() if path.suffix in (".service", ".target"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=60)
    complaints = [line for line in done.stderr.splitlines() if "vitriflow" in line]
    assert not complaints, complaints


def test_every_unit_of_the_target_is_here():
    wanted = re.findall(r"vitriflow-[\w@-]+\.service", (INFRA / "systemd" / "vitriflow.target").read_text())
    files = {path.name for path in (INFRA / "systemd").iterdir()}
    assert wanted and {re.sub(r"@[\w-]+\.", "@.", name) for name in wanted} <= files
    pools = {match for name in wanted for match in re.findall(r"@([\w-]+)\.", name)}
    assert pools == set(POOLS)


def test_the_image_installs_what_is_locked():
    text = (INFRA / "Containerfile").read_text()
    assert "-r requirements.lock" in text and "--no-deps -e ." in text
    for folder in re.findall(r"^COPY (\w+) \1$", text, re.M):
        assert (INFRA.parent / folder).is_dir()
        assert f"!{folder}" in (INFRA.parent / ".containerignore").read_text().splitlines()
    minor = re.search(r"python:(\d+\.\d+)-", text)
    assert minor and minor[1] == "3.11"
