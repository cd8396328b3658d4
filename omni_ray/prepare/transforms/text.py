"""Text records to lines of the corpus: render, normalise, judge by the rules, split what is too long."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from omni_ray.catalog import Source
from omni_ray.prepare.records import Drop, TextSample, Unusable
from omni_ray.prepare.transforms import bulk, fields

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


_symbols = _Symbols()


FEWEST_IN_BULK = 8  # below, the calls of `bulk` cost more than they save
MOST_CHARS_IN_BULK = 4 << 20  # above, its copies of the texts would not be small


@dataclass
class TextBatch:
    """What became of many records: `kept` of them became lines; `record[i]` is the number of the record that line `i`
    comes from, `part[i]` the line's number in it."""

    lines: list[bytes] = field(default_factory=list)
    record: list[int] = field(default_factory=list)
    part: list[int] = field(default_factory=list)
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    unusable: list[tuple[int, Unusable]] = field(default_factory=list)

    def add(self, number: int, result: TextSample | Drop | Unusable) -> None:
        if isinstance(result, TextSample):
            self.keep(number, [line.encode() for line in result.lines])
        elif isinstance(result, Drop):
            self.dropped[result.rule] += 1
        else:
            self.unusable.append((number, result))

    def keep(self, number: int, lines: list[bytes]) -> None:
        self.kept += 1
        self.lines += lines
        self.record += [number] * len(lines)
        self.part += range(len(lines))


class TextTransform:
    """What a source's fields and rules make of a record. Pure; one instance serves any number of records."""

    def __init__(self, source: Source) -> None:
        rules = source.resolved_rules()
        self._render = fields.renderer(source.template("text"))
        self._min_chars = int(rules["min_chars"])
        self._max_line_chars = int(rules["max_line_chars"])
        self._max_symbol_ratio = float(rules["max_symbol_ratio"])

    def __call__(self, value: Mapping[str, Any]) -> TextSample | Drop | Unusable:
        try:
            text = self._render(value)
        except KeyError as error:
            return fields.missing(error)
        return self._judge(text)

    def many(self, values: Sequence[Mapping[str, Any]]) -> TextBatch:
        """The same as calling this with every value, and several times as fast."""
        batch = TextBatch()
        texts: list[str] = []
        numbers: list[int] = []
        for number, value in enumerate(values):
            try:
                texts.append(self._render(value))
                numbers.append(number)
            except KeyError as error:
                batch.add(number, fields.missing(error))
        if len(texts) >= FEWEST_IN_BULK and sum(map(len, texts)) <= MOST_CHARS_IN_BULK:
            try:
                self._judge_in_bulk(batch, numbers, texts)
                return batch
            except UnicodeEncodeError:
                pass  # a lone surrogate in one of them; nothing is in the batch yet
        for number, text in zip(numbers, texts, strict=True):
            batch.add(number, self._judge(text))
        return batch

    def _judge_in_bulk(self, batch: TextBatch, numbers: list[int], texts: list[str]) -> None:
        folded = bulk.fold(texts, self._max_symbol_ratio)
        short = folded.chars < max(self._min_chars, 1)
        symbols = ~short & (folded.symbol_ratio > self._max_symbol_ratio)
        fits = ~short & ~symbols & (folded.chars <= self._max_line_chars)
        if fits.all():
            batch.lines, batch.record, batch.part, batch.kept = folded.lines, numbers, [0] * len(numbers), len(numbers)
            return
        batch.dropped += Counter(min_chars=int(short.sum()), max_symbol_ratio=int(symbols.sum()))
        for index in np.flatnonzero(~short & ~symbols):
            if fits[index]:
                batch.keep(numbers[index], [folded.lines[index]])
            else:
                batch.add(numbers[index], self._judge(texts[index]))

    def _judge(self, text: str) -> TextSample | Drop | Unusable:
        ascii_only = text.isascii()
        try:
            text = fields.normalised(text)
        except UnicodeEncodeError as error:
            return fields.undecodable(error)
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
