"""Files and globs below the catalog's folder, or at absolute paths."""

import glob
import hashlib
import os
from pathlib import Path

from omni_ray.catalog import Source
from omni_ray.errors import DataError, SourceFailed
from omni_ray.prepare.records import InputFile, Member


def expand_url(source: Source, url: str) -> list[InputFile]:
    """The files that `url` names, sorted.

    Raises:
        SourceFailed: naming the url, where it leads to no file.
    """
    where = f"{source.defined_in}: source {source.name!r}: url: {url}"
    try:
        if source.modality != "text" and (source.base / url).is_dir():
            return [folder_file(source, f"{Path(url).as_posix()}/")]
        found = _matches(source.base, url)
    except OSError as error:  # a folder that may not be entered
        raise SourceFailed(
            f"{where}: {error.strerror}; make the folder readable and run the same command again"
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
    path = local_path(source, file)
    if file.path.endswith("/"):
        found = folder_file(source, file.path)
    else:
        stat = path.stat()
        found = InputFile(file.path, stat.st_size, str(stat.st_mtime_ns))
    if found != file:
        raise DataError(
            f"{file.path}: changed since this run planned with it; run again with --update --dataset {source.name}, "
            "which takes the file as it is then"
        )


def folder_file(source: Source, path: str) -> InputFile:
    """A folder as one input: its bytes in all, and a hash of the names, sizes and times of what is in it."""
    digest, size = hashlib.sha256(), 0
    for member in folder_members(source, InputFile(path, 0, "")):
        size += member.size
        digest.update(f"{member.name}\0{member.size}\0{member.offset}\0".encode())
    return InputFile(path, size, digest.hexdigest()[:32])


def folder_members(source: Source, file: InputFile) -> list[Member]:
    """The files below a folder, sorted by name; `offset` is the time of change in ns."""
    from omni_ray.prepare.readers.layout import is_selected  # which are wanted is the reader's to say

    root = local_path(source, file)
    members = []
    for folder, folders, names in os.walk(root, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            if not is_selected(source, relative):
                continue
            stat = path.stat()
            shown = relative.encode("utf-8", "backslashreplace").decode()
            refused = "" if shown == relative else "unsafe_member: its name is not UTF-8; rename the file"
            members.append(Member(shown, stat.st_mtime_ns, stat.st_size, refused))
    return sorted(members, key=lambda member: member.name)


def read_beside(source: Source, file: InputFile, path: str, most: int) -> bytes:
    """The content of a file at `path` from the folder of `file`, `most` bytes and one at most.

    Raises:
        KeyError: where there is none.
    """
    try:
        with (local_path(source, file).parent / path).open("rb") as stream:
            return stream.read(most + 1)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise KeyError(path) from None


def _refuse(error: OSError) -> None:
    raise error


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
