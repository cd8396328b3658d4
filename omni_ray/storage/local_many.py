"""Many small files made durable together: one flush of the file system instead of one for each file."""

import ctypes
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path

from omni_ray.storage.base import TEMP_PREFIX, Staged

FEW = 4  # files up to which each is flushed by itself


class LocalMany(Staged):
    """Files that wait in a temporary folder beside the folders in which they will lie.

    The files of a folder wait in one of their own, which takes its name at once where there is none of that name yet.

    Args:
        files: contents by folder and name; not empty, all below `top`.
        top: the folder that holds the temporary one.
        check: called before anything becomes visible.
    """

    def __init__(self, files: Mapping[Path, Mapping[str, bytes]], top: Path, check: Callable[[], None]) -> None:
        self._check = check
        self._folder = top / f"{TEMP_PREFIX}{secrets.token_hex(6)}-many"
        self._waiting = {self._folder / str(number): folder for number, folder in enumerate(files)}
        self._files: list[str] = []
        try:
            for waiting, contents in zip(self._waiting, files.values(), strict=True):
                waiting.mkdir(parents=True)
                for name, data in contents.items():  # strings and no buffers: a file takes a third less time
                    self._files.append(f"{waiting}/{name}")
                    with open(self._files[-1], "xb", buffering=0) as stream:
                        _write_all(stream, data)
        except BaseException:
            self.abort()
            raise

    def commit(self) -> None:
        _flush(self._folder, self._files, list(self._waiting))
        self._check()
        for waiting, folder in self._waiting.items():
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                waiting.rename(folder)
            except OSError:  # it is there already, or the file system moves no folders
                folder.mkdir(exist_ok=True)
                for path in list(waiting.iterdir()):
                    path.replace(folder / path.name)
        folders = set(self._waiting.values())
        for folder in sorted(folders | {folder.parent for folder in folders}):
            sync(folder)
        self.abort()

    def abort(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _write_all(stream: FileIO, data: bytes) -> None:
    """One write takes 2 GB at most, and less where a disk is nearly full."""
    left = memoryview(data)
    while left:
        left = left[stream.write(left) :]


def sync(path: Path) -> None:
    """Make a file or the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush(folder: Path, files: list[str], folders: list[Path]) -> None:
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if len(files) <= FEW or syncfs is None:
        for path in (*map(Path, files), *folders):
            sync(path)
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(descriptor):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(descriptor)
