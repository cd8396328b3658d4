"""The tables of a modality: sizes against the budget, what became of the records, reasons."""

from collections.abc import Sequence
from typing import NamedTuple

from omni_ray.prepare.progress import sized
from omni_ray.prepare.report.drawing import WHOLE
from omni_ray.prepare.report.survey import Figures, SourceFigures
from omni_ray.prepare.report.words import percent

COLOURS = 8  # of sources, as the style sheet has them
STATES = {"filled": "share filled", "dry": "all of it is in", "needs_more": "unfinished"}


class Row(NamedTuple):
    """A source or a whole category in the table of sizes; `fill` is in thousandths of the share."""

    name: str
    colour: int | None  # None for a category
    samples: str
    size: str
    share: str
    more: str
    fill: float
    percent: str
    state: str


class Reason(NamedTuple):
    """Records that were left out for one reason."""

    name: str
    kind: str
    records: int
    width: float  # in thousandths of the largest
    where: str


def size_rows(figures: Figures) -> list[Row]:
    """Each category, then its sources, in canonical order."""
    rows = []
    for category in dict.fromkeys(source.category for source in figures.sources):
        members = [(number, s) for number, s in enumerate(figures.sources) if s.category == category]
        sources = [source for _, source in members]
        rows.append(_row(category, None, sources, ""))
        rows += [_row(source.name, number % COLOURS, [source], _state(source)) for number, source in members]
    return rows


def _row(name: str, colour: int | None, sources: Sequence[SourceFigures], state: str) -> Row:
    size, share = sum(source.size for source in sources), sum(source.share for source in sources)
    quota = sum(source.quota for source in sources)
    samples = sum(source.counts.in_output for source in sources)
    more = f"{sized(quota)} with what others leave" if quota > share else ""
    fill = round(min(WHOLE * size / share, WHOLE), 2) if share else 0.0
    return Row(name, colour, f"{samples:,}", sized(size), sized(share), more, fill, percent(size, share), state)


def _state(source: SourceFigures) -> str:
    done, total = source.blocks
    blocks = f"{done:,} of {'?' if total is None else format(total, ',')} blocks"
    return f"never reached; {blocks}" if source.failures else f"{STATES[source.state]}; {blocks}"


def record_row(source: SourceFigures) -> dict[str, str]:
    counts = source.counts
    figures = {
        "records": source.rows_in,
        "kept": source.kept,
        "dropped": sum(source.dropped.values()),
        "quarantined": sum(source.quarantined.values()),
        "samples": sum(counts),
        "chosen": counts.in_output,
        "duplicate": counts.duplicate,
        "beyond": counts.beyond,
    }
    return {"name": source.name, **{name: f"{value:,}" for name, value in figures.items()}}


def reasons(figures: Figures) -> list[Reason]:
    """Most frequent first."""
    found: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for source in figures.sources:
        for kind, counts in (("dropped", source.dropped), ("quarantined", source.quarantined)):
            for name, count in counts.items():
                found.setdefault((name, kind), []).append((source.name, count))
    rows = []
    for (name, kind), parts in found.items():
        where = ", ".join(f"{source} {count:,}" for source, count in sorted(parts, key=lambda part: -part[1]))
        rows.append(Reason(name, kind, sum(count for _, count in parts), 0.0, where))
    most = max((reason.records for reason in rows), default=1)
    rows.sort(key=lambda reason: (-reason.records, reason.kind, reason.name))
    return [reason._replace(width=round(WHOLE * reason.records / most, 2)) for reason in rows]
