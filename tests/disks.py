"""File systems of a few megabytes, in memory, that become full or read-only when a test says so."""

import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: int, files: int = 0) -> Iterator[Path]:
    """A file system of `size` bytes in memory, with room for so many files and folders (0: for any number)."""
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes={files}", "tmpfs", str(folder)]
    mounted = subprocess.run(options, capture_output=True, text=True)
    if mounted.returncode:  # that takes root, and in a container the right to
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Leave so many bytes of a disk free, or fewer, for others write to it meanwhile."""
    ballast = disk / "ballast"
    size = 0
    with ballast.open("wb") as stream:
        while (free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize) > leave:
            step = min(1 << 20, free - leave)
            try:
                os.posix_fallocate(stream.fileno(), size, step)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                break
            size += step
    return ballast


def make_read_only(disk: Path, writers: int | None = None) -> None:
    """Also under processes that write to it. The system refuses while a file is open for writing, so the process group
    `writers` goes on for a moment after each refusal; it would come to its end if it ran all the time."""
    for _ in range(10_000):
        with _stopped(writers):
            if subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True).returncode == 0:
                return
        time.sleep(0.002)  # polling, not synchronisation
    pytest.fail("a file was open for writing all the time")


@contextmanager
def _stopped(group: int | None) -> Iterator[None]:
    if group is None:
        yield
        return
    os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(group, signal.SIGCONT)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)
