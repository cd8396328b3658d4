"""The connection to S3: one boto3 client per process, errors in words, and retries of what botocore does not retry.

Credentials, region, profile and AWS_ENDPOINT_URL come from where every AWS tool takes them (environment, files,
instance role), through a plain boto3 session; nothing here reads, keeps or shows them.
"""

import functools
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, NoReturn
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from omni_ray.errors import DataError, NotStored, StorageError, UsageError

ATTEMPTS = 8  # of one request; botocore waits up to 20 s between two, with full jitter
CONNECTIONS = 64  # of one process; more than its threads ask through at once
CONNECT_SECONDS = 10
READ_SECONDS = 60
BODY_ATTEMPTS = 5  # of one range whose body was cut off
CONFLICT_ATTEMPTS = 5  # of a conditional write that met another one

_CUT = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
_PERMISSIONS = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject and s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "DeleteObject": "s3:DeleteObject",
    "DeleteObjects": "s3:DeleteObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListParts": "s3:ListMultipartUploadParts",
    "UploadPartCopy": "s3:GetObject and s3:PutObject",
}
_REJECTED = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired")
_lock = threading.Lock()


def parse_uri(uri: str) -> tuple[str, str]:
    """Bucket and key (without a leading `/`, "" for the bucket itself) of `s3://bucket/key`.

    Raises:
        UsageError: for a uri without a bucket, or with credentials in it; they are not shown.
    """
    parts = urlsplit(uri, allow_fragments=False)
    if "@" in parts.netloc:
        raise UsageError(
            "an s3:// uri holds no credentials; take them out of it and use AWS_PROFILE, the AWS_* variables or an "
            "instance role"
        )
    if parts.scheme != "s3" or not parts.netloc:
        raise UsageError(f"{uri}: write s3://bucket/prefix")
    return parts.netloc, uri.removeprefix(f"s3://{parts.netloc}").lstrip("/")


def client() -> Any:
    """The process's S3 client; safe to use from many threads."""
    with _lock:
        return _client()


@functools.cache
def _client() -> Any:
    try:
        session = botocore.session.get_session()
        chosen = session.get_config_variable("max_attempts")
        config = Config(
            retries={"mode": "standard", "total_max_attempts": int(chosen) if chosen else ATTEMPTS},
            max_pool_connections=CONNECTIONS,
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            user_agent_extra="omni_ray",
        )
        return boto3.session.Session(botocore_session=session).client("s3", config=config)
    except (BotoCoreError, ValueError) as error:  # a profile or an endpoint that is not what it should be
        said = _without_url(str(error))
        raise StorageError(f"S3 cannot be used: {said}; correct the AWS settings of this process") from error


@contextmanager
def naming(uri: str) -> Iterator[None]:
    """Turn an error of boto3 into one that names `uri` and says what to do."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise_for(error, uri)


def raise_for(error: ClientError | BotoCoreError, uri: str) -> NoReturn:
    """Only code, message and operation are shown: the whole response may repeat what the request was signed with."""
    if isinstance(error, ClientError) and code_of(error) in ("412", "PreconditionFailed"):
        raise DataError(f"{uri}: changed while it was read; --update takes it as it is now") from error
    if isinstance(error, ClientError) and is_missing(error):
        raise NotStored(f"{uri}: No such file; `omni-ray verify` lists what is missing") from error
    raise StorageError(f"{uri}: {_words(error)}") from error


def code_of(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def was_retried(error: ClientError) -> bool:
    """Whether an earlier attempt of the request may have done its work before its answer was lost."""
    return int(error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0)) > 0


def is_missing(error: ClientError) -> bool:
    return code_of(error) in ("404", "NoSuchKey", "NotFound")


def read_body(fetch: Callable[[], dict[str, Any]], most: int | None = None) -> bytes:
    """The body of a GET, or its first `most` bytes. A connection cut in the body is no failure of the request to
    botocore, so it ends here."""
    for attempt in range(1, BODY_ATTEMPTS + 1):
        try:
            with closing(fetch()["Body"]) as body:
                data: bytes = body.read(most)
            return data
        except _CUT:
            if attempt == BODY_ATTEMPTS:
                raise
            pause(attempt)
    raise AssertionError("unreachable")


def pause(attempt: int) -> None:
    """Wait before the next attempt: up to 0.1, 0.2, 0.4 ... seconds, evenly at random."""
    time.sleep(random.random() * 0.1 * 2 ** (attempt - 1))


def _words(error: ClientError | BotoCoreError) -> str:
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return "no AWS credentials were found; set AWS_PROFILE or the AWS_* variables, or give this host a role"
    if isinstance(error, EndpointConnectionError | ConnectTimeoutError):
        return "the S3 endpoint does not answer; check the network and AWS_ENDPOINT_URL, and run the command again"
    if not isinstance(error, ClientError):
        return f"{type(error).__name__}: {_without_url(str(error))}; run the same command again"
    code, operation = code_of(error), error.operation_name
    if code == "NoSuchBucket":
        return "the bucket does not exist; create it or correct the uri"
    if code in _REJECTED:
        return f"the credentials in use were rejected ({code}); renew or correct them"
    if status_of(error) == 403:
        needed = _PERMISSIONS.get(operation, "s3:PutObject")
        return f"no permission ({operation}: {code}); the credentials in use need {needed} here"
    if status_of(error) == 503:
        return f"the store asked to slow down {ATTEMPTS} times ({operation}: {code}); run the same command again"
    message = error.response.get("Error", {}).get("Message", "")
    return f"{operation}: {code}: {message}; run the same command again"


def _without_url(text: str) -> str:
    """An endpoint may be written with a password in it."""
    return " ".join("(url)" if "://" in word else word for word in text.split())
