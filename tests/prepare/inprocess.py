"""Whole commands without Ray: tasks run in this process, one after the other, so that a run takes a part of a second.

As a module it is the `omni-ray` command in a process of its own, for tests that kill it: `python -m
tests.prepare.inprocess prepare text ...`.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omni_ray import cli
from omni_ray.prepare import command

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).resolve().parents[2]
ENTRY = """
[[source]]
name = "{name}"
modality = "text"
category = "{category}"
url = {url}
reader = "lines"
license = "{license}"
block_bytes = 2048
"""


Work = Callable[[bytes], Iterator[bytes]]
Tasks = Sequence[tuple[bytes, int]]


def run_here(work: Work, tasks: Tasks) -> Iterator[bytes]:
    """What the Ray Data door does: an empty result says that a task waits, and is not passed on."""
    for task, _ in tasks:
        yield from filter(None, work(task))


def without_ray(patch: "pytest.MonkeyPatch", run_tasks: Callable[[Work, Tasks], Iterator[bytes]] = run_here) -> None:
    """Commands run their tasks in this process, until `patch` is undone."""
    patch.setattr(command, "_tasks_runner", lambda *_: run_tasks)


def prepare(out: Path, catalog: Path, *arguments: str) -> int:
    """`omni-ray prepare text`; the exit code."""
    return cli.main(["prepare", "text", "--out", str(out), "--catalog", str(catalog), *arguments])


def omni(name: str, out: Path | str, *arguments: str) -> int:
    """An `omni-ray` command on `out`; the exit code."""
    return cli.main([name, *arguments, "--out", str(out)])


def killed(out: Path | str, at: str, *arguments: str) -> None:
    """Run a command that is to be killed at a point of the crash table."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.prepare.inprocess", *arguments, "--out", str(out)], cwd=ROOT, timeout=240,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMNI_RAY_STOP": at}, start_new_session=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == -9, f"the run did not come to {at}: {done.stderr.decode()}"


def lines(name: str, count: int = 400, words: str = "river stone light under seven windows") -> str:
    """Samples of about 45 bytes, of which one in twenty repeats the one before."""
    return "".join(f"{name} line {number - (number % 20 == 7)} {words}\n" for number in range(count))


def entry(name: str, category: str = "general", url: str | None = None, license: str = "MIT", more: str = "") -> str:
    """A `[[source]]` of lines."""
    return ENTRY.format(name=name, category=category, url=url or f'"{name}.txt"', license=license) + more


def write(folder: Path, *names: str, file: str = "catalog.toml") -> Path:
    """Files of lines and a catalog of them, all in the category general; the catalog's path."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if not (folder / f"{name}.txt").exists():
            (folder / f"{name}.txt").write_text(lines(name))
    (folder / file).write_text("".join(map(entry, names)))
    return folder / file


if __name__ == "__main__":
    command._tasks_runner = lambda *_: run_here
    sys.exit(cli.main())
