"""S3 credentials that lie in a Secret block of the Prefect server: each process asks for them itself.

``VITRIFLOW_S3_BLOCK`` names the block; its value is ``{"access_key_id": …, "secret_access_key": …}``, with a
``session_token`` where there is one. Only the name of the block stands in the environment, and nothing secret passes
through Dask or a flow's parameters. Without it the usual variables (``AWS_…``) hold.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from typing import Any

_NAMES = {"access_key_id": "key", "secret_access_key": "secret", "session_token": "token"}


class CredentialsError(OSError):
    """A Secret block that is not there, or does not hold S3 credentials."""


def block_name() -> str | None:
    return os.environ.get("VITRIFLOW_S3_BLOCK") or None


@lru_cache(maxsize=4)
def credentials_of(block: str) -> dict[str, str]:
    """Keyword arguments of an S3 client, from a block; asked for once a process."""
    from prefect.blocks.system import Secret  # takes a second, which every look at a store would wait for

    try:
        value: Any = Secret.load(block, _sync=True).get()  # type: ignore[call-arg, union-attr]
    except ValueError as error:
        raise CredentialsError(
            f"no Secret block {block!r} on the Prefect server; make it in the UI (Blocks, Secret), or correct "
            "VITRIFLOW_S3_BLOCK"
        ) from error
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, dict) or not {"access_key_id", "secret_access_key"} <= set(value) <= set(_NAMES):
        raise CredentialsError(
            f"Secret block {block!r}: expected JSON with access_key_id and secret_access_key (and session_token), "
            "found something else; correct the block in the Prefect UI"
        )
    return {_NAMES[name]: str(text) for name, text in value.items()}
