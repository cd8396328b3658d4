"""What a run shows while it works."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from omni_ray.prepare import progress
from omni_ray.prepare.progress import Line, Progress, duration, sized
from tests.prepare import inprocess


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1234, "1.23 kB"), (5_550_000, "5.55 MB"), (25e9, "25.00 GB"), (3e12, "3,000.00 GB")],
)
def test_sizes(count: float, shown: str) -> None:
    assert sized(count) == shown


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0.4, 65, 3725)] == ["0:00", "1:05", "1:02:05"]


def test_the_start_of_ray_does_not_count_in_the_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    shown = Progress([Line("talk", 0, 100, 0, 0, 100_000_000, 0)])
    now = 30.0  # Ray was starting
    shown.update("talk", 1, 10, 1_000_000, 100_000_000)
    now = 32.0
    shown.update("talk", 1, 10, 1_000_000, 100_000_000)
    now = 41.0
    shown.update("talk", 1, 10, 20_000_000, 60_000_000)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "talk: 1/100 blocks, 10 samples, 1.00 MB, 0 B/s, - left"
    assert second == "talk: 3/100 blocks, 30 samples, 22.00 MB, 1.91 MB/s, 0:20 left"


def test_a_terminal_sees_one_live_line_per_source_and_a_total(tmp_path: Path) -> None:
    catalog = inprocess.write(tmp_path / "in", "talk", "lines")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.prepare.inprocess", "prepare", "text", "--out", str(tmp_path / "out"),
         "--catalog", str(catalog)],
        cwd=inprocess.ROOT, stdout=subprocess.DEVNULL, stderr=theirs, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(inprocess.ROOT), "TERM": "xterm", "COLUMNS": "100"},
    ) as process:  # fmt: skip
        os.close(theirs)
        seen = b""
        while True:
            try:
                data = os.read(ours, 1 << 16)
            except OSError:  # Linux says so when the other end is closed
                break
            if not data:
                break
            seen += data
        assert process.wait() == 0
    os.close(ours)
    for word in (b"source", b"blocks", b"talk", b"lines", b"total", b"B/s"):
        assert word in seen, word
    assert b"\x1b[" in seen, "lines are drawn over each other"
