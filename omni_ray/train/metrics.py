"""What a run reports: `metrics.jsonl`, TensorBoard, one line on the terminal, a picture of the curve.

`metrics.jsonl` has a row for every step and one for every validation. It is written as a whole each time (the old part
is copied by the storage), so it is never torn; and it is written before a checkpoint, so that a run that goes on from
step k keeps the rows up to k and cuts those after it. Rows depend on nothing but the steps, except `at`, the time.
"""

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from tensorboardX import SummaryWriter

from omni_ray.storage import LocalStorage, Slice, Storage

METRICS = "metrics.jsonl"
CURVE = "curve.png"
BOARD = "tensorboard"
WRITE_SECONDS = 20.0  # between two times that the file is written, except for checkpoints

Row = dict[str, Any]


class Interval(NamedTuple):
    """What happened between two lines on the terminal."""

    steps: int
    seconds: float
    waited: float  # seconds in which the device had no data
    samples: int
    targets: int
    positions: int

    @property
    def samples_per_second(self) -> float:
        return self.samples / max(self.seconds, 1e-9)

    @property
    def targets_per_second(self) -> float:
        return self.targets / max(self.seconds, 1e-9)

    @property
    def padding(self) -> float:
        """Share of the positions."""
        return 1 - self.targets / max(1, self.positions)

    @property
    def data_wait(self) -> float:
        """Share of the time."""
        return self.waited / max(self.seconds, 1e-9)


class Progress(NamedTuple):
    """How far a run is, and what happened since the last time it was told."""

    step: int
    loss: float
    lr: float
    grad_norm: float
    skipped: int  # steps since the last time that were not finite
    interval: Interval


class Metrics:
    """The reports of the rank that leads."""

    def __init__(self, storage: Storage, folder: str, step: int, say: Callable[[str], None]) -> None:
        """Cut what lies beyond `step`, where the run goes on."""
        self._storage, self._key, self._say = storage, f"{folder}/{METRICS}", say
        self._kept = _bytes_up_to(storage, self._key, step)
        self._new: list[bytes] = []
        self._written = time.monotonic()
        self._board = _Board(storage, f"{folder}/{BOARD}", step)

    def add(self, row: Row) -> None:
        """A row; numbers that JSON does not have become null."""
        clean = {key: _finite(value) for key, value in row.items()}
        self._new.append(msgspec.json.encode({**clean, "at": round(time.time(), 3)}) + b"\n")
        self._board.add(row)

    def tell(self, line: str) -> None:
        self._say(line)

    def write(self, *, now: bool) -> None:
        """Bring the file up to date, if it is time or `now`."""
        if not self._new or not (now or time.monotonic() - self._written > WRITE_SECONDS):
            return
        data = b"".join(self._new)
        writer = self._storage.writer(self._key)
        try:
            if self._kept:
                writer.append_slice(Slice(self._key, 0, self._kept))
            writer.write(data)
            writer.commit()
        finally:
            writer.abort()
        self._kept += len(data)
        self._new.clear()
        self._written = time.monotonic()
        self._board.write()

    def close(self) -> None:
        self.write(now=True)
        self._board.close()


class _Board:
    """TensorBoard's event files: in place on a local storage, else copied there as they grow."""

    def __init__(self, storage: Storage, folder: str, step: int) -> None:
        self._storage, self._folder = storage, folder
        self._local = isinstance(storage, LocalStorage)
        place = storage.path(folder) if isinstance(storage, LocalStorage) else Path(tempfile.mkdtemp())
        self._place = place
        self._writer = SummaryWriter(str(place), purge_step=step or None, flush_secs=int(WRITE_SECONDS))

    def add(self, row: Row) -> None:
        for key, value in row.items():
            if key not in ("step", "ids") and isinstance(value, int | float) and math.isfinite(value):
                self._writer.add_scalar(key, value, row["step"])

    def write(self) -> None:
        self._writer.flush()
        if not self._local:
            for path in self._place.iterdir():
                self._storage.put(f"{self._folder}/{path.name}", path.read_bytes())

    def close(self) -> None:
        self._writer.close()
        self.write()


def line(row: Row, interval: Interval, max_steps: int, flops: float | None, peak: float | None) -> str:
    """The line on the terminal. `flops` is that of a target, `peak` what the devices together can do in a second."""
    loss = "not finite" if row["loss"] is None or not math.isfinite(row["loss"]) else f"{row['loss']:.4f}"
    parts = [
        f"step {row['step']:,}/{max_steps:,}",
        f"loss {loss}",
        f"lr {row['lr']:.2e}",
        f"{interval.samples_per_second:,.1f} samples/s",
        f"{interval.targets_per_second:,.0f} tokens/s",
        f"padding {interval.padding:.1%}",
        f"data-wait {interval.data_wait:.1%}",
    ]
    if flops is not None and peak is not None:
        parts.append(f"MFU {interval.targets_per_second * flops / peak:.1%}")
    return "  ".join(parts)


def read_rows(storage: Storage, folder: str) -> list[Row]:
    """The rows of a run so far."""
    key = f"{folder}/{METRICS}"
    if not storage.exists(key):
        return []
    return [msgspec.json.decode(row) for row in storage.read(key).splitlines()]


def draw_curve(rows: Sequence[Row], title: str) -> bytes:
    """A picture of loss, validation loss and learning rate over the steps, as PNG."""
    from io import BytesIO

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [row for row in rows if "loss" in row and row["loss"] is not None]
    checks = [row for row in rows if row.get("val_loss") is not None]
    axes.plot([row["step"] for row in steps], [row["loss"] for row in steps], lw=0.6, alpha=0.4, color="tab:blue")
    smooth = _smoothed([row["loss"] for row in steps])
    axes.plot([row["step"] for row in steps], smooth, lw=1.5, color="tab:blue", label="training")
    if checks:
        points = ([row["step"] for row in checks], [row["val_loss"] for row in checks])
        axes.plot(*points, "o-", ms=3, color="tab:orange", label="validation")
    rates = axes.twinx()
    rates.plot([row["step"] for row in steps], [row["lr"] for row in steps], lw=0.8, color="tab:gray")
    rates.set_ylabel("learning rate", color="tab:gray")
    axes.set(title=title, xlabel="step", ylabel="loss")
    axes.legend()
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()


def sketch_curve(rows: Sequence[Row], width: int = 60, height: int = 10) -> str:
    """The training loss over the steps in characters, for a terminal."""
    losses = [row["loss"] for row in rows if row.get("loss") is not None]
    if not losses:
        return "no steps"
    count = min(width, len(losses))
    edges = [len(losses) * column // count for column in range(count + 1)]
    means = [sum(losses[low:high]) / (high - low) for low, high in pairwise(edges)]
    low, high = min(means), max(means)
    level = [round((value - low) / ((high - low) or 1) * (height - 1)) for value in means]
    lines = []
    for row in range(height - 1, -1, -1):
        label = f"{high:8.3f}" if row == height - 1 else f"{low:8.3f}" if row == 0 else " " * 8
        lines.append(f"{label} |" + "".join("*" if at == row else " " for at in level).rstrip())
    return "\n".join(lines)


def _smoothed(values: Sequence[float]) -> list[float]:
    smooth, kept = [], 0.0
    share = 1 - 1 / max(1, min(50, len(values) // 20))
    for number, value in enumerate(values):
        kept = share * kept + (1 - share) * value
        smooth.append(kept / (1 - share ** (number + 1)) if share else value)
    return smooth


def _bytes_up_to(storage: Storage, key: str, step: int) -> int:
    """How much of the file is rows of the first `step` steps; they come first, as rows are in order."""
    if not storage.exists(key):
        return 0
    kept = 0
    with storage.open(key) as stream:
        for row in stream:
            if msgspec.json.decode(row, type=dict[str, Any])["step"] > step:
                break
            kept += len(row)
    return kept


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
