"""Objects in S3 buckets, read in place by ranges; globs are matched against a listing by page."""

import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

from fsspec.utils import glob_translate

from omni_ray.catalog import Source
from omni_ray.errors import CatalogError, NotStored, SourceFailed, StorageError, UsageError
from omni_ray.prepare.records import InputFile, Member
from omni_ray.prepare.sources.folders import tallied

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
    if not key and (source.modality == "text" or not url.endswith("/")):
        raise CatalogError(f"{where}: {url}: names a bucket; name the objects in it, as s3://bucket/folder/*.parquet")


def expand_url(source: Source, url: str) -> list[InputFile]:
    """The objects, or folders of sounds and pictures, that `url` names, sorted; `**` stands for any number of folders.

    Raises:
        SourceFailed: naming the url, where it leads to no object or may not be looked at.
    """
    from omni_ray.storage.s3_client import naming, parse_uri

    where = f"{source.defined_in}: source {source.name!r}: url"
    bucket, key = parse_uri(url)
    try:
        with naming(url):
            found = sorted(_matches(bucket, key), key=lambda file: file.path)
            folders = [] if found or source.modality == "text" else _folders(bucket, key)
            found += [tallied(source, folder, folder_members(source, folder)) for folder in folders]
    except StorageError as error:
        raise SourceFailed(f"{where}: {error}") from error
    if not found:
        raise SourceFailed(f"{where}: {url}: no object found; put the objects there or correct the url")
    return found


def folder_members(source: Source, folder: str, after: str = "") -> Iterator[Member]:
    """The objects below a folder that hold records of `source`, as they are listed, which is sorted by key; those
    behind `after`. `revision` is the ETag.

    Raises:
        StorageError: for a store that lists in another order.
    """
    from omni_ray.prepare.readers.layout import is_selected, refused_name  # what is wanted is the reader's to say
    from omni_ray.storage.s3 import list_objects
    from omni_ray.storage.s3_client import naming, parse_uri

    bucket, prefix = parse_uri(folder)
    before = after
    with naming(folder):
        for found in list_objects(bucket, prefix, prefix + after if after else ""):
            name = found["Key"].removeprefix(prefix)
            if name < before:
                raise StorageError(f"{folder}: the store does not list in the order of keys; pack the folder as tar")
            before = name
            hidden = any(part.startswith(".") for part in name.split("/")[:-1] if part != "..")
            if name and not name.endswith("/") and not hidden and is_selected(source, name):
                yield Member(name, 0, found["Size"], refused_name(source, name), found["ETag"].strip('"'))


def open_member(file: InputFile, member: Member) -> BinaryIO:
    """The content of an object of a folder; reading raises DataError where it is not as it was listed."""
    from omni_ray.storage.s3_client import parse_uri

    bucket, prefix = parse_uri(file.path)
    return S3File(bucket, prefix + member.name, member.size, member.revision, (0, member.size)).open()


def read_beside(file: InputFile, path: str, most: int, expect: Callable[[int], None]) -> bytes:
    """The content of the object at `path` beside `file`, `most` bytes and one at most; `expect` is told how many will
    come before they do.

    Raises:
        KeyError: where there is none.
    """
    from omni_ray.storage.s3_client import client, naming, parse_uri, read_body

    bucket, key = parse_uri(f"{file.path.rpartition('/')[0]}/{path}")

    def fetch() -> dict[str, Any]:
        answer: dict[str, Any] = client().get_object(Bucket=bucket, Key=key)
        expect(min(answer["ContentLength"], most + 1))
        return answer

    try:
        with naming(f"{SCHEME}{bucket}/{key}"):
            return read_body(fetch, most + 1)
    except NotStored:
        raise KeyError(path) from None


def source_file(file: InputFile, region: tuple[int, int]) -> S3File:
    from omni_ray.storage.s3_client import parse_uri

    return S3File(*parse_uri(file.path), file.size, file.revision, region)


def _matches(bucket: str, pattern: str) -> Iterator[InputFile]:
    """The objects that a key or glob matches; none where it means folders."""
    from omni_ray.storage.s3 import list_objects
    from omni_ray.storage.s3_client import client, naming

    if not pattern or pattern.endswith("/"):
        return
    magic = _MAGIC.search(pattern)
    if magic is None:
        try:
            with naming(f"{SCHEME}{bucket}/{pattern}"):
                there = client().head_object(Bucket=bucket, Key=pattern)
        except NotStored:
            return
        yield _input_file(bucket, pattern, there["ContentLength"], there["ETag"])
        return
    fixed = pattern[: magic.start()]
    wanted = re.compile(glob_translate(pattern))
    for found in list_objects(bucket, fixed):
        key: str = found["Key"]
        if wanted.match(key) and not key.endswith("/") and not _is_hidden(key, pattern):
            yield _input_file(bucket, key, found["Size"], found["ETag"])


def _folders(bucket: str, key: str) -> list[str]:
    """The folders that a key names: one, with or without a `/` at its end, or those that a glob with a `/` at its end
    matches; sorted, each with that `/`."""
    from omni_ray.storage.s3 import list_folders

    if key and not key.endswith("/"):
        if _MAGIC.search(key):
            return []
        key += "/"
    found = [""]
    for part in key.split("/")[:-1]:
        if not _MAGIC.search(part):
            found = [f"{prefix}{part}/" for prefix in found]
            continue
        wanted = re.compile(glob_translate(part))
        below = ((prefix, name) for prefix in found for name in list_folders(bucket, prefix))
        found = [f"{prefix}{name}/" for prefix, name in below if wanted.match(name) and not _is_hidden(name, part)]
    return sorted(f"{SCHEME}{bucket}/{prefix}" for prefix in found if _is_folder(bucket, prefix))


def _is_folder(bucket: str, prefix: str) -> bool:
    from omni_ray.storage.s3_client import client

    return bool(client().list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1).get("Contents"))


def _is_hidden(key: str, pattern: str) -> bool:
    """A name that begins with a dot is matched where the pattern says the dot, as on disk."""
    return "/." in f"/{key}" and "/." not in f"/{pattern}"


def _input_file(bucket: str, key: str, size: int, etag: str) -> InputFile:
    return InputFile(f"{SCHEME}{bucket}/{key}", size, etag.strip('"'))
