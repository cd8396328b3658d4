"""Running whole commands in processes of their own, killing them, and comparing what they leave."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from omni_ray.ledger import read_ledger
from omni_ray.storage import TEMP_PREFIX, LocalStorage

PATIENCE = 240.0  # seconds after which a command that neither ends nor comes to a point is a failure


class Done(NamedTuple):
    code: int
    stdout: str
    stderr: str


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


def prepare_text(out: Path | str, catalog: Path, *arguments: str, workers: int = 2) -> list[str]:
    return prepare("text", out, catalog, *arguments, workers=workers)


def prepare(modality: str, out: Path | str, catalog: Path, *arguments: str, workers: int = 2) -> list[str]:
    return command(
        "omni_ray.prepare", modality, "--out", str(out), "--catalog", str(catalog),
        "--address", "local", "--workers", str(workers), *arguments,
    )  # fmt: skip


def run(argv: list[str], cwd: Path | None = None, **environment: str) -> Done:
    """Run a command to its end."""
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=PATIENCE, cwd=cwd, env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


@contextmanager
def started(argv: list[str], cwd: Path | None = None, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a process group of its own, which is gone when the block ends."""
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        cwd=cwd, stdin=subprocess.DEVNULL, env={**os.environ, **environment},
    )  # fmt: skip
    try:
        yield process
    finally:
        kill_group(process)
        process.communicate()


def kill_group(process: subprocess.Popen[str]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def wait_until(process: subprocess.Popen[str], reached: Callable[[], bool]) -> bool:
    """Poll until the condition holds (True) or the process has ended (False)."""
    began = time.monotonic()
    while process.poll() is None:
        if reached():
            return True
        assert time.monotonic() - began < PATIENCE, "the command neither ended nor came to the point"
        time.sleep(0.002)  # polling, not synchronisation: the loop ends by the condition alone
    return False


def note_peaks(pid: int, peaks: dict[int, tuple[str, int]]) -> bool:
    """Note what every process below `pid` ever held; False, as there is nothing to wait for but its end."""
    try:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            status = Path(f"/proc/{process.pid}/status").read_text()
            if "VmHWM:" in status:
                peaks[process.pid] = (process.name(), int(status.split("VmHWM:")[1].split()[0]) * 1024)
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):  # gone in the middle of it
        pass
    return False


class Condition:
    """Whether at least `count` decoded segments are in an output; those from `since` (Unix time) on, if given."""

    def __init__(self, out: Path, count: int, since: float = 0.0) -> None:
        self._out = out
        self._count = count
        self._since = since

    def __call__(self) -> bool:
        return count_blocks(self._out, self._since) >= self._count


def count_blocks(out: Path, since: float = 0.0) -> int:
    """Decoded segments whose tables are visible, with a receipt or without."""
    found = (path for path in out.glob(".omni_ray/*/*/blocks/*.rows.parquet") if TEMP_PREFIX not in path.name)
    return sum(1 for path in found if changed_since(path, since))


def changed_since(path: Path, since: float) -> bool:
    """False for a file that has gone meanwhile."""
    try:
        return path.stat().st_mtime >= since
    except FileNotFoundError:
        return False


def receipts(out: Path) -> dict[str, list[str]]:
    """For every source: the committed segments in the order of its ledger."""
    storage = LocalStorage(out)
    found = {}
    for folder in sorted(out.glob(".omni_ray/*/*/ledger")):
        state = read_ledger(storage, folder.relative_to(out).as_posix())
        found[folder.parent.name] = [
            f"{one.block}.{one.segment} {sorted((kind, output.sha256) for kind, output in one.outputs.items())}"
            for segments in state.receipts.values()
            for one in segments
        ]
    return found


def assert_still_prefix(before: dict[str, list[str]], after: dict[str, list[str]]) -> None:
    """What a ledger held at a kill is what it holds first later on, whatever was appended."""
    for source, committed in before.items():
        assert after[source][: len(committed)] == committed, f"{source}: committed receipts were lost or changed"


def products(out: Path) -> dict[str, str]:
    """sha256 of everything that a user is promised: every file outside the working folder.

    Workers of a killed run live on for a moment and clear away what they had begun, so whatever goes while it is being
    looked at counts as not there. `Path.rglob` fails where a folder does.
    """
    found = {}
    for folder, folders, names in os.walk(out):
        folders[:] = [name for name in folders if name != ".omni_ray"]
        for path in (Path(folder, name) for name in names):
            with suppress(FileNotFoundError):
                found[path.relative_to(out).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
