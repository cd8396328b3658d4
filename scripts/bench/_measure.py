"""What the benchmarks share: running commands, their wall time and the memory of their processes."""

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_SECONDS = 0.25  # between two looks at the memory of a command's processes; each costs some milliseconds of CPU


class Run(NamedTuple):
    """Seconds from start to end; bytes of the largest process of the command at its largest."""

    seconds: float
    peak_bytes: int
    stdout: str


def run(argv: Sequence[str], **environment: str) -> Run:
    """Run a command to its end; SystemExit with what it printed if it fails."""
    began = time.perf_counter()
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    ) as process:  # fmt: skip
        watch = _Watch(process.pid)
        stdout, stderr = process.communicate()
        seconds = time.perf_counter() - began
        watch.stop()
    if process.returncode:
        sys.exit(f"{' '.join(argv)} ended with {process.returncode}:\n{stdout}{stderr}")
    return Run(seconds, watch.peak, stdout)


def prepare(modality: str, catalog: Path, out: Path, *arguments: str) -> list[str]:
    """The command, with two workers unless `arguments` say otherwise."""
    return [
        sys.executable, "-m", "omni_ray.prepare", modality, "--catalog", str(catalog), "--out", str(out),
        "--address", "local", "--workers", "2", *arguments,
    ]  # fmt: skip


def spread(values: Sequence[float]) -> str:
    """Median, and the smallest and largest in brackets."""
    return f"{statistics.median(values):.2f} [{min(values):.2f}, {max(values):.2f}]"


def ratio(name: str, value: float, target: float) -> None:
    """Print a figure in the form that `all.py` gathers."""
    print(f"ratio: {name} | {value:.2f} | {target:g} | {'reached' if value >= target else 'MISSED'}")


class _Watch:
    """Looks at the resident memory of a process and all below it until `stop`."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._root = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            try:
                for process in [self._root, *self._root.children(recursive=True)]:
                    memory = process.memory_info()
                    self.peak = max(self.peak, memory.rss - memory.shared)  # shared: the object store, mapped files
            except psutil.NoSuchProcess:
                continue
