"""Members of tar and zip archives: listed once, then read at random. Nothing is ever unpacked to a path they name."""

import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO, cast

from omni_ray.catalog import Source
from omni_ray.prepare.readers.layout import Container, is_selected, refused_name
from omni_ray.prepare.readers.streams import MIB, Damaged, Layer, Sequential, Stream, Window
from omni_ray.prepare.records import Member, storable

# What Python's readers of archives raise on content that is not what it says.
_TAR_DAMAGE = (tarfile.TarError, ValueError, OverflowError, IndexError, RecursionError)
_ZIP_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError, RuntimeError,
    ValueError, OverflowError, IndexError,
)  # fmt: skip
_MAX_HEADER_BYTES = MIB  # of one tar header with its long names; a bomb would have us read gigabytes here
_MAX_SIZE = 1 << 60  # of a member; sizes beyond belong to damaged headers
_ZIP_PIECE = 64 << 10
_ZIP_UNBOUNDED = 4 << 10  # input at a time where zipfile does not bound the output: LZMA makes 30 MB of so much


class _TarHeaders(Layer):
    """A tar stream for listing: nothing but headers is read from it."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream

    def _read_at(self, at: int, size: int) -> bytes:
        if size > _MAX_HEADER_BYTES:
            raise Damaged("corrupt", f"a tar header of {size} bytes", at)
        self._stream.seek(at)
        return self._stream.read(size)


def tar_members(stream: Stream, source: Source, offset: int) -> Iterator[tuple[Member | None, int | None]]:
    """Members from the header at `offset` on, each with the offset of the next header; None for a member that is not
    selected, and for the header behind the last.

    A member is given once the next header shows that all of it is there. One that is cut off comes with a size that
    ends just behind the damage, so that who reads it comes to the damage.
    """
    archive = _open_tar(stream, offset)
    held: tarfile.TarInfo | None = None
    at = offset  # of the next header
    while True:
        try:
            info = archive.next()
            if info is not None and not (0 <= info.size <= _MAX_SIZE and at < archive.offset <= _MAX_SIZE):
                raise tarfile.ReadError("a header with an impossible size")
            problem = "" if info else _end_problem(stream, at)
        except (*_TAR_DAMAGE, Damaged) as error:
            info, problem = None, f"{_reason(error)}: the archive is damaged at byte {at}: {error}"
            if held is not None and _is_cut_off(stream, held, error):
                member = _tar_member(held, source)
                yield (Member("", at, 0, problem) if member is None else member), None
                return
        if held is not None:
            yield _tar_member(held, source), at
        if problem:
            yield Member("", at, 0, problem), None
        if info is None:
            return
        archive.members = []  # type: ignore[attr-defined]  # else it holds every header of the archive
        held, at = info, archive.offset


def _open_tar(stream: Stream, offset: int) -> tarfile.TarFile:
    """A TarFile whose `next` gives the header at `offset`: made of an archive without members, for the constructor
    reads the first one."""
    archive = tarfile.open(fileobj=io.BytesIO(tarfile.NUL * tarfile.RECORDSIZE), mode="r:")  # noqa: SIM115
    archive.fileobj = cast(IO[bytes], _TarHeaders(stream))
    archive.offset = offset
    return archive


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, Damaged) else "truncated"


def _is_cut_off(stream: Stream, held: tarfile.TarInfo, error: Exception) -> bool:
    """Whether a damage lies in the content of the member before it, whose size is made to come to the damage then."""
    try:
        end = error.offset if isinstance(error, Damaged) else stream.seek(0, io.SEEK_END)
    except Damaged as damage:
        end = damage.offset
    if not held.isreg() or held.offset_data + held.size <= end:
        return False
    held.size = max(0, end - held.offset_data) + 1
    return True


def _end_problem(stream: Stream, at: int) -> str:
    """What is wrong with the end of an archive: two blocks of zeros begin it, and zeros alone follow."""
    stream.seek(at)
    block = stream.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        return "truncated: the archive ends without its end mark"
    if block.strip(tarfile.NUL):
        return f"corrupt: no header of a member at byte {at}"
    while data := stream.read(MIB):
        if data.strip(tarfile.NUL):
            return f"corrupt: something follows the end mark of the archive at byte {at}"
    return ""


def _tar_member(info: tarfile.TarInfo, source: Source) -> Member | None:
    if info.isdir():
        return None
    name = storable(info.name)
    refused = refused_name(source, name)
    if refused.startswith("unsafe_member") or is_selected(source, name):
        kind = "" if info.isreg() and not info.issparse() else "unsafe_member: no plain file (a link or a device)"
        return Member(name, info.offset_data, info.size, refused or kind)
    return None


def zip_members(stream: Stream, source: Source) -> list[Member]:
    """Members in the order of the central directory; `offset` is the position there."""
    try:
        infos = _open_zip(stream).infolist()
    except Damaged as damage:
        return [Member("", 0, 0, f"truncated: not a whole zip archive: {damage.words}")]
    members = []
    for position, info in enumerate(infos):
        if info.is_dir():
            continue
        name = storable(info.filename)
        refused = refused_name(source, name)
        if refused.startswith("unsafe_member") or is_selected(source, name):
            members.append(Member(name, position, min(info.file_size, _MAX_SIZE), refused or _refused_kind(info)))
    return members


def _refused_kind(info: zipfile.ZipInfo) -> str:
    kind = (info.external_attr >> 28) & 0xF  # of the file mode: 8 is a plain file, 0 where none was stored
    if kind not in (0, 8):
        return "unsafe_member: no plain file (a link or a device)"
    if info.flag_bits & 1:
        return "unsafe_member: encrypted"
    if info.compress_type == zipfile.ZIP_BZIP2:
        return "unknown_format: packed with bzip2, which zipfile unpacks without bound; pack the archive with deflate"
    if info.file_size > _MAX_SIZE:
        return "corrupt: the directory gives an impossible size"
    return ""


def _open_zip(stream: Stream) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(cast(IO[bytes], stream))
    except _ZIP_DAMAGE as error:
        raise Damaged("corrupt", f"zip: {error}") from error


class Archive:
    """An archive whose members are read, one after the other; a zip's directory is parsed once."""

    def __init__(self, content: Stream, container: Container) -> None:
        self._content = content
        self._container = container
        self._zip: zipfile.ZipFile | None = None

    @contextmanager
    def member(self, member: Member) -> Iterator[Stream]:
        """The content of one member. Raises Damaged for one that cannot be opened."""
        if self._container == "tar":
            yield Window(self._content, member.offset, member.size)
            return
        if self._zip is None:
            self._zip = _open_zip(self._content)
        stream = ZipMember(self._zip, self._zip.infolist()[member.offset])
        try:
            yield stream
        finally:
            stream.close()


class Folder:
    """The files of a folder, read like the members of an archive; `open_` gives the bytes of one, as it was listed."""

    def __init__(self, open_: Callable[[Member], BinaryIO], observe: Callable[[bytes], None]) -> None:
        self._open = open_
        self._observe = observe

    @contextmanager
    def member(self, member: Member) -> Iterator[Stream]:
        """The content of one file. Raises DataError for one that is not as it was listed."""
        with self._open(member) as stream:
            yield _Observed(stream, self._observe)


class _Observed(Layer):
    def __init__(self, stream: BinaryIO, observe: Callable[[bytes], None]) -> None:
        super().__init__()
        self._stream, self._observe = stream, observe

    def _length(self) -> int:
        return self._stream.seek(0, io.SEEK_END)

    def _read_at(self, at: int, size: int) -> bytes:
        self._stream.seek(at)
        data = self._stream.read(size)
        self._observe(data)
        return data


class ZipMember(Sequential):
    """A member of a zip."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self._archive = archive
        self._info = info
        self._stream: IO[bytes] | None = None
        bounded = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        self._piece_bytes = _ZIP_PIECE if bounded else _ZIP_UNBOUNDED
        super().__init__()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        super().close()

    def _length(self) -> int:
        return self._info.file_size

    def _begin_again(self) -> None:
        if self._stream is not None:
            self._stream.close()
        try:
            self._stream = self._archive.open(self._info)
        except _ZIP_DAMAGE as error:
            raise Damaged("corrupt", f"zip: {error}") from error

    def _next_piece(self) -> bytes:
        if self._stream is None:
            return b""
        try:
            return self._stream.read(self._piece_bytes)
        except _ZIP_DAMAGE as error:
            raise Damaged("corrupt", f"zip: {error}") from error
