"""A session is deposited at the command line and as an operator starts it, and the Prefect UI says what came of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from typer.testing import CliRunner

from flows.cli import app
from flows.declarations import parameter_form, read_declarations
from flows.deposit import deposit
from tasks.deposition.information import MissingInformationError
from tasks.stores.session_store import SessionStore
from tasks.workers.connection import connect
from tests.truth import deposited_session as truth

pytestmark = [pytest.mark.server, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def session(tmp_path_factory, connected) -> tuple[SessionStore, Path]:
    folder = tmp_path_factory.mktemp("deposited")
    store = SessionStore.create(str(folder / "two.zarr"), "two-helices")
    with connect(connected.dask_address):
        truth.fill_for_deposition(store, folder / "movies")
    about = folder / "about.yaml"
    about.write_text(truth.TOLD)
    return store, about


def artifact() -> str:
    with get_client(sync_client=True) as client:
        key = ArtifactFilterKey(any_=["two-helices-deposition"])
        (found,) = client.read_artifacts(artifact_filter=ArtifactFilter(key=key))
    return str(found.data)


def test_the_command_writes_a_bundle_and_the_page_says_what_it_holds_and_lacks(session, tmp_path):
    store, about = session
    asked = ["deposit", store.url, str(tmp_path / "bundle"), "--about", str(about), "--images", "particles"]
    done = CliRunner().invoke(app, asked, env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    lines = done.output.splitlines()
    assert lines[-len(manifest["checks"]) - 1 :] == [
        f"{len(manifest['files'])} files written to {tmp_path / 'bundle'}", *manifest["checks"]
    ]  # fmt: skip
    shown = artifact()
    n_emdb = sum(row["name"].startswith("emdb/") for row in manifest["files"])
    assert f"| EMDB: map, half maps, masks, FSC, picture, header | {n_emdb} |" in shown
    assert f"`{tmp_path / 'bundle'}`" in shown
    assert "- no movies for EMPIAR" in shown and "- no micrographs for EMPIAR" in shown
    assert "specimen.humidity\\_percent" in shown and "authors\\[2\\].orcid" in shown
    assert "specimen.plunger" not in shown and "authors\\[1\\].orcid" not in shown
    for words in ("FSC from half maps: the same", "FSC from particles: the same"):
        assert words in shown
    again = CliRunner().invoke(app, asked, env={"COLUMNS": "200"})
    assert again.exit_code == 1 and "is there already" in again.output


def test_a_run_of_the_form_lists_what_lacks_and_is_run_again_once_that_is_mended(session):
    store, about = session
    (declared,) = [d for d in read_declarations().deployments if d.name == "deposit"]
    flow = declared.flow()
    assert flow.name == deposit.name and parameter_form(flow)["required"] == ["session_url", "about"]
    values = flow.validate_parameters({
        "session_url": store.url, "about": str(about), "params": {"has_pdb": False, "image_sets": ["particles"]},
    })  # fmt: skip
    about.write_text(truth.TOLD.replace("  email: marie@example.org\n", "").replace("grants:", "prizes:"))
    with pytest.raises(MissingInformationError):
        deposit(**values)
    shown = artifact()
    assert "nothing was deposited" in shown
    assert "- contact.email: is missing; write" in shown and "- prizes: is no field of a deposition" in shown
    folder = Path(store.url).parent
    assert not list(folder.glob("*bundle*")) and not list(folder.glob(".*"))
    about.write_text(truth.TOLD)
    for number in (1, 2):
        files = deposit(**values)
        assert {Path(file).relative_to(folder).parts[0] for file in files} == {f"two-bundle-{number}"}
        assert all(Path(file).is_file() for file in files)
    shown = artifact()
    assert "two-bundle-2`" in shown and "- no model: the part for the PDB was left out" in shown
