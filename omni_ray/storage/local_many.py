"""Many small files made durable together: one flush of the file system instead of one for each file."""

import ctypes
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from omni_ray.storage.base import TEMP_PREFIX, Staged

FEW = 4  # files up to which each is flushed by itself


class LocalMany(Staged):
    """Files that wait in a temporary folder beside the folders in which they will lie.

    Args:
        files: contents by path; not empty, all below `top`.
        top: the folder that holds the temporary one.
        check: called before anything becomes visible.
    """

    def __init__(self, files: Mapping[Path, bytes], top: Path, check: Callable[[], None]) -> None:
        self._check = check
        self._top = top
        self._folder = top / f"{TEMP_PREFIX}{secrets.token_hex(6)}-many"
        self._waiting: dict[Path, Path] = {}
        try:
            self._folder.mkdir(parents=True)
            for number, (path, data) in enumerate(files.items()):
                waiting = self._folder / str(number)
                waiting.write_bytes(data)
                self._waiting[path] = waiting
        except BaseException:
            self.abort()
            raise

    def commit(self) -> None:
        _flush(self._folder, list(self._waiting.values()))
        self._check()
        folders = sorted({path.parent for path in self._waiting})
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        for path, waiting in self._waiting.items():
            waiting.replace(path)
        for folder in [*folders, *{folder.parent for folder in folders}]:
            sync(folder)
        self.abort()

    def abort(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def sync(path: Path) -> None:
    """Make a file or the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush(folder: Path, files: list[Path]) -> None:
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if len(files) <= FEW or syncfs is None:
        for path in files:
            sync(path)
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(descriptor):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(descriptor)
