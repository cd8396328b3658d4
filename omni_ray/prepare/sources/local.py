"""Files and globs below the catalog's folder, or at absolute paths."""

import glob
from pathlib import Path

from omni_ray.catalog import Source
from omni_ray.errors import DataError, SourceFailed
from omni_ray.prepare.records import InputFile


def expand_url(source: Source, url: str) -> list[InputFile]:
    """The files that `url` names, sorted.

    Raises:
        SourceFailed: naming the url, where it leads to no file.
    """
    where = f"{source.defined_in}: source {source.name!r}: url: {url}"
    try:
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
    stat = local_path(source, file).stat()
    if (stat.st_size, str(stat.st_mtime_ns)) != (file.size, file.revision):
        raise DataError(
            f"{file.path}: changed since this run planned with it; run again with --update --dataset {source.name}, "
            "which takes the file as it is then"
        )


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
