"""What every storage can do: atomic writes, listing, ranged reads, concatenation."""

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple, Self

from omni_ray.errors import StorageError

TEMP_PREFIX = ".tmp-"
AT_ONCE = 32  # small objects that are put; at 30 ms each that is as many a second as one process can sign
GROUP_FILES = 256  # of many small files, before each of which the right to write is looked at
_TEMPORARY = re.compile(rf"{re.escape(TEMP_PREFIX)}[0-9a-f]{{12}}-.+", re.DOTALL)


def is_temporary(name: str) -> bool:
    """Whether a file's name is one that we give to what is being written: `.tmp-`, 12 hex digits, `-`, its name."""
    return _TEMPORARY.fullmatch(name) is not None


class Stat(NamedTuple):
    """What a listing says of one key. `mtime_ns` is by the clock of the storage, not of this host."""

    key: str
    size: int
    mtime_ns: int


class Segment(NamedTuple):
    """Bytes [start, stop) of a log, stored under `key`."""

    key: str
    start: int
    stop: int


class Log(NamedTuple):
    """An append-only log as a listing found it; its segments may overlap where they hold the same bytes."""

    key: str
    segments: tuple[Segment, ...]


class Slice(NamedTuple):
    """Bytes [start, start + length) of a key."""

    key: str
    start: int
    length: int


class Staged(ABC):
    """Something that is written, and not visible under its key before `commit`."""

    @abstractmethod
    def commit(self) -> None:
        """Make it durable and visible, replacing what was there."""

    @abstractmethod
    def abort(self) -> None:
        """Forget it. Harmless after `commit`."""


class Writer(Staged):
    """A large output in the making: nothing is visible under its key before `commit`."""

    @abstractmethod
    def write(self, data: bytes | memoryview) -> None: ...

    @abstractmethod
    def append_slice(self, part: Slice) -> None:
        """Copy bytes of another key of the same storage, without moving them through this process where possible."""

    def settle(self) -> None:
        """Make what was written durable now, so that `commit` has little left to do."""
        return None


class PartStat(NamedTuple):
    """What a store says of one part of an unfinished object."""

    size: int
    tag: str


class Assembly(ABC):
    """A large object that many processes make in numbered parts; nothing is visible under its key before `commit`.

    `token` names it to the other processes and to later runs. Every part but the last has `least_bytes` or more.
    """

    token: str
    least_bytes: int

    @abstractmethod
    def exists(self) -> bool:
        """Whether the store still knows it."""

    @abstractmethod
    def parts(self) -> dict[int, PartStat]:
        """The parts that are there, by number."""

    @abstractmethod
    def put_part(self, number: int, data: bytes) -> str:
        """Send a part, in the place of an earlier one of that number; its tag."""

    @abstractmethod
    def copy_part(self, number: int, part: Slice) -> str:
        """Make a part of bytes that are in the storage already, without moving them through this process; its tag."""

    @abstractmethod
    def commit(self, tags: Mapping[int, str]) -> None:
        """Make the object of all its parts visible, given the tag of each."""

    @abstractmethod
    def abort(self) -> None:
        """Forget the object and its parts."""


class Appender(ABC):
    """An append-only log; what was written before a returned `sync` survives a crash of the machine, and nothing of
    what was written after the last one is kept."""

    @abstractmethod
    def write(self, data: bytes) -> None: ...

    @abstractmethod
    def sync(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...


class Storage(ABC):
    """A root and keys below it. All methods raise `StorageError` naming the key when the storage fails."""

    uri: str  # as it was given, for people
    packs: bool = False  # whether a request has its price, so that what is written together goes into one object
    location: str  # the same place for any process, whatever its working directory
    check: Callable[[], None] = staticmethod(lambda: None)  # called before anything that is visible changes

    def fenced(self, check: Callable[[], None]) -> Self:
        """The same storage for one that may lose the right to change it: what `check` raises stops every change."""
        twin = copy.copy(self)
        twin.check = check
        return twin

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Write `data` under `key` atomically, replacing what was there."""

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Write `data`, which nobody else writes, only if nothing is under `key`; False, and nothing changed, else."""

    @abstractmethod
    def touch(self, key: str) -> bool:
        """Set the time of `key` to now by the storage's clock; False, and nothing made, if it is not there any more."""

    @abstractmethod
    def check_exclusive(self, key: str) -> None:
        """Raise Refused if of two `create` of this existing `key` more than one could win, or `touch` is not exact."""

    @abstractmethod
    def writer(self, key: str) -> Writer: ...

    def staged(self, key: str, data: bytes) -> Writer:
        """A writer that holds all of its data already."""
        writer = self.writer(key)
        try:
            writer.write(data)
        except BaseException:
            writer.abort()
            raise
        return writer

    def staged_many(self, files: Mapping[str, bytes], top: str) -> Staged:
        """Many small files below the folder `top`, by key; each becomes visible whole, all of them by one `commit`.

        `check` is called before each group of them, so the name of a file has to tell its content: whoever writes on
        for a group after the right to it was lost then changes nothing.
        """
        bare = self.fenced(lambda: None)
        return _Many([bare.staged(key, data) for key, data in files.items()], self.check)

    def assembly(self, key: str, token: str = "") -> Assembly | None:
        """An object to be made in parts, a new one or that of `token`; None where one writer is as good."""
        return None

    @abstractmethod
    def appender(self, key: str) -> Appender:
        """Open a log that must not exist yet."""

    @abstractmethod
    def logs(self, folder: str) -> list[Log]:
        """The logs that lie directly in `folder`, sorted by key."""

    @abstractmethod
    def read_log(self, log: Log, length: int | None = None) -> bytes:
        """The first `length` bytes of a log, all of it by default."""

    @abstractmethod
    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes: ...

    def read_ahead(self, slices: Iterable[Slice], window: int = 16) -> Iterator[bytes]:
        """The bytes of each slice, in order. A store that answers late is asked for `window` of them at once."""
        return (self.read(part.key, part.start, part.length) for part in slices)

    @abstractmethod
    def open(self, key: str) -> BinaryIO:
        """A seekable stream over the whole of `key`."""

    @abstractmethod
    def stat(self, key: str) -> Stat | None:
        """None where nothing is stored under `key`."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[Stat]:
        """Everything below the folder `prefix`, recursively, sorted by key; temporary names included."""

    @abstractmethod
    def folders(self, prefix: str) -> Iterator[str]:
        """The names of the folders that lie directly in the folder `prefix`, sorted."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove `key`; nothing happens where it is not there."""

    @abstractmethod
    def sweep(self, prefix: str, only: Collection[str] | None = None, deep: bool = True) -> int:
        """Remove what killed runs left unfinished below the folder `prefix`; the number of things removed.

        `only` names the keys that are ours, in a folder where others may be writing too. Without `deep` only what lies
        in the folder itself is looked at, where that saves a walk.
        """

    @abstractmethod
    def now_ns(self) -> int:
        """The time by the clock that `Stat.mtime_ns` is in."""

    @abstractmethod
    def free_bytes(self) -> int | None:
        """Free space in bytes; None where the storage has no limit."""

    def exists(self, key: str) -> bool:
        return self.stat(key) is not None

    def delete_many(self, keys: Collection[str]) -> None:
        """Remove keys, in no particular order."""
        for key in keys:
            self.delete(key)

    def delete_tree(self, prefix: str) -> None:
        self.delete_many([stat.key for stat in self.list(prefix)])


class _Many(Staged):
    def __init__(self, writers: list[Writer], check: Callable[[], None]) -> None:
        self._writers = writers
        self._check = check

    def commit(self) -> None:
        with ThreadPoolExecutor(AT_ONCE, "many") as pool:  # each is a request that is mostly waited for
            for start in range(0, len(self._writers), GROUP_FILES):
                self._check()
                for done in [pool.submit(one.commit) for one in self._writers[start : start + GROUP_FILES]]:
                    done.result()

    def abort(self) -> None:
        for writer in self._writers:
            writer.abort()


def check_key(key: str, uri: str) -> str:
    """The key in its shortest form.

    Raises:
        StorageError: for a key that would leave the root.
    """
    pure = PurePosixPath(key)
    if pure.is_absolute() or ".." in pure.parts:
        raise StorageError(f"{key!r}: a key stays below {uri}; absolute paths and '..' are not keys")
    return pure.as_posix()
