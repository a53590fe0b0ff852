"""OpenStack Swift with its S3 layer, from Debian's packages: a real server that checks signatures and permissions."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3

from tests.infra.processes import Programs, connects, free_ports, program, require_root

_RINGS = """
import sys
from swift.common.ring import RingBuilder
folder, ports = sys.argv[1], [int(p) for p in sys.argv[2:]]
for name, port in zip(("account", "container", "object"), ports):
    ring = RingBuilder(4, 1, 0)
    ring.add_dev(dict(id=0, region=1, zone=1, weight=1, ip="127.0.0.1", port=port, device="disk", meta="",
                      replication_ip="127.0.0.1", replication_port=port))
    ring.rebalance()
    ring.get_ring().save(f"{folder}/{name}.ring.gz")
"""

_STORAGE = """[DEFAULT]
devices = {home}/disks
mount_check = false
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = root
swift_dir = {home}
recon_cache_path = {home}
log_level = ERROR
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""

_PROXY = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = root
swift_dir = {home}
log_level = ERROR
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck proxy-logging cache listing_formats bulk s3api tempauth slo dlo
    proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:tempauth]
use = egg:swift#tempauth
user_lab_operator = operator-secret .admin
user_lab_reader = reader-secret
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
dns_compliant_bucket_names = yes
s3_acl = no
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
""" + "".join(
    f"[filter:{name}]\nuse = egg:swift#{name.replace('-', '_')}\n"
    for name in ("proxy-logging", "catch_errors", "gatekeeper", "healthcheck", "listing_formats", "bulk", "slo", "dlo")
)


@dataclass(frozen=True)
class S3User:
    """Who asks."""

    key: str
    secret: str

    def environment(self, endpoint: str) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@dataclass(frozen=True)
class SwiftServer:
    """Where it answers, and who may do what."""

    port: int
    operator: S3User
    """Reads and writes."""
    reader: S3User
    """Reads what `let_reader_in` opened."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def create_bucket(self, name: str) -> str:
        """A new bucket that the reader may read; returns its address."""
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.operator.key,
            aws_secret_access_key=self.operator.secret,
        )
        client.create_bucket(Bucket=name)
        asked = urllib.request.Request(f"{self.endpoint}/auth/v1.0")
        asked.add_header("X-Auth-User", self.operator.key)
        asked.add_header("X-Auth-Key", self.operator.secret)
        with urllib.request.urlopen(asked, timeout=30) as answer:
            storage, token = answer.headers["X-Storage-Url"], answer.headers["X-Auth-Token"]
        opened = urllib.request.Request(f"{storage}/{name}", method="POST")
        opened.add_header("X-Auth-Token", token)
        opened.add_header("X-Container-Read", self.reader.key)
        urllib.request.urlopen(opened, timeout=30).close()
        return f"s3://{name}"


@contextmanager
def swift_server(home: Path) -> Iterator[SwiftServer]:
    """A running server whose files lie below ``home``, on a file system with extended attributes."""
    require_root()
    program("swift-proxy-server", "swift-proxy")
    if not Path("/etc/swift/swift.conf").exists():
        Path("/etc/swift").mkdir(exist_ok=True)
        Path("/etc/swift/swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = test\n")
    (home / "disks" / "disk").mkdir(parents=True)
    *storage, proxy, memcached = free_ports(5)
    names = ("account", "container", "object")
    python = "/usr/bin/python3"
    plain = {"PATH": "/usr/sbin:/usr/bin:/bin", "PYTHONPATH": "", "VIRTUAL_ENV": ""}
    subprocess.run([python, "-c", _RINGS, str(home), *map(str, storage)], check=True, env=plain, timeout=60)
    for name, port in zip(names, storage):
        (home / f"{name}.conf").write_text(_STORAGE.format(home=home, name=name, port=port))
    (home / "proxy.conf").write_text(_PROXY.format(home=home, port=proxy, memcached=memcached))
    programs = Programs(home / "logs")
    try:
        memory = [
            program("memcached", "memcached"),
            "-u",
            "nobody",
            "-l",
            "127.0.0.1",
            "-p",
            str(memcached),
            "-m",
            "32",
        ]
        programs.start("memcached", memory)
        for name in (*names, "proxy"):
            programs.start(name, [program(f"swift-{name}-server", f"swift-{name}"), str(home / f"{name}.conf")], plain)
        programs.wait("Swift", lambda: all(connects(port) for port in (*storage, proxy, memcached)))
        yield SwiftServer(proxy, S3User("lab:operator", "operator-secret"), S3User("lab:reader", "reader-secret"))
    finally:
        programs.stop()
