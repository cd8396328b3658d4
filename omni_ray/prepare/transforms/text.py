"""Text records to lines of the corpus: render, normalise, judge by the rules, split what is too long."""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from string import Formatter
from typing import Any

from omni_ray.catalog import Source
from omni_ray.prepare.records import Drop, TextSample, Unusable

_PARAGRAPHS = re.compile(r"\n[^\S\n]*\n\s*")
_SENTENCES = re.compile(r"(?<=[.!?…。！？])\s+|(?<=[。！？])")
_NOT_SYMBOLS = bytes(code for code in range(128) if chr(code).isalnum() or chr(code).isspace())


class _Symbols(dict[int, str | None]):
    """A translate table that deletes letters, marks, numbers and white space; what is left are symbols."""

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        keep = not char.isspace() and unicodedata.category(char)[0] not in "LMN"
        self[code] = value = char if keep else None
        return value


class _Controls(dict[int, str | None]):
    """A translate table that deletes control characters other than white space."""

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        self[code] = value = None if unicodedata.category(char) == "Cc" and not char.isspace() else char
        return value


_symbols = _Symbols()
_controls = _Controls()
_HAS_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")


class TextTransform:
    """What a source's fields and rules make of a record. Pure; one instance serves any number of records."""

    def __init__(self, source: Source) -> None:
        rules = source.resolved_rules()
        self._template = _parse(source.template("text"))
        self._min_chars = int(rules["min_chars"])
        self._max_line_chars = int(rules["max_line_chars"])
        self._max_symbol_ratio = float(rules["max_symbol_ratio"])

    def __call__(self, value: Mapping[str, Any]) -> TextSample | Drop | Unusable:
        try:
            text = _render(self._template, value)
        except KeyError as error:
            return Unusable("missing_field", f"the record has no {error.args[0]}, or it is null")
        ascii_only = text.isascii()
        if not ascii_only:
            try:
                text.encode()
            except UnicodeEncodeError as error:
                return Unusable("undecodable", f"a lone surrogate at character {error.start}")
            if not unicodedata.is_normalized("NFC", text):
                text = unicodedata.normalize("NFC", text)
        if _HAS_CONTROLS.search(text):
            text = text.translate(_controls)
        clean = " ".join(text.split())
        if len(clean) < self._min_chars or not clean:
            return Drop("min_chars")
        if self._symbol_ratio(clean, ascii_only) > self._max_symbol_ratio:
            return Drop("max_symbol_ratio")
        if len(clean) <= self._max_line_chars:
            return TextSample([clean])
        return TextSample(split(text, self._max_line_chars))

    def _symbol_ratio(self, clean: str, ascii_only: bool) -> float:
        """Symbols over characters that are not spaces."""
        left = clean.encode().translate(None, _NOT_SYMBOLS) if ascii_only else clean.translate(_symbols)
        return len(left) / (len(clean) - clean.count(" "))


def split(text: str, limit: int) -> list[str]:
    """Split at paragraphs, then sentences, then words, then characters; lines as full as `limit` characters allow."""
    return list(_pack(_pieces(text, limit), limit))


def _pieces(text: str, limit: int) -> Iterator[str]:
    """Folded pieces of at most `limit` characters, each as large a unit as fits."""
    for paragraph in _PARAGRAPHS.split(text):
        folded = " ".join(paragraph.split())
        if len(folded) <= limit:
            yield folded
            continue
        for sentence in _SENTENCES.split(folded):
            if len(sentence) <= limit:
                yield sentence
                continue
            for word in sentence.split():
                yield from (word[at : at + limit] for at in range(0, len(word), limit))


def _pack(pieces: Iterator[str], limit: int) -> Iterator[str]:
    line: list[str] = []
    length = 0
    for piece in pieces:
        if not piece:
            continue
        if line and length + 1 + len(piece) > limit:
            yield " ".join(line)
            line, length = [], 0
        length += len(piece) + (1 if line else 0)
        line.append(piece)
    if line:
        yield " ".join(line)


def _parse(template: str) -> list[tuple[str, list[str] | None]]:
    """Literal text, and the path of the column behind it (None behind the last)."""
    return [(literal, None if name is None else name.split(".")) for literal, name, _, _ in Formatter().parse(template)]


def _render(template: list[tuple[str, list[str] | None]], value: Mapping[str, Any]) -> str:
    parts = []
    for literal, path in template:
        parts.append(literal)
        if path is not None:
            parts.append(_shown(_lookup(value, path)))
    return "".join(parts)


def _lookup(value: Any, path: list[str]) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
        if value is None:
            raise KeyError(".".join(path))
    return value


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
