"""The page: figures in words, in one HTML file that is the same for the same figures."""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from omni_ray import __version__
from omni_ray.catalog import Modality
from omni_ray.prepare.options import GB
from omni_ray.prepare.progress import sized
from omni_ray.prepare.report import drawing
from omni_ray.prepare.report.distribution import SECONDS, Distribution
from omni_ray.prepare.report.drawing import Plot, Quantity
from omni_ray.prepare.report.survey import RECOMMENDED_SECONDS, Figures, SourceFigures
from omni_ray.prepare.report.tables import COLOURS, reasons, record_row, size_rows
from omni_ray.prepare.report.words import count, hours, link, percent, printable

TITLES: dict[Modality, str] = {"text": "Text", "audio": "Audio", "image": "Images"}
NOUNS: dict[Modality, str] = {"text": "lines", "audio": "clips", "image": "pictures"}
_LOW, _HIGH = RECOMMENDED_SECONDS


class Tile(NamedTuple):
    """One figure in large letters."""

    label: str
    value: str
    note: str = ""


class Note(NamedTuple):
    """A sentence above the figures; `warns` of something that can be mended."""

    text: str
    warns: bool


def render(name: str, figures: Sequence[Figures]) -> bytes:
    """The page about the output `name`."""
    style = resources.files(__package__).joinpath("templates/style.css").read_text()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    text = _environment().get_template("report.html").render(
        name=name,
        version=__version__,
        style=Markup(style),
        style_hash=f"sha256-{digest}",
        sections=[_section(one) for one in figures],
        licences=[_licence(one, source) for one in figures for source in one.sources],
        width=drawing.WIDTH,
        height=drawing.HEIGHT,
    )  # fmt: skip
    return text.encode()


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _section(figures: Figures) -> dict[str, Any]:
    joined = _joined(figures)
    return {
        "id": figures.modality,
        "title": TITLES[figures.modality],
        "noun": NOUNS[figures.modality],
        "tiles": _tiles(figures, joined),
        "notes": _notes(figures),
        "mix": _mix(figures),
        "rows": size_rows(figures),
        "plots": _plots(figures, joined),
        "records": [record_row(source) for source in figures.sources],
        "reasons": reasons(figures),
        "retry": any(source.quarantined for source in figures.sources),
        "files": [{"key": file.key, "size": sized(file.size), "state": file.state} for file in figures.files],
        "sources": [_source(figures.modality, number, source) for number, source in enumerate(figures.sources)],
    }


def _joined(figures: Figures) -> dict[str, Distribution]:
    """The distributions of all sources together."""
    together: dict[str, Distribution] = {}
    for source in figures.sources:
        for name, distribution in source.measured.items():
            together.setdefault(name, Distribution(distribution.scale)).join(distribution)
    return together


def _tiles(figures: Figures, joined: dict[str, Distribution]) -> list[Tile]:
    chosen = sum(source.counts.in_output for source in figures.sources)
    budget = f"{percent(figures.size, figures.max_bytes)} of a budget of {figures.max_bytes / GB:g} GB"
    tiles = [
        Tile("in the output", sized(figures.size), budget),
        Tile(NOUNS[figures.modality], f"{chosen:,}", f"from {count(len(figures.sources), 'source')}"),
    ]
    if figures.modality == "audio":
        seconds = joined["seconds"].total / SECONDS.unit if joined else 0.0
        shorter, longer = (sum(source.outside[side] for source in figures.sources) for side in (0, 1))
        outside = f"{shorter:,} shorter, {longer:,} longer; {percent(shorter + longer, chosen)} of all"
        tiles.append(Tile("of sound", hours(seconds)))
        tiles.append(Tile(f"outside the recommended {_LOW}–{_HIGH} s", f"{shorter + longer:,}", outside))
    dropped = sum(sum(source.dropped.values()) for source in figures.sources)
    bad = sum(sum(source.quarantined.values()) for source in figures.sources)
    records = sum(source.rows_in for source in figures.sources)
    tiles.append(
        Tile("records left out", f"{dropped + bad:,}", f"of {records:,}: {dropped:,} dropped, {bad:,} quarantined")
    )
    return tiles


def _notes(figures: Figures) -> list[Note]:
    """What a reader must know before believing the figures."""
    notes: list[Note] = []
    failed = [f"{source.name} ({source.failures[0]})" for source in figures.sources if source.failures]
    unfinished = [s.name for s in figures.sources if s.state == "needs_more" and not s.failures]
    outdated = [file.key for file in figures.files if file.state != "current"]
    if failed:
        notes.append(Note(f"Nothing could be had of {', '.join(failed)}.", True))
    if unfinished:
        notes.append(Note(f"Not finished: {', '.join(unfinished)}. The figures are of what is committed so far.", True))
    if not figures.files:
        notes.append(Note("Nothing is combined yet: this is what the production files would hold now.", True))
    if outdated:
        notes.append(Note(f"Not made of what is committed now: {', '.join(outdated)}. Run prepare again.", True))
    if figures.left_out:
        given = f"--license {figures.license}"
        notes.append(Note(f"Left out by {given}: {', '.join(figures.left_out)}.", False))
    if all(source.state == "dry" for source in figures.sources) and figures.size < figures.min_bytes:
        least = f"{figures.min_bytes / GB:g} GB"
        notes.append(Note(f"Below the minimum of {least}: the sources hold no more than this.", False))
    return notes


def _mix(figures: Figures) -> list[drawing.Stretch]:
    """What the output is made of."""
    return drawing.stacked(
        [
            (number % COLOURS, source.size, f"{source.name}: {percent(source.size, figures.size)}")
            for number, source in enumerate(figures.sources)
        ]
    )


def _source(modality: Modality, number: int, source: SourceFigures) -> dict[str, Any]:
    return {
        "name": source.name,
        "colour": number % COLOURS,
        "category": source.category,
        "license": source.license,
        "words": f"{source.counts.in_output:,} {NOUNS[modality]}, {sized(source.size)}",
        "plots": [
            drawn
            for name, one in source.measured.items()
            if (drawn := drawing.plot(_quantities(modality)[name], one)) is not None
        ],
        "samples": [
            {**sample._asdict(), "uri": Markup(sample.uri), "bytes": f"{sample.size:,} bytes"}
            for sample in source.samples
        ],
    }


def _licence(figures: Figures, source: SourceFigures) -> dict[str, str]:
    return {
        "license": source.license,
        "name": source.name,
        "modality": TITLES[figures.modality],
        "homepage": source.homepage,
        "link": link(source.homepage),
        "samples": f"{source.counts.in_output:,} {NOUNS[figures.modality]}",
        "size": sized(source.size),
    }


def _plots(figures: Figures, joined: dict[str, Distribution]) -> list[Plot]:
    """All sources together."""
    drawn = []
    for name, distribution in joined.items():
        parts = [
            drawing.Part(source.name, number % COLOURS, source.measured[name])
            for number, source in enumerate(figures.sources)
        ]
        drawn.append(drawing.plot(_quantities(figures.modality)[name], distribution, parts))
    return [one for one in drawn if one is not None]


def _quantities(modality: Modality) -> dict[str, Quantity]:
    noun = NOUNS[modality]
    said = "transcript" if modality == "audio" else "caption"
    band = (_LOW * SECONDS.unit, _HIGH * SECONDS.unit)

    return {
        "line_bytes": Quantity("Length of a line", noun, _whole, "bytes"),
        "seconds": Quantity("Duration", noun, _three_digits, "s", band, f"{_LOW}–{_HIGH} s"),
        "text_chars": Quantity(f"Length of a {said}", noun, _whole, "characters"),
        "width": Quantity("Width", noun, _whole, "pixels"),
        "height": Quantity("Height", noun, _whole, "pixels"),
        "file_bytes": Quantity("Size of a file, in bytes", noun, sized),
    }


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _three_digits(value: float) -> str:
    return f"{value:.3g}"
