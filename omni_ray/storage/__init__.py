"""The only durable IO of omni_ray: atomic writes, listing, ranged reads, concatenation.

A `Storage` is a root (a local folder now; the interface fits S3) and `/`-separated keys below it. A key either holds
the whole of what was put there or does not exist.
"""

from urllib.parse import urlsplit

from omni_ray.errors import NotInThisVersion, UsageError
from omni_ray.storage.base import TEMP_PREFIX, Appender, Slice, Stat, Storage, Writer
from omni_ray.storage.local import LocalStorage

__all__ = ["TEMP_PREFIX", "Appender", "LocalStorage", "Slice", "Stat", "Storage", "Writer", "open_storage"]


def open_storage(uri: str) -> Storage:
    """The storage at `uri`: a local path or `file://`.

    Raises:
        NotInThisVersion: for `s3://`.
        UsageError: for any other scheme.
    """
    scheme = urlsplit(uri).scheme
    if scheme in ("", "file"):
        return LocalStorage(uri.removeprefix("file://"))
    if scheme == "s3":
        raise NotInThisVersion(f"{uri}: this version writes to local or shared folders only; give a path as --out")
    raise UsageError(f"{uri}: no storage for the scheme {scheme!r}; give a local path")
