"""Several files of one folder change together, or none does, whatever is killed when.

The new contents go into a journal, itself put atomically: that moment decides. Then each file is put, and the journal
is deleted. Who comes next finishes a journal that was left behind. A lock on the folder, which the system gives back
when a process dies, keeps two writers apart and tells a journal in use from one left behind.
"""

import fcntl
import glob
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from omni_ray.errors import Refused, StorageError
from omni_ray.faults import stop_here
from omni_ray.storage import TEMP_PREFIX, LocalStorage, Storage, is_temporary

JOURNAL = ".omni_ray-journal.json"


class _Change(msgspec.Struct, forbid_unknown_fields=True):
    before: str | None  # sha256 of the content that is replaced; None for a new file
    content: str


class _Journal(msgspec.Struct, forbid_unknown_fields=True):
    changes: dict[str, _Change]


def write_together(folder: Path, contents: Mapping[str, str], based_on: Mapping[str, str | None]) -> None:
    """Write the files `contents` (name -> text) of `folder`, all or none.

    `based_on` holds the texts that the new ones were made from, None for a file that is to be made.

    Raises:
        Refused: where a file is no longer what it was made from; nothing is written.
        StorageError: where the folder cannot be written; all files are old, or the next `finish` makes all new.
    """
    storage = LocalStorage(folder)
    with _locked(folder):
        _apply(storage)
        for name in contents:
            text = based_on[name]
            if _digest_there(storage, name) != (None if text is None else _digest(text.encode())):
                raise Refused(f"{folder / name}: changed while it was worked on; run the same command again")
        changes = {
            name: _Change(None if (old := based_on[name]) is None else _digest(old.encode()), text)
            for name, text in contents.items()
        }
        for name in (JOURNAL, *contents):  # what a killed put of one of them left
            for left in folder.glob(f"{TEMP_PREFIX}*-{glob.escape(name)}"):
                if is_temporary(left.name):
                    left.unlink()
        stop_here("updating")
        storage.put(JOURNAL, msgspec.json.format(msgspec.json.encode(_Journal(changes)), indent=1))
        _apply(storage)


def finish(folder: Path) -> tuple[str, ...]:
    """Finish what a killed `write_together` began; the names of the files written. Waits for one that still runs.

    Raises:
        Refused: where one of the files was changed by hand since.
        StorageError: where the journal is damaged or the folder cannot be written.
    """
    if not (folder / JOURNAL).exists():
        return ()
    with _locked(folder):
        return _apply(LocalStorage(folder))


def pending(folder: Path) -> dict[str, str]:
    """What `finish` would write: name -> text. For a look that changes nothing."""
    if not (folder / JOURNAL).exists():
        return {}
    with _locked(folder):
        journal = _read(LocalStorage(folder))
    return {} if journal is None else {name: change.content for name, change in journal.changes.items()}


def _read(storage: Storage) -> _Journal | None:
    if not storage.exists(JOURNAL):
        return None
    try:
        return msgspec.json.decode(storage.read(JOURNAL), type=_Journal)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageError(
            f"{storage.uri}/{JOURNAL}: the journal of an interrupted update is damaged ({error}); look whether the "
            "files beside it are as they should be, then delete it"
        ) from error


def _apply(storage: Storage) -> tuple[str, ...]:
    journal = _read(storage)
    if journal is None:
        return ()
    for name, change in journal.changes.items():
        if _digest_there(storage, name) not in (change.before, _digest(change.content.encode())):
            raise Refused(
                f"{storage.uri}/{name}: was changed after an update of it was interrupted; "
                f"delete {storage.uri}/{JOURNAL} to keep the files as they are"
            )
    for name, change in journal.changes.items():
        stop_here("updating")
        storage.put(name, change.content.encode())
    stop_here("updating")
    storage.delete(JOURNAL)
    return tuple(journal.changes)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest_there(storage: Storage, name: str) -> str | None:
    return _digest(storage.read(name)) if storage.exists(name) else None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StorageError(f"{folder}: {error.strerror}; name a folder that is there") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
