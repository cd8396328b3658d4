"""Where the bytes of a source lie: local and shared folders, and S3."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from omni_ray.catalog import Source
from omni_ray.errors import CatalogError, NotInThisVersion
from omni_ray.prepare.records import InputFile, Member
from omni_ray.prepare.sources import local, s3
from omni_ray.prepare.sources.folders import Tally
from omni_ray.prepare.sources.local import changed

__all__ = [
    "S3File",
    "Tally",
    "changed",
    "check_unchanged",
    "check_urls",
    "expand",
    "folder_members",
    "is_remote",
    "open_member",
    "read_beside",
    "source_file",
]

S3File = s3.S3File
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def check_urls(source: Source) -> None:
    """Refuse a url that is neither a path nor s3://.

    Raises:
        NotInThisVersion: naming source and url.
        CatalogError: for an s3:// url that cannot be one, or one that takes folders inside each other.
    """
    for url in source.url:
        if source.modality != "text" and url.endswith("/") and "**" in url:
            raise CatalogError(
                f"{source.defined_in}: source {source.name!r}: url: {url}: would take a file once for every folder "
                "that it lies in; name the top folder, below which everything is read"
            )
        if url.startswith(s3.SCHEME):
            s3.check_url(source, url)
        elif _SCHEME.match(url):
            raise NotInThisVersion(
                f"{source.defined_in}: source {source.name!r}: url: {url}: this version reads local and shared "
                "folders and s3:// only; download the files and give their path"
            )


def expand(source: Source) -> list[InputFile]:
    """The files behind the urls of `source`: urls as written, the matches of each sorted, every file once.

    Raises:
        NotInThisVersion, CatalogError: for a url that is not read.
        SourceFailed: naming the url, where it leads to no file.
    """
    check_urls(source)
    files: dict[str, InputFile] = {}
    for url in source.url:
        found = s3.expand_url(source, url) if url.startswith(s3.SCHEME) else local.expand_url(source, url)
        for file in found:
            files.setdefault(_place(source, file), file)
    return list(files.values())


def _place(source: Source, file: InputFile) -> str:
    """The same for the same file, however a url leads to it; a link under another name is another file."""
    if is_remote(file):
        return file.path
    path = local.local_path(source, file)
    return str(path.parent.resolve() / path.name)


def source_file(source: Source, file: InputFile, region: tuple[int, int] = (0, 0)) -> Path | S3File:
    """What opens the bytes of `file`; those in [start, stop) of `region` are sure to be read."""
    return s3.source_file(file, region) if is_remote(file) else local.local_path(source, file)


def check_unchanged(source: Source, file: InputFile) -> None:
    """Raise DataError where a local file is no longer as it was pinned; of an object every read says so."""
    if not is_remote(file):
        local.check_unchanged(source, file)


def is_remote(file: InputFile) -> bool:
    """Whether every look at `file` is a request that is mostly waited for."""
    return file.path.startswith(s3.SCHEME)


def folder_members(source: Source, file: InputFile, after: str = "") -> Iterator[Member]:
    """The files of a folder that hold records of `source`, sorted by name, those behind the name `after`."""
    if is_remote(file):
        return s3.folder_members(source, file.path, after)
    return local.folder_members(source, file.path, after)


def open_member(source: Source, file: InputFile, member: Member) -> BinaryIO:
    """The content of a file of a folder.

    Raises:
        DataError: here or while it is read, where it is not as it was listed.
    """
    return s3.open_member(file, member) if is_remote(file) else local.open_member(source, file, member)


def read_beside(
    source: Source, file: InputFile, path: str, most: int, expect: Callable[[int], None] = lambda size: None
) -> bytes:
    """The content of the file at `path` from the folder of `file`, no more than `most` bytes and one. Of an object
    `expect` is told how many bytes will come, before they do.

    Raises:
        KeyError: where there is none.
    """
    if is_remote(file):
        return s3.read_beside(file, path, most, expect)
    return local.read_beside(source, file, path, most)
