"""What a run shows while it works: a live line per source on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.table import Table

PLAIN_SECONDS = 10.0  # between two lines where there is no terminal


@dataclass
class Line:
    """Figures of one source; `blocks_total` and `goal_bytes` may grow as more becomes known."""

    name: str
    blocks: int
    blocks_total: int | None
    samples: int
    bytes: int
    goal_bytes: int
    started_bytes: int

    def rate(self, seconds: float) -> float:
        """MB/s of samples since the run began."""
        return (self.bytes - self.started_bytes) / 1e6 / max(seconds, 1e-3)

    def seconds_left(self, seconds: float) -> float | None:
        rate = self.rate(seconds) * 1e6
        return max(self.goal_bytes - self.bytes, 0) / rate if rate > 0 else None


class Progress:
    """Shows lines to stderr; `update` may be called as often as receipts come."""

    def __init__(self, lines: list[Line]) -> None:
        self.lines = {line.name: line for line in lines}
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._began = self._said = time.monotonic()

    @contextmanager
    def shown(self) -> Iterator["Progress"]:
        if not self._console.is_terminal:
            yield self
            return
        with Live(get_renderable=self._table, console=self._console, refresh_per_second=4, transient=True) as live:
            self._live = live
            try:
                yield self
            finally:
                self._live = None

    def update(self, name: str, blocks: int, samples: int, size: int) -> None:
        """Add what one receipt brought."""
        line = self.lines[name]
        line.blocks += blocks
        line.samples += samples
        line.bytes += size
        now = time.monotonic()
        if self._live is None and now - self._said >= PLAIN_SECONDS:
            self._said = now
            for line in self.lines.values():
                say(self._plain(line, now - self._began))

    def _table(self) -> Table:
        table = Table("source", "blocks", "samples", "MB", "MB/s", "left", box=None, pad_edge=False)
        seconds = time.monotonic() - self._began
        for line in self.lines.values():
            table.add_row(line.name, *_cells(line, seconds))
        total = _total(list(self.lines.values()))
        table.add_row("total", *_cells(total, seconds), style="bold")
        return table

    def _plain(self, line: Line, seconds: float) -> str:
        blocks, samples, size, rate, left = _cells(line, seconds)
        return f"{line.name}: {blocks} blocks, {samples} samples, {size} MB, {rate} MB/s, {left} left"


def say(message: str) -> None:
    """One line for the person who waits; stderr, so that stdout holds results only."""
    print(message, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """3725 -> `1:02:05`, 65 -> `1:05`."""
    whole = int(seconds + 0.5)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _cells(line: Line, seconds: float) -> tuple[str, str, str, str, str]:
    left = line.seconds_left(seconds)
    total = "?" if line.blocks_total is None else f"{line.blocks_total:,}"
    return (
        f"{line.blocks:,}/{total}",
        f"{line.samples:,}",
        f"{line.bytes / 1e6:,.1f}",
        f"{line.rate(seconds):,.1f}",
        "-" if left is None else duration(left),
    )


def _total(lines: list[Line]) -> Line:
    totals = [line.blocks_total for line in lines]
    return Line(
        "total",
        sum(line.blocks for line in lines),
        None if None in totals else sum(total or 0 for total in totals),
        sum(line.samples for line in lines),
        sum(line.bytes for line in lines),
        sum(line.goal_bytes for line in lines),
        sum(line.started_bytes for line in lines),
    )
