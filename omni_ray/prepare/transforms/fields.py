"""What templates make of a record's columns, and how every text is cleaned: shared by all modalities."""

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import partial
from operator import itemgetter
from string import Formatter
from typing import Any

from omni_ray.prepare.records import Unusable

Template = list[tuple[str, list[str] | None]]  # literal text, and the path of the column behind it (None: the end)
Render = Callable[[Mapping[str, Any]], str]

_HAS_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")


class _Controls(dict[int, str | None]):
    """A translate table that deletes control characters other than white space."""

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        self[code] = value = None if unicodedata.category(char) == "Cc" and not char.isspace() else char
        return value


_controls = _Controls()


def clean(text: str) -> str:
    """One line: normalised, runs of white space one space, none at the ends.

    Raises:
        UnicodeEncodeError: for a lone surrogate.
    """
    return " ".join(normalised(text).split())


def normalised(text: str) -> str:
    """NFC, without control characters; white space as it was.

    Raises:
        UnicodeEncodeError: for a lone surrogate.
    """
    if not text.isascii():
        text.encode()
        if not unicodedata.is_normalized("NFC", text):
            text = unicodedata.normalize("NFC", text)
    return text.translate(_controls) if _HAS_CONTROLS.search(text) else text


def undecodable(error: UnicodeEncodeError) -> Unusable:
    return Unusable("undecodable", f"a lone surrogate at character {error.start}")


def missing(error: KeyError) -> Unusable:
    return Unusable("missing_field", f"the record has no {error.args[0]}, or it is null")


_ONLY_STRINGS = {str}


def renderer(template: str) -> Render:
    """A template as a function of a record. Plain strings go a shorter way.

    The function raises KeyError, with the column's name, for a column that a record lacks or that is null.
    """
    parts: Template = [
        (literal, None if name is None else name.split(".")) for literal, name, _, _ in Formatter().parse(template)
    ]
    columns = [path[0] for _, path in parts if path is not None and len(path) == 1]
    if len(columns) != sum(path is not None for _, path in parts) or not columns:
        return partial(_render, parts)
    pattern = "".join(literal.replace("%", "%%") + ("" if path is None else "%s") for literal, path in parts)
    pick = itemgetter(*columns, columns[0])  # one more, so that it always gives a tuple

    def render(value: Mapping[str, Any]) -> str:
        try:
            cells = pick(value)[:-1]
        except KeyError:
            return _render(parts, value)
        return pattern % cells if set(map(type, cells)) == _ONLY_STRINGS else _render(parts, value)

    return render


def lookup(value: Any, path: list[str]) -> Any:
    """The cell at `path`; KeyError, with the dotted name, where there is none or it is null."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
        if value is None:
            raise KeyError(".".join(path))
    return value


def _render(template: Template, value: Mapping[str, Any]) -> str:
    parts = []
    for literal, path in template:
        parts.append(literal)
        if path is not None:
            parts.append(_shown(lookup(value, path)))
    return "".join(parts)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
