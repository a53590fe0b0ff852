"""A Prefect server behind a login: nobody without it, everything with it, and it is written down nowhere."""

from __future__ import annotations

import base64
import http.client
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_HOME, temporary_settings

from flows.commands.services import running_services
from flows.services import ServiceError, down, require_login, up
from flows.settings import Settings
from tasks.records.secrets import SecretError

pytestmark = [pytest.mark.server, pytest.mark.site, pytest.mark.timeout(400)]

LOGIN = "operator:correct-horse-battery"


@flow
def seven() -> int:
    return 7


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("guarded")


@pytest.fixture(scope="module")
def guarded(home):
    """A server that was started with a login; the scheduler is somebody else's."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREFECT_SERVER_API_AUTH_STRING", LOGIN)
        settings = Settings(home=home, dask_address="tcp://127.0.0.1:1", prefect_api_url=None)
        yield up(settings)
        down(settings)


@pytest.fixture
def without_login(guarded, home, monkeypatch):
    """An operator's shell, in which only the place of the services is known."""
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING")
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    monkeypatch.setenv("VITRIFLOW_HOME", str(home))
    monkeypatch.setenv("VITRIFLOW_DASK_ADDRESS", "tcp://127.0.0.1:1")
    return guarded


def test_without_the_login_nothing_is_answered(without_login):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{without_login.prefect_api_url}/admin/version", timeout=30)
    assert refused.value.code == 401
    with pytest.raises(ServiceError, match="set PREFECT_API_AUTH_STRING"), running_services():
        pass


def test_with_another_login_the_command_line_says_so(without_login, monkeypatch):
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "operator:wrong-horse")
    with pytest.raises(ServiceError, match="another one than PREFECT_API_AUTH_STRING") as refused:
        require_login(without_login)
    assert "wrong-horse" not in str(refused.value)


def test_with_the_login_a_flow_runs_and_the_login_is_written_nowhere(without_login, home, monkeypatch):
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", LOGIN)
    with temporary_settings({PREFECT_HOME: home / "client"}), running_services():
        assert seven() == 7
        with get_client(sync_client=True) as client:
            (run,) = client.read_flow_runs()
    assert run.state_name == "Completed"
    files = [path for path in home.rglob("*") if path.is_file()]
    assert home / "services.json" in files
    assert [str(path) for path in files if b"correct-horse-battery" in path.read_bytes()] == []


def test_an_address_of_the_server_with_a_login_in_it_is_refused(tmp_path):
    with pytest.raises(SecretError, match="PREFECT_API_URL"):
        up(Settings(home=tmp_path, prefect_api_url="http://operator:correct-horse-battery@127.0.0.1:4200/api"))


NGINX = Path(__file__).parents[2] / "infra" / "nginx"


class _SignedIn(BaseHTTPRequestHandler):
    """Answers as oauth2-proxy does: somebody with its cookie is signed in."""

    def do_GET(self) -> None:
        self.send_response(202 if "_oauth2_proxy=signed" in self.headers.get("Cookie", "") else 401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def proxy(guarded, tmp_path):
    """Address of a real nginx with the project's configuration, ports and certificate of the test."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("nginx is absent; `bash infra/test-servers.sh` installs it where apt can")
    sign_in = ThreadingHTTPServer(("127.0.0.1", 0), _SignedIn)
    threading.Thread(target=sign_in.serve_forever, daemon=True).start()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    key = ["-keyout", str(tmp_path / "privkey.pem"), "-out", str(tmp_path / "fullchain.pem"), "-subj", "/CN=localhost"]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *key], check=True, capture_output=True)
    basic = base64.b64encode(LOGIN.encode()).decode()
    (tmp_path / "prefect-login.conf").write_text(
        f'map $http_authorization $prefect_login {{ "~^Basic " $http_authorization; default "Basic {basic}"; }}'
    )
    text = (NGINX / "vitriflow.conf").read_text()
    for ours, of_test in (
        ("/etc/vitriflow/tls/", f"{tmp_path}/"),
        ("/etc/vitriflow/", f"{tmp_path}/"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("127.0.0.1:4200", guarded.prefect_ui_url.removeprefix("http://")),
        ("127.0.0.1:4180", f"127.0.0.1:{sign_in.server_address[1]}"),
    ):
        assert ours in text
        text = text.replace(ours, of_test)
    places = "".join(
        f"{what}_temp_path {tmp_path}/{what};" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}"
    (tmp_path / "nginx.conf").write_text(f"{whole} http {{ access_log off; {places}\n{text}\n}}")
    command = [program, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "error.log").read_text()
            time.sleep(0.1)
    yield f"https://127.0.0.1:{port}"
    process.terminate()
    process.wait(30)
    sign_in.shutdown()


def _answer(url: str, **headers: str) -> tuple[int, str]:
    """Status, and where it sends to, of one request that follows no redirect."""
    place = urllib.parse.urlsplit(url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(place.netloc, context=context, timeout=30)
    connection.request("GET", place.path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("Location") or ""


def test_behind_the_proxy_people_sign_in_and_programs_log_in(proxy):
    api = f"{proxy}/api/admin/version"

    def basic(words: str) -> str:
        return f"Basic {base64.b64encode(words.encode()).decode()}"

    status, place = _answer(api)
    assert (status, place.split("/", 3)[3]) == (302, "oauth2/start?rd=/api/admin/version")
    assert _answer(api, Cookie="_oauth2_proxy=signed")[0] == 200
    assert _answer(f"{proxy}/", Cookie="_oauth2_proxy=signed")[0] == 200
    assert _answer(api, Authorization=basic(LOGIN))[0] == 200
    assert _answer(api, Authorization=basic("operator:wrong-horse"))[0] == 401  # Prefect checks it
    assert _answer(api, Cookie="_oauth2_proxy=forged")[0] == 302
