"""Artifacts of a session in the Prefect UI: one for each key, replaced and never piled up.

Prefect keeps every artifact that was ever made under a key. A session is shown again after each batch and each run, so
here the artifact of a key is written over while its flow run lasts, and removed when a later run has made its own: the
database grows by one set of artifacts a session, not by one a batch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.context import FlowRunContext

from tasks.plots import page


def artifact_key(session_name: str, picture: str) -> str:
    """Key of an artifact: lower-case letters, digits and dashes, the session first so that each has its own."""
    return re.sub(r"[^a-z0-9]+", "-", f"{session_name}-{picture}".lower()).strip("-")


def show_table(key: str, rows: Sequence[Mapping[str, object]], description: str) -> None:
    _show(key, "table", json.dumps(rows), description)


def show_markdown(key: str, text: str, description: str) -> None:
    _show(key, "markdown", text, description)


def show_image(key: str, png: bytes, description: str) -> None:
    _show(key, "image", page.data_uri(png), description)


def _show(key: str, kind: str, data: str, description: str) -> None:
    """Nothing outside of a flow run."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    run_id = context.flow_run.id
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
        own = next((artifact for artifact in found if artifact.flow_run_id == run_id), None)
        if own is not None and (own.data, own.description) == (data, description):
            return
        if own is not None:
            client.update_artifact(own.id, ArtifactUpdate(data=data, description=description))
        else:
            client.create_artifact(
                ArtifactCreate(key=key, type=kind, data=data, description=description, flow_run_id=run_id)
            )
        for artifact in found:
            if own is None or artifact.id != own.id:
                client.delete_artifact(artifact.id)
