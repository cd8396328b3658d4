"""A folder of a local or shared file system as a storage.

Every write goes to a temporary name in the same folder, is synced, and is renamed. Temporary names begin with
`TEMP_PREFIX`, so that what a killed run left can be told and removed.
"""

import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from omni_ray.errors import NotStored, StorageError
from omni_ray.storage.base import (
    TEMP_PREFIX,
    Appender,
    Log,
    Segment,
    Slice,
    Staged,
    Stat,
    Storage,
    Writer,
    check_key,
    is_temporary,
)
from omni_ray.storage.local_many import LocalMany, sync

COPY_BYTES = 8 << 20  # one read or in-kernel copy
EARLY_SYNC_BYTES = 128 << 20  # by which a file in the making has grown when the disk begins to write it


class LocalStorage(Storage):
    """A folder of a local or shared file system. The folder is made at the first write."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.uri = str(root)
        self.location = str(self.root.absolute())

    def path(self, key: str) -> Path:
        """The file behind `key`.

        Raises:
            StorageError: for a key that would leave the root.
        """
        return self.root / check_key(key, self.uri)

    def put(self, key: str, data: bytes) -> None:
        writer = self.writer(key)
        try:
            writer.write(data)
            writer.commit()
        finally:
            writer.abort()

    def create(self, key: str, data: bytes) -> bool:
        path = self.path(key)
        temporary = _temporary(path)
        with _naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                _write_synced(temporary, data)
                os.link(temporary, path)  # atomic, and fails where the name is taken
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
            sync(path.parent)
        return True

    def touch(self, key: str) -> bool:
        path = self.path(key)
        with _naming(path):
            try:
                os.utime(path)
            except FileNotFoundError:
                return False
            return True

    def check_exclusive(self, key: str) -> None:
        return None  # link() and utime() are exact on every file system that has them

    def writer(self, key: str) -> Writer:
        return _LocalWriter(self, key)

    def staged_many(self, files: Mapping[str, bytes], top: str) -> Staged:
        folders: dict[str, dict[str, bytes]] = {}
        for key, data in files.items():
            folder, _, name = key.rpartition("/")
            folders.setdefault(folder, {})[name] = data
        with _naming(self.path(top)):
            many = LocalMany({self.path(folder): held for folder, held in folders.items()}, self.path(top), self.check)
        return _NamedMany(many, self.path(top))

    def appender(self, key: str) -> Appender:
        return _LocalAppender(self, key)

    def logs(self, folder: str) -> list[Log]:
        top = self.path(folder)
        return [
            Log(stat.key, (Segment(stat.key, 0, stat.size),))
            for stat in self.list(folder)
            if self.path(stat.key).parent == top and TEMP_PREFIX not in stat.key
        ]

    def read_log(self, log: Log, length: int | None = None) -> bytes:
        return self.read(log.key, 0, length)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        path = self.path(key)
        with _naming(path), path.open("rb") as stream:
            stream.seek(start)
            return stream.read() if length is None else stream.read(length)

    def open(self, key: str) -> BinaryIO:
        path = self.path(key)
        with _naming(path):
            return path.open("rb")

    def stat(self, key: str) -> Stat | None:
        path = self.path(key)
        with _naming(path):
            try:
                found = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
            return Stat(key, found.st_size, found.st_mtime_ns)

    def list(self, prefix: str) -> Iterator[Stat]:
        for folder, names, files in _walk(self.path(prefix)):
            names.sort()
            for name in sorted(files):
                path = Path(folder, name)
                with _naming(path):
                    try:
                        found = path.stat()
                    except FileNotFoundError:  # a temporary file of a run that is still dying
                        continue
                yield Stat(path.relative_to(self.root).as_posix(), found.st_size, found.st_mtime_ns)

    def delete(self, key: str) -> None:
        self.check()
        path = self.path(key)
        with _naming(path):
            path.unlink(missing_ok=True)

    def delete_tree(self, prefix: str) -> None:
        super().delete_tree(prefix)
        for folder, _, _ in os.walk(self.path(prefix), topdown=False):
            try:
                Path(folder).rmdir()
            except OSError:  # somebody put a file there meanwhile: it is theirs, and so is its folder
                continue

    def folders(self, prefix: str) -> Iterator[str]:
        yield from sorted(next(_walk(self.path(prefix)), ("", [], []))[1])

    def sweep(self, prefix: str, only: Collection[str] | None = None, deep: bool = True) -> int:
        left: list[Path] = []  # whatever `only` names: a temporary name is ours wherever it is
        for folder, folders, names in _walk(self.path(prefix)):
            left += [Path(folder, name) for name in (*folders, *names) if is_temporary(name)]
            if not deep:
                break
            folders[:] = [name for name in folders if not is_temporary(name)]
        for path in left:
            with _naming(path):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        return len(left)

    def now_ns(self) -> int:
        probe = _temporary(self.root / "clock")
        with _naming(probe):
            probe.parent.mkdir(parents=True, exist_ok=True)
            probe.touch()
            try:
                return probe.stat().st_mtime_ns
            finally:
                probe.unlink()

    def free_bytes(self) -> int | None:
        there = self.root.absolute()
        while not there.exists():
            there = there.parent
        return shutil.disk_usage(there).free


class _LocalWriter(Writer):
    def __init__(self, storage: LocalStorage, key: str) -> None:
        self._storage = storage
        self._path = storage.path(key)
        self._temporary = _temporary(self._path)
        with _naming(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._temporary.open("xb")
        self._synced_early = _EarlySync(self._stream.fileno())

    def write(self, data: bytes | memoryview) -> None:
        with _naming(self._path):
            self._stream.write(data)

    def append_slice(self, part: Slice) -> None:
        source = self._storage.path(part.key)
        with _naming(source), source.open("rb") as stream, _naming(self._path):
            self._stream.flush()
            copied = _copy_range(stream.fileno(), self._stream.fileno(), part.start, part.length)
            self._stream.seek(0, os.SEEK_END)
            self._synced_early.grown(copied)
        if copied != part.length:
            raise StorageError(
                f"{source}: ends {part.length - copied} bytes early; `omni-ray verify` lists what is damaged"
            )

    def settle(self) -> None:
        with _naming(self._path):
            self._stream.flush()
            self._synced_early.end()
            os.fsync(self._stream.fileno())

    def commit(self) -> None:
        self.settle()
        with _naming(self._path):
            self._stream.close()
            self._storage.check()
            self._temporary.replace(self._path)
            sync(self._path.parent)

    def abort(self) -> None:
        with _naming(self._path):
            with suppress(OSError):  # of what is thrown away
                self._synced_early.end()
            try:
                self._stream.close()
            except OSError:  # what a full disk did not take is forgotten with the rest
                pass
            finally:
                self._temporary.unlink(missing_ok=True)


class _EarlySync:
    """Has what a file has grown by written to the disk while more is copied to it, so that little is left to wait for
    at its end."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._grown = 0  # bytes since the last sync began
        self._pool: ThreadPoolExecutor | None = None
        self._running: Future[None] | None = None

    def grown(self, size: int) -> None:
        """Raises the OSError of an earlier sync, which the system tells only once."""
        self._grown += size
        if self._grown < EARLY_SYNC_BYTES or (self._running is not None and not self._running.done()):
            return
        if self._running is not None:
            self._running.result()
        self._grown = 0
        self._pool = self._pool or ThreadPoolExecutor(1)
        self._running = self._pool.submit(os.fsync, self._file)

    def end(self) -> None:
        """Wait for a sync that is under way, after which the file may be closed; raises its OSError."""
        running, self._running = self._running, None
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        if running is not None:
            running.result()


class _NamedMany(Staged):
    """A `LocalMany` whose errors name the folder."""

    def __init__(self, many: LocalMany, folder: Path) -> None:
        self._many = many
        self._folder = folder

    def commit(self) -> None:
        with _naming(self._folder):
            self._many.commit()

    def abort(self) -> None:
        self._many.abort()


class _LocalAppender(Appender):
    def __init__(self, storage: LocalStorage, key: str) -> None:
        self._storage = storage
        self._path = storage.path(key)
        self._waiting: list[bytes] = []
        storage.check()
        with _naming(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._path.open("xb")
            sync(self._path.parent)

    def write(self, data: bytes) -> None:
        self._waiting.append(data)

    def sync(self) -> None:
        if not self._waiting:
            return
        self._storage.check()
        with _naming(self._path):
            self._stream.write(b"".join(self._waiting))
            self._waiting.clear()
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        with _naming(self._path):
            self._stream.close()


class _naming:  # noqa: N801 - reads as a statement: `with _naming(path):`
    """Turn an OSError into a StorageError that names the file and what to do."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise NotStored(f"{self._path}: No such file or directory; `omni-ray verify` lists what is missing")
        if isinstance(error, OSError):
            what = error.strerror or str(error)
            raise StorageError(f"{self._path}: {what}; mend that and run the same command again") from error


def _walk(top: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As os.walk, which is silent about a folder that cannot be read; what is not there has nothing in it."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            with _naming(Path(error.filename)):
                raise error

    return os.walk(top, onerror=refuse)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{TEMP_PREFIX}{secrets.token_hex(6)}-{path.name}")


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _copy_range(source: int, target: int, start: int, length: int) -> int:
    """Copy bytes between two open files inside the kernel; the number copied, short only at the end of `source`."""
    done = 0
    while done < length:
        count = os.sendfile(target, source, start + done, min(COPY_BYTES, length - done))
        if count == 0:
            break
        done += count
    return done
