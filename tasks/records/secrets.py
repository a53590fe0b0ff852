"""Secrets stay where they belong: parameters that hold one are refused, and texts of others are cleared of them.

A secret comes from the environment, or from a block of the Prefect server (`tasks.stores.storage.credentials`). A
recipe is kept in the store, shown in the Prefect UI and printed in reports, and so is an address.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

HIDDEN = "***"

_SECRET_NAME = re.compile(
    r"(?i)(^|[_.-])(password|passwd|pwd|secret|token|api_?key|access_?key(_?id)?|private_?key|credentials?|auth_?string)"
    r"($|[_.-](?!block$))"
)
_SECRET_VARIABLE = re.compile(r"(?i)SECRET|TOKEN|PASSWORD|PASSWD|AUTH_STRING|API_KEY|ACCESS_KEY|WEBHOOK")
_CONNECTION_VARIABLE = re.compile(r"(?i)(CONNECTION_URL|DATABASE_URL|_DSN)$")
_SHORTEST_SECRET = 8

_ACCESS_KEY_ID = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")
_LOGIN_IN_URL = re.compile(r"(?<=://)[^\s/:@]*:[^\s@]+(?=@)")
_SIGNATURE = re.compile(r"(?i)(?<=X-Amz-Signature=)[0-9a-f]+|(?<=X-Amz-Credential=)[^&\s]+|(?<=Signature=)[0-9a-f]{64}")
_PATTERNS = {
    "an AWS access key": _ACCESS_KEY_ID,
    "a login in an address": _LOGIN_IN_URL,
    "a signed address": _SIGNATURE,
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "an access token": re.compile(
        r"\b(?:gh[pousr]_[A-Za-z0-9]{30,}|xox[abposr]-[A-Za-z0-9-]{10,}|pn[ub]_[A-Za-z0-9]{30,})"
    ),
}
_AWS_SECRET = re.compile(r"(?<![A-Za-z0-9/+=])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")


class SecretError(RuntimeError):
    """A parameter or an address that holds a secret; the message names the place and never the secret."""


def refuse_secrets(value: Any, what: str) -> None:
    """Raise SecretError where ``value``, or anything inside it, looks like a secret."""
    for place, kind in find_secrets(value):
        raise SecretError(
            f"{what}{f', {place}' if place else ''}: looks like {kind}; secrets come from the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, …) or from a Prefect Secret block (VITRIFLOW_S3_BLOCK), never "
            "from a recipe or an address. Take it out, and replace it by a new one if it was written down or sent"
        )


def find_secrets(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Place of each thing inside ``value`` that looks like a secret, and what it looks like."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            where = f"{place}.{name}" if place else str(name)
            if isinstance(inner, str) and inner and _SECRET_NAME.search(str(name)):
                yield where, "a secret, by its name"
            else:
                yield from find_secrets(inner, where)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for number, inner in enumerate(value):
            yield from find_secrets(inner, f"{place}[{number}]")
    elif isinstance(value, str):
        kind = _kind_of(value)
        if kind is not None:
            yield place, kind


def _kind_of(text: str) -> str | None:
    for kind, pattern in _PATTERNS.items():
        if pattern.search(text):
            return kind
    if any(secret in text for secret in _known_secrets()):
        return "the value of a variable of the environment that holds a secret"
    if any(_is_random(found) for found in _AWS_SECRET.findall(text)):
        return "an AWS secret access key"
    return None


def _is_random(text: str) -> bool:
    """Whether forty characters look drawn at random: folders, words and hexadecimal digests do not."""
    kinds = (str.isupper, str.islower, str.isdigit)
    if not all(any(is_kind(character) for character in text) for is_kind in kinds) or text.count("/") > 4:
        return False
    entropy = -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())
    n_changes = sum(a.isupper() != b.isupper() or a.isdigit() != b.isdigit() for a, b in pairwise(text))
    return entropy > 4.3 and n_changes >= 14


def redacted(text: str) -> str:
    """The text without logins, keys, signatures and the secrets of this process's environment."""
    for secret in _known_secrets():
        text = text.replace(secret, HIDDEN)
    for pattern in _PATTERNS.values():
        text = pattern.sub(HIDDEN, text)
    return text


def _known_secrets() -> list[str]:
    """Values of variables whose name says secret, the longest first."""
    found = set()
    for name, value in os.environ.items():
        if _SECRET_VARIABLE.search(name) and not name.endswith(("_BLOCK", "_FILE")):
            found |= {value, *value.split(":", 1)[1:]}  # of user:password the password alone is one, too
        elif _CONNECTION_VARIABLE.search(name):
            found |= {login.partition(":")[2] for login in _LOGIN_IN_URL.findall(value)}
    return sorted((value for value in found if len(value) >= _SHORTEST_SECRET), key=len, reverse=True)
