"""The S3 client of the stores: it waits for a server that fails for a while, and says in words why it is refused.

A server that is restarted, overloaded or out of reach answers with 5xx, asks for fewer requests, or not at all. Every
request of a store (zarr's chunks and the commit records alike) is repeated then, with growing pauses, for
``VITRIFLOW_STORE_PATIENCE_SECONDS``. A request repeated is the same request: whole objects are put and read, so
nothing is done twice. What waiting does not mend (credentials, permissions, a bucket that is not there) raises at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from aiohttp import ClientError as HttpError
from botocore.exceptions import (
    BotoCoreError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as EndpointError
from botocore.parsers import ResponseParserError
from fsspec.exceptions import FSTimeoutError
from s3fs import S3FileSystem

from tasks.records.secrets import redacted

logger = logging.getLogger(__name__)

DEFAULT_PATIENCE_SECONDS = 300.0
"""Longer than a restart of a storage node, shorter than a night without a word."""

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
_RESIGNED_SECONDS = 30.0
"""After a request was given up, others fail at their first error for so long: one outage is waited for once."""

_SILENT = (
    ConnectionError,
    TimeoutError,
    EndpointError,
    HTTPClientError,
    IncompleteReadError,
    ResponseParserError,
    FSTimeoutError,
    HttpError,
    asyncio.IncompleteReadError,
)
_BUSY_CODES = {"SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestTimeout", "OperationAborted"}
_BUSY_STATUS = {408, 429, 500, 502, 503, 504}
_CREDENTIAL_CODES = {
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidSecurity",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}

P = ParamSpec("P")
T = TypeVar("T")


class StoreSilentError(OSError):
    """An S3 server that did not answer, or answered errors of its own, for as long as patience lasted."""


class StoreRefusedError(PermissionError):
    """An S3 server that does not accept who asks, or what is asked; waiting does not mend it."""


def patience_seconds() -> float:
    """For how long a failing store is waited for: VITRIFLOW_STORE_PATIENCE_SECONDS, or the default."""
    text = os.environ.get("VITRIFLOW_STORE_PATIENCE_SECONDS", "")
    if not text:
        return DEFAULT_PATIENCE_SECONDS
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ValueError(
            f"VITRIFLOW_STORE_PATIENCE_SECONDS is {text!r}, expected a number of seconds from 0; "
            f"leave it out for {DEFAULT_PATIENCE_SECONDS:.0f}"
        )
    return value


class Patience:
    """How long the requests of one process wait for their server; shared by its clients."""

    def __init__(self, endpoint: str, seconds: float) -> None:
        self.seconds = seconds
        self._endpoint = endpoint
        self._failing_since: float | None = None
        self._resigned_at = float("-inf")

    async def wait_through(self, request: Callable[[], Awaitable[T]]) -> T:
        """Result of the request, made again while its failure is one that passes and patience lasts."""
        started: float | None = None
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                result = await request()
            except StoreSilentError:  # a request inside this one waited already
                raise
            except Exception as error:
                if not is_passing(error):
                    self._answered()
                    refusal = _in_words(error)
                    if refusal is None:
                        raise
                    raise refusal from error
                now = time.monotonic()
                started = now if started is None else started
                self._failed(error, now)
                is_resigned = now - self._resigned_at < _RESIGNED_SECONDS
                if is_resigned or now - started + pause > self.seconds:
                    self._resigned_at = now
                    raise StoreSilentError(
                        f"the S3 server at {self._endpoint} failed for {now - (self._failing_since or now):.0f} s "
                        f"({_line(error)}); it is waited for {self.seconds:.0f} s (VITRIFLOW_STORE_PATIENCE_SECONDS)"
                    ) from error
                await asyncio.sleep(pause * random.uniform(0.6, 1.0))
                pause = min(1.7 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                self._answered()
                return result

    def _failed(self, error: Exception, now: float) -> None:
        if self._failing_since is None:
            self._failing_since = now
            logger.warning(
                "store at %s fails (%s); it is tried again for up to %.0f s", self._endpoint, _line(error), self.seconds
            )

    def _answered(self) -> None:
        if self._failing_since is not None:
            logger.warning(
                "store at %s answers again after %.1f s", self._endpoint, time.monotonic() - self._failing_since
            )
        self._failing_since = None
        self._resigned_at = float("-inf")


def is_passing(error: BaseException) -> bool:
    """Whether this failure of a request is one that passes: no answer, an error of the server, too many requests."""
    if isinstance(error, (PermissionError, FileNotFoundError, NoCredentialsError, PartialCredentialsError)):
        return False
    response = _response(error)
    if response is not None:
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = response.get("Error", {}).get("Code", "")
        return status in _BUSY_STATUS or code in _BUSY_CODES
    return isinstance(error, _SILENT)


def _in_words(error: Exception) -> OSError | None:
    """An error that says what is refused; None for one that says it itself."""
    code = str((_response(error) or {}).get("Error", {}).get("Code", ""))
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return StoreRefusedError(
            "no S3 credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if code in _CREDENTIAL_CODES:
        return StoreRefusedError(
            f"the S3 credentials are not accepted ({code}); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if code == "RequestTimeTooSkewed":
        return StoreRefusedError("the clocks of this machine and of the S3 server differ too much; set the clock")
    if code == "AccessDenied":
        return StoreRefusedError(
            "the S3 credentials are accepted but do not allow this (AccessDenied); ask the owner of the bucket for "
            "permission, or use the credentials of a user who has it"
        )
    if isinstance(error, PermissionError):
        return StoreRefusedError(
            f"the S3 server refuses this ({_line(error)}): the credentials are wrong, or do not allow it"
        )
    if isinstance(error, BotoCoreError) and not isinstance(error, OSError):
        return OSError(_line(error))
    return None


def _response(error: BaseException | None) -> dict[str, Any] | None:
    """The server's answer behind an error, as botocore parsed it."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return response
        error = error.__cause__
    return None


def _line(error: BaseException) -> str:
    return redacted(f"{type(error).__name__}: {' '.join(str(error).split())}")


def _patiently(request: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    @wraps(request)
    async def repeated(*args: P.args, **kwargs: P.kwargs) -> T:
        client = args[0]
        assert isinstance(client, PatientS3)
        return await client.patience.wait_through(lambda: request(*args, **kwargs))

    return repeated


class PatientS3(S3FileSystem):  # type: ignore[misc]
    """s3fs whose requests wait through an outage; what is repeated here is not repeated again below."""

    retries = 1

    def __init__(self, patience: Patience, **options: Any) -> None:
        super().__init__(config_kwargs={"retries": {"total_max_attempts": 1}}, **options)
        self.patience = patience

    _cat_file = _patiently(S3FileSystem._cat_file)
    _pipe_file = _patiently(S3FileSystem._pipe_file)
    _info = _patiently(S3FileSystem._info)
    _ls = _patiently(S3FileSystem._ls)
    _find = _patiently(S3FileSystem._find)
    _rm = _patiently(S3FileSystem._rm)
    _rm_file = _patiently(S3FileSystem._rm_file)
