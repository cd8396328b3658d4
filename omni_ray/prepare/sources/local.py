"""Files and globs below the catalog's folder, or at absolute paths."""

import errno
import glob
import io
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, cast

from omni_ray.catalog import Source
from omni_ray.errors import DataError, SourceFailed
from omni_ray.prepare.records import InputFile, Member, storable
from omni_ray.prepare.sources.folders import tallied

NOWHERE = (errno.ENOENT, errno.ELOOP)  # what a link leads to that leads to nothing, or to itself


def expand_url(source: Source, url: str) -> list[InputFile]:
    """The files that `url` names, sorted.

    Raises:
        SourceFailed: naming the url, where it leads to no file.
    """
    where = f"{source.defined_in}: source {source.name!r}: url: {url}"
    try:
        if source.modality != "text" and (folders := _folders(source.base, url)):
            return [tallied(source, path, folder_members(source, path)) for path in folders]
        found = _matches(source.base, url)
    except OSError as error:  # a folder that may not be entered
        raise SourceFailed(
            f"{where}: {error.filename}: {error.strerror}; make it readable and run the same command again"
        ) from error
    if not found:
        raise SourceFailed(
            f"{where}: no file found (relative paths start at {source.base.absolute()}); put the files there or "
            "correct the url"
        )
    return [_input_file(source, path) for path in found]


def local_path(source: Source, file: InputFile) -> Path:
    """Where `file` lies on this machine."""
    return source.base / file.path


def check_unchanged(source: Source, file: InputFile) -> None:
    """Raise DataError where `file` is no longer as it was pinned: what was read of it may be of two minds."""
    stat = local_path(source, file).stat()
    if InputFile(file.path, stat.st_size, str(stat.st_mtime_ns)) != file:
        raise changed(source, file.path)


def changed(source: Source, path: str) -> DataError:
    return DataError(
        f"{path}: changed since this run planned with it; run again with --update --dataset {source.name}, "
        "which takes it as it is then"
    )


def folder_members(source: Source, folder: str, after: str = "") -> Iterator[Member]:
    """The files below a folder that hold records of `source`, sorted by name, those behind `after`; `offset` is the
    time of change in ns."""
    from omni_ray.prepare.readers.layout import is_selected, refused_name  # what is wanted is the reader's to say

    root = source.base / folder
    for relative in _files(root):
        shown = storable(relative)
        if shown > after and is_selected(source, shown):
            odd = "" if shown == relative else "unsafe_member: its name is not UTF-8; rename the file"
            try:
                about = os.stat(f"{root}/{relative}")  # noqa: PTH116 - there may be millions; a Path costs ten times that
            except OSError as error:
                if error.errno not in NOWHERE:
                    raise
                yield Member(shown, 0, 0, "unsafe_member: a link that leads nowhere")
                continue
            if not S_ISREG(about.st_mode):
                odd = "unsafe_member: no plain file (a pipe or a device)"
            yield Member(shown, about.st_mtime_ns, about.st_size, odd or refused_name(source, shown))


def open_member(source: Source, file: InputFile, member: Member) -> BinaryIO:
    """The content of a file of a folder.

    Raises:
        DataError: here or while it is read, where it is not as it was listed.
    """
    error = partial(changed, source, f"{file.path}{member.name}")
    stream = _Pinned(f"{local_path(source, file)}/{member.name}", (member.size, member.offset), error)
    try:
        stream.check()
    except DataError:
        stream.close()
        raise
    return cast(BinaryIO, stream)


class _Pinned(io.FileIO):
    """A file of a folder, of which nothing is given that was read when it was no longer as it was listed."""

    def __init__(self, path: str, expected: tuple[int, int], error: Callable[[], DataError]) -> None:
        super().__init__(path, opener=_without_waiting)
        self._expected = expected
        self._error = error

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.check()
        return data

    def check(self) -> None:
        stat = os.fstat(self.fileno())
        if (stat.st_size, stat.st_mtime_ns) != self._expected:
            raise self._error()


def read_beside(source: Source, file: InputFile, path: str, most: int) -> bytes:
    """The content of a file at `path` from the folder of `file`, `most` bytes and one at most.

    Raises:
        KeyError: where there is none.
    """
    try:
        with open(local_path(source, file).parent / path, "rb", opener=_without_waiting) as stream:
            if not S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise KeyError(path)
            return stream.read(most + 1)
    except OSError as error:
        if error.errno in (*NOWHERE, errno.ENOTDIR, errno.EISDIR, errno.ENXIO):
            raise KeyError(path) from None
        raise


def _without_waiting(path: str, flags: int) -> int:
    """For a pipe would wait for its writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _folders(base: Path, url: str) -> list[str]:
    """The folders that a url names: one, or those that a glob with a `/` at its end matches; sorted, with that `/`."""
    if (base / url).is_dir():
        return [f"{Path(url).as_posix()}/"]
    found = glob.glob(url, root_dir=base, recursive=True) if url.endswith("/") else []  # noqa: PTH207 - as below
    return sorted(f"{Path(path).as_posix()}/" for path in found)


def _files(root: Path) -> Iterator[str]:
    """Every file below a folder, relative to it, sorted by what is shown of the whole path; one folder at a time is in
    memory."""
    waiting = [iter(_names(root, ""))]
    while waiting:
        relative = next(waiting[-1], None)
        if relative is None:
            waiting.pop()
        elif relative.endswith("/"):
            waiting.append(iter(_names(root, relative)))
        else:
            yield relative


def _names(root: Path, folder: str) -> list[str]:
    """What lies in a folder, folders with a `/` behind: so the names of all files come sorted. Links to folders are
    not followed."""
    names = []
    with os.scandir(root / folder) as entries:
        for entry in entries:
            if not _is_folder(entry):
                names.append(folder + entry.name)
            elif not entry.name.startswith(".") and not entry.is_symlink():
                names.append(f"{folder}{entry.name}/")
    names.sort(key=None if all(map(str.isascii, names)) else storable)
    return names


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno not in NOWHERE:
            raise
        return False


def _matches(base: Path, url: str) -> list[str]:
    if (base / url).is_file():  # also where the name holds characters that mean something in a glob
        return [Path(url).as_posix()]
    found = glob.glob(url, root_dir=base, recursive=True)  # noqa: PTH207 - takes absolute patterns too
    return sorted(Path(path).as_posix() for path in found if (base / path).is_file())


def _input_file(source: Source, path: str) -> InputFile:
    where = f"{source.defined_in}: source {source.name!r}: url: {path!r}"
    try:
        path.encode("utf-8")
        stat = (source.base / path).stat()
    except UnicodeEncodeError:
        raise SourceFailed(f"{where}: the file's name is not UTF-8; rename the file") from None
    except OSError as error:
        raise SourceFailed(
            f"{where}: {error.strerror}; make the file readable and run the same command again"
        ) from error
    return InputFile(path, stat.st_size, str(stat.st_mtime_ns))
