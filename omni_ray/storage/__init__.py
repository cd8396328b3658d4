"""The only durable IO of omni_ray: atomic writes, listing, ranged reads, concatenation.

A `Storage` is a root (a folder, or a prefix in an S3 bucket) and `/`-separated keys below it. A key either holds the
whole of what was put there or does not exist.
"""

from urllib.parse import urlsplit

from omni_ray.errors import UsageError
from omni_ray.storage.base import (
    TEMP_PREFIX,
    Appender,
    Assembly,
    Log,
    PartStat,
    Slice,
    Staged,
    Stat,
    Storage,
    Writer,
    is_temporary,
)
from omni_ray.storage.local import LocalStorage

__all__ = [
    "TEMP_PREFIX",
    "Appender",
    "Assembly",
    "LocalStorage",
    "Log",
    "PartStat",
    "Slice",
    "Staged",
    "Stat",
    "Storage",
    "Writer",
    "is_temporary",
    "open_storage",
]


def open_storage(uri: str) -> Storage:
    """The storage at `uri`: a local path, `file://` or `s3://bucket/prefix`.

    Raises:
        UsageError: for any other scheme.
    """
    scheme = urlsplit(uri).scheme
    if scheme in ("", "file"):
        return LocalStorage(uri.removeprefix("file://"))
    if scheme == "s3":
        from omni_ray.storage.s3 import S3Storage  # not at the top: boto3 takes a second that local runs can save

        return S3Storage(uri)
    raise UsageError(f"{uri}: no storage for the scheme {scheme!r}; give a path or s3://bucket/prefix")
