"""Outputs to report on, and what a page says, read by another program than the one that wrote it."""

import csv
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import soundfile

from tests.prepare.media import world

HOSTILE = [
    "<script>window.pwned = 'script'</script> said nobody",
    '"><img src=x onerror="window.pwned = \'img\'"> and so on',
    "</blockquote></li></ol><iframe src=\"javascript:window.pwned='frame'\"></iframe>",
    "</style><style>* { display: none }</style> after the style",
    "</title></textarea><svg onload=window.pwned='svg'></svg> drawn",
    "{{ 7 * 7 }} {% include 'style.css' %} {# no template #}",
    "&lt;script&gt; &amp; ' \" ` entities stay as they are",
    "\u202eoverridden from right to left\u202d and \u2067isolated",
    "a bell \x07, a NUL \x00 and an escape \x1b[31m in the middle",
    "שלום עולם, and English after it: مرحبا",
]
ENTRY = """
[[source]]
name = "{name}"
modality = "{modality}"
category = "general"
url = "{url}"
reader = "{reader}"
license = {license}
homepage = "javascript:window.pwned='homepage'"
{more}
"""
LICENSE = r'"MIT\"><script>window.pwned = \"licence\"</script>\u0000\u001b"'  # as TOML spells it


def tone(seconds: float) -> bytes:
    sink = io.BytesIO()
    time = np.arange(round(22_050 * seconds)) / 22_050
    soundfile.write(sink, 0.3 * np.sin(2 * np.pi * 500 * time), 22_050, "PCM_16", format="WAV")
    return sink.getvalue()


def hostile(folder: Path) -> Path:
    """A catalog of all modalities, every text of which would like to be more than a text."""
    long = "<b>" + "long and longer " * 6500
    world.files(folder, {"words.txt": "\n".join([*HOSTILE, long]).encode()})
    clips = [["filename", "said"], *([f"{n}.wav", text] for n, text in enumerate([*HOSTILE, long]))]
    data = {f"clips/wavs/{n}.wav": tone(0.3 + 0.05 * n if n else 12.5) for n in range(len(HOSTILE) + 1)}
    world.files(folder, {**data, "clips/list.csv": table(clips)})
    rows = [["file", "words", "kind"], *([f"{n}.png", text, text] for n, text in enumerate(HOSTILE))]
    pictures = {f"pics/{n}.png": world.photo(n, 48 + 200 * (n == 1)) for n in range(len(HOSTILE))}
    world.files(folder, {**pictures, "pictures.csv": table(rows)})
    return world.catalog(
        folder,
        entry("words", "text", "words.txt", "lines", "[source.rules]\nmax_symbol_ratio = 1\nmax_line_chars = 200000"),
        entry(
            "clips",
            "audio",
            "clips",
            "files",
            'manifest = "list.csv"\npath = "wavs/{filename}"\n[source.fields]\ntext = "{said}"',
        ),
        entry(
            "pictures",
            "image",
            "pictures.csv",
            "table",
            '[source.fields]\nimage = "pics/{file}"\ncaption = "{words}"\ncategory = "{kind}"',
        ),
    )


def entry(name: str, modality: str, url: str, reader: str, more: str) -> str:
    return ENTRY.format(name=name, modality=modality, url=url, reader=reader, license=LICENSE, more=more)


def table(rows: list[list[str]]) -> bytes:
    sink = io.StringIO(newline="")
    csv.writer(sink).writerows(rows)
    return sink.getvalue().replace("\0", "").encode()


class Page(HTMLParser):
    """What is in a page: the cells of its tables by row and label, its texts, elements and their attributes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.tables: list[dict[str, dict[str, str]]] = []
        self.quotes: list[str] = []
        self.tiles: dict[str, list[str]] = {}
        self.notes: list[str] = []
        self._open: list[tuple[str, dict[str, str]]] = []
        self._text = ""
        self._row = ""
        self._value: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if tag == "table":
            self.tables.append({})
        if tag in ("th", "td", "blockquote", "dt", "dd", "p"):
            self._text = ""
            self._open.append((tag, attributes))

    def handle_data(self, data: str) -> None:
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1][0] != tag:
            return
        _, attributes = self._open.pop()
        text = self._text.strip()
        if tag == "th" and attributes.get("scope") == "row":
            self._row = text
            self.tables[-1].setdefault(text, {})
        elif tag == "td":
            self.tables[-1][self._row][attributes["data-label"]] = text
        elif tag == "blockquote":
            self.quotes.append(text)
        elif tag == "dt":
            self.tiles[text] = []
            self._value = self.tiles[text]
        elif tag == "dd":
            self._value.append(text)
        elif tag == "p" and "note" in attributes.get("class", ""):
            self.notes.append(text)

    def row(self, name: str, label: str) -> dict[str, str]:
        """The row `name` of the first table that has the column `label`."""
        return next(table[name] for table in self.tables if label in table.get(name, {}))
