"""The learning rate over a run, as a picture."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from omni_ray.errors import UsageError
from omni_ray.schedule import Schedule, lr_factor
from omni_ray.storage import LocalStorage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".png", ".svg", ".pdf")
POINTS = 1_000  # of a curve; its corners besides
EPOCHS_DRAWN = 20  # more lines than that would hide the curve
LONG = 10**8  # steps whose numbers would run into each other
INK, MUTED = "#1b4f8f", "#6b7280"


class Curve(NamedTuple):
    """What is drawn: `peak` is the peak learning rate, None to draw shares of it, `floor` the share at the end."""

    title: str
    schedule: Schedule
    peak: float | None
    floor: float


def check(path: Path) -> None:
    """
    Raises:
        UsageError: where the file's name does not end in a format that can be drawn, or its folder is not there.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--plot {path}: name a file that ends in {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise UsageError(f"--plot {path}: {path.parent} is no folder; make it first")


def draw(curves: Sequence[Curve], path: Path) -> None:
    """Write one panel per curve to `path`, atomically."""
    from matplotlib.figure import Figure  # half a second that only a picture is worth
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(9, 0.6 + 2.6 * len(curves)), layout=ConstrainedLayoutEngine(h_pad=0.1))
    panels = figure.subplots(len(curves), squeeze=False)[:, 0]
    for axes, curve in zip(panels, curves, strict=True):
        _draw_one(axes, curve)
    panels[-1].set_xlabel("optimizer step")
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.lower()[1:], dpi=150)
    LocalStorage(path.parent).put(path.name, picture.getvalue())


def _draw_one(axes: "Axes", curve: Curve) -> None:
    schedule = curve.schedule
    last, start = schedule.max_steps - 1, schedule.max_steps - schedule.decay_steps
    corners = {schedule.warmup_steps - 1, schedule.warmup_steps, start, last}
    evenly = {last * number // (POINTS - 1) for number in range(POINTS)}
    steps = sorted(step for step in evenly | corners if 0 <= step <= last)
    peak = 1.0 if curve.peak is None else curve.peak
    rates = [peak * lr_factor(step, schedule, curve.floor) for step in steps]
    places = list(map(float, steps))  # whole numbers of over 64 bits are nothing that can be drawn
    axes.plot(places, rates, color=INK, linewidth=1.8)
    warming = [step <= schedule.warmup_steps for step in steps]
    decaying = [schedule.shape == "wsd" and step >= start for step in steps]
    for phase in (warming, decaying):
        axes.fill_between(places, rates, where=phase, color=INK, alpha=0.15, linewidth=0)
    if last // schedule.steps_per_epoch <= EPOCHS_DRAWN:
        for end in range(schedule.steps_per_epoch, last, schedule.steps_per_epoch):
            axes.axvline(float(end), color=MUTED, linewidth=0.7, linestyle=(0, (2, 3)), zorder=0)
    axes.set_xlim(0, float(max(last, 1)))
    axes.set_ylim(0, peak * 1.08)
    axes.set_ylabel("share of the peak rate" if curve.peak is None else "learning rate")
    axes.locator_params(axis="x", nbins=7)
    axes.xaxis.set_major_formatter("{x:,.0f}" if last < LONG else "{x:.3g}")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(curve.title, loc="left", fontsize=10)
    axes.set_title(_words(schedule), loc="right", fontsize=8, color=MUTED)


def _words(schedule: Schedule) -> str:
    decay = "cosine" if schedule.shape == "cosine" else f"decay {schedule.decay_steps:,}"
    whole = f"{schedule.max_steps:,} steps, {schedule.steps_per_epoch:,} an epoch (dotted)"
    return f"{whole}, warmup {schedule.warmup_steps:,}, {decay}"
