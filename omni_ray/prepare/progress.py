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
        """Bytes of samples a second, over the seconds in which `bytes` rose from `started_bytes`."""
        return (self.bytes - self.started_bytes) / max(seconds, 1e-3)

    def seconds_left(self, seconds: float) -> float | None:
        rate = self.rate(seconds)
        return max(self.goal_bytes - self.bytes, 0) / rate if rate > 0 else None


class Progress:
    """Shows lines to stderr; `update` may be called as often as receipts come."""

    def __init__(self, lines: list[Line]) -> None:
        self.lines = {line.name: line for line in lines}
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._began: float | None = None
        self._said = time.monotonic()

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

    def update(self, name: str, blocks: int, samples: int, size: int, goal_bytes: int) -> None:
        """Add what one receipt brought, and what the source is expected to come to since."""
        line = self.lines[name]
        line.blocks += blocks
        line.samples += samples
        line.bytes += size
        line.goal_bytes = goal_bytes
        now = time.monotonic()
        if self._began is None:  # what passed before the first receipt says nothing of the rate: Ray was starting
            self._began = now
            for each in self.lines.values():
                each.started_bytes = each.bytes
        if self._live is None and now - self._said >= PLAIN_SECONDS:
            self._said = now
            for line in self.lines.values():
                say(self._plain(line, self._seconds()))

    def _seconds(self) -> float:
        return 0.0 if self._began is None else time.monotonic() - self._began

    def _table(self) -> Table:
        table = Table("source", "blocks", "samples", "size", "rate", "left", box=None, pad_edge=False)
        seconds = self._seconds()
        for line in self.lines.values():
            table.add_row(line.name, *_cells(line, seconds))
        total = _total(list(self.lines.values()))
        table.add_row("total", *_cells(total, seconds), style="bold")
        return table

    def _plain(self, line: Line, seconds: float) -> str:
        blocks, samples, size, rate, left = _cells(line, seconds)
        return f"{line.name}: {blocks} blocks, {samples} samples, {size}, {rate}, {left} left"


def say(message: str) -> None:
    """One line for the person who waits; stderr, so that stdout holds results only."""
    print(message, file=sys.stderr, flush=True)


def sized(count: float) -> str:
    """1234 -> `1.23 kB`, 25e9 -> `25.00 GB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:,.2f} {unit}"
    return f"{count:,.0f} B"


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
        sized(line.bytes),
        f"{sized(line.rate(seconds))}/s",
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
