"""Objects in S3 buckets, read in place by ranges; globs are matched against a listing by page."""

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from fsspec.utils import glob_translate

from omni_ray.catalog import Source
from omni_ray.errors import CatalogError, NotInThisVersion, NotStored, SourceFailed, StorageError, UsageError
from omni_ray.prepare.records import InputFile

SCHEME = "s3://"
_MAGIC = re.compile(r"[*?\[]")


class S3File(NamedTuple):
    """An object at its pinned ETag; opens like a Path. `region` holds the bytes that are sure to be read."""

    bucket: str
    key: str
    size: int
    etag: str
    region: tuple[int, int]

    def open(self, mode: str = "rb") -> BinaryIO:
        """A seekable stream over it; reading raises DataError once the object is another one."""
        from omni_ray.storage.s3 import open_object

        assert mode == "rb"
        return open_object(self.bucket, self.key, self.size, f'"{self.etag}"', self.region)


def check_url(source: Source, url: str) -> None:
    """Raise CatalogError for a url that cannot be one."""
    from omni_ray.storage.s3_client import parse_uri

    where = f"{source.defined_in}: source {source.name!r}: url"
    try:
        key = parse_uri(url)[1]
        glob_translate(key)
    except (UsageError, ValueError) as error:
        raise CatalogError(f"{where}: {error}") from None
    if source.modality != "text" and url.endswith("/"):
        raise NotInThisVersion(
            f"{where}: {url}: folders of sounds and pictures are read from local and shared folders in this version; "
            "pack them as tar or zip, or give a table of their paths"
        )
    if not key:
        raise CatalogError(f"{where}: {url}: names a bucket; name the objects in it, as s3://bucket/folder/*.parquet")


def expand_url(source: Source, url: str) -> list[InputFile]:
    """The objects that `url` names, sorted by key; `**` stands for any number of folders.

    Raises:
        SourceFailed: naming the url, where it leads to no object or may not be looked at.
    """
    from omni_ray.storage.s3_client import naming, parse_uri

    where = f"{source.defined_in}: source {source.name!r}: url"
    bucket, key = parse_uri(url)
    try:
        with naming(url):
            found = list(_matches(bucket, key))
    except NotStored:
        found = []
    except StorageError as error:
        raise SourceFailed(f"{where}: {error}") from error
    if not found:
        raise SourceFailed(f"{where}: {url}: no object found; put the objects there or correct the url")
    return sorted(found, key=lambda file: file.path)


def read_beside(file: InputFile, path: str, most: int) -> bytes:
    """The content of the object at `path` beside `file`, `most` bytes and one at most.

    Raises:
        KeyError: where there is none.
    """
    from omni_ray.storage.s3_client import client, naming, parse_uri

    bucket, key = parse_uri(f"{file.path.rpartition('/')[0]}/{path}")
    try:
        with naming(f"{SCHEME}{bucket}/{key}"):
            data: bytes = client().get_object(Bucket=bucket, Key=key)["Body"].read(most + 1)
            return data
    except NotStored:
        raise KeyError(path) from None


def source_file(file: InputFile, region: tuple[int, int]) -> S3File:
    from omni_ray.storage.s3_client import parse_uri

    return S3File(*parse_uri(file.path), file.size, file.revision, region)


def _matches(bucket: str, pattern: str) -> Iterator[InputFile]:
    from omni_ray.storage.s3 import list_objects
    from omni_ray.storage.s3_client import client

    magic = _MAGIC.search(pattern)
    if magic is None:
        there = client().head_object(Bucket=bucket, Key=pattern)
        yield _input_file(bucket, pattern, there["ContentLength"], there["ETag"])
        return
    fixed = pattern[: magic.start()]
    wanted = re.compile(glob_translate(pattern))
    for found in list_objects(bucket, fixed):
        key: str = found["Key"]
        if wanted.match(key) and not key.endswith("/") and not _is_hidden(key, pattern):
            yield _input_file(bucket, key, found["Size"], found["ETag"])


def _is_hidden(key: str, pattern: str) -> bool:
    """A name that begins with a dot is matched where the pattern says the dot, as on disk."""
    return "/." in f"/{key}" and "/." not in f"/{pattern}"


def _input_file(bucket: str, key: str, size: int, etag: str) -> InputFile:
    return InputFile(f"{SCHEME}{bucket}/{key}", size, etag.strip('"'))
