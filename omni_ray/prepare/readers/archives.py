"""Members of tar and zip archives: listed once, then read at random. Nothing is ever unpacked to a path they name."""

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from omni_ray.catalog import Source
from omni_ray.prepare.readers.layout import is_selected, refused_name
from omni_ray.prepare.readers.streams import Damaged, Stream, Window
from omni_ray.prepare.records import Member

_ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def tar_members(stream: Stream, source: Source, offset: int) -> Iterator[tuple[Member | None, int]]:
    """Members from the header at `offset` on, each with the offset of the next header; None for one not selected."""
    stream.seek(0)
    try:
        archive = tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:")  # noqa: SIM115 - owns nothing to close
    except (tarfile.ReadError, Damaged) as error:
        if offset == 0:
            yield Member("", 0, 0, f"truncated: not a whole tar archive: {error}"), 0
        return
    if offset:
        archive.offset = offset
        archive.firstmember = None  # type: ignore[attr-defined]
    while True:
        at = archive.offset
        try:
            info = archive.next()
        except (tarfile.ReadError, tarfile.HeaderError, Damaged) as error:
            yield Member("", at, 0, f"truncated: the archive is damaged at byte {at}: {error}"), at
            return
        if info is None:
            if not _has_end_mark(stream, at):
                yield Member("", at, 0, "truncated: the archive ends without its end mark"), at
            return
        archive.members = []  # type: ignore[attr-defined]  # else it holds every header of the archive
        yield _tar_member(info, source), archive.offset


def _has_end_mark(stream: Stream, at: int) -> bool:
    try:
        stream.seek(at)
        return stream.read(tarfile.BLOCKSIZE) == tarfile.NUL * tarfile.BLOCKSIZE
    except Damaged:
        return False


def _tar_member(info: tarfile.TarInfo, source: Source) -> Member | None:
    if info.isdir():
        return None
    refused = refused_name(source, info.name)
    if refused.startswith("unsafe_member") or is_selected(source, info.name):
        kind = "" if info.isreg() and not info.issparse() else "unsafe_member: no plain file (a link or a device)"
        return Member(info.name, info.offset_data, info.size, refused or kind)
    return None


def zip_members(stream: Stream, source: Source) -> list[Member]:
    """Members in the order of the central directory; `offset` is the position there."""
    try:
        with zipfile.ZipFile(cast(IO[bytes], stream)) as archive:
            infos = archive.infolist()
    except _ZIP_DAMAGE as error:
        return [Member("", 0, 0, f"truncated: not a whole zip archive: {error}")]
    members = []
    for position, info in enumerate(infos):
        if info.is_dir():
            continue
        refused = refused_name(source, info.filename)
        if refused.startswith("unsafe_member") or is_selected(source, info.filename):
            kind = (info.external_attr >> 28) & 0xF  # of the file mode: 8 is a plain file, 0 where none was stored
            if kind not in (0, 8):
                refused = refused or "unsafe_member: no plain file (a link or a device)"
            elif info.flag_bits & 1:
                refused = refused or "unsafe_member: encrypted"
            members.append(Member(info.filename, position, info.file_size, refused))
    return members


@contextmanager
def member_stream(content: Stream, container: str, member: Member) -> Iterator[Stream]:
    """The content of one member. Raises Damaged for one that cannot be opened."""
    if container == "tar":
        yield Window(content, member.offset, member.size)
        return
    try:
        with zipfile.ZipFile(cast(IO[bytes], content)) as archive:
            info = archive.infolist()[member.offset]
            with archive.open(info) as stream:
                yield _ZipStream(stream)
    except _ZIP_DAMAGE as error:
        raise Damaged("corrupt", f"zip: {error}") from error


class _ZipStream:
    """A zip member that says Damaged where it is broken."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.closed = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._stream.seek(offset, whence)
        except _ZIP_DAMAGE as error:
            raise Damaged("corrupt", f"zip: {error}", offset) from error

    def read(self, size: int = -1) -> bytes:
        at = self._stream.tell()
        try:
            return self._stream.read(size)
        except _ZIP_DAMAGE as error:
            raise Damaged("corrupt", f"zip: {error}", at) from error
