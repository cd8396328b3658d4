"""Reading and editing JSON as text: duplicate keys are errors, and an edit leaves every other character alone."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from omni_ray.errors import ConfigError

KeyPath = tuple[str, ...]

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def decode(data: bytes, where: str) -> str:
    """The text of a JSON file.

    Raises:
        ConfigError: where it is not UTF-8 or begins with a byte order mark.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    if text.startswith("\ufeff"):
        raise ConfigError(f"{where}: begins with a byte order mark; save the file as UTF-8 without one")
    return text


def parse_object(text: str, where: str) -> dict[str, Any]:
    """The object that `text` holds.

    Raises:
        ConfigError: naming line and column, or the key that stands there twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                raise ConfigError(f"{where}: {key} = {json.dumps(value)[:80]}: the key stands there twice; keep one")
            found[key] = value
        return found

    def number(name: str) -> NoReturn:
        raise ConfigError(f"{where}: {name} is not JSON; finite numbers are allowed")

    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=number)
    except json.JSONDecodeError as error:
        what = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise ConfigError(f"{where}: {what}; one JSON object is allowed") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: a number of thousands of digits, or thousands of nested brackets") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: holds a JSON {type(value).__name__}; one object is allowed: {{...}}")
    return value


def edit(text: str, changes: Mapping[KeyPath, Any]) -> str:
    """Set the values at `changes`; all else keeps its characters: order, indentation, line ends, number formats.

    A value that is equal already is left as it is written. A key that is new goes to the end of its object, in the
    object's own style. `text` is an object that `parse_object` accepts, and holds the parent of every path.
    """
    for path, value in changes.items():
        text = _set(text, path, value)
    return text


@dataclass
class _Object:
    """Where an object lies in a text: its members' keys and values as [start, end), and how it is laid out."""

    start: int
    end: int
    members: dict[str, tuple[int, int, int]]  # key -> start of the key, start of the value, end of the value


def _scan(text: str, start: int) -> _Object:
    """The members of the object whose brace is at `start`."""
    members: dict[str, tuple[int, int, int]] = {}
    at = _skip(text, start + 1)
    while text[at] != "}":
        key, after = _DECODER.raw_decode(text, at)
        value = _skip(text, _skip(text, after) + 1)
        _, end = _DECODER.raw_decode(text, value)
        members[key] = (at, value, end)
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return _Object(start, at + 1, members)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _set(text: str, path: KeyPath, value: Any) -> str:
    found = _scan(text, _skip(text, 0))
    for key in path[:-1]:
        found = _scan(text, found.members[key][1])
    member = found.members.get(path[-1])
    if member is None:
        return _insert(text, found, path[-1], value)
    _, start, end = member
    if _same(json.loads(text[start:end]), value):
        return text
    return text[:start] + _dump(value, _indent(text, found), _unit(text), text) + text[end:]


def _same(one: Any, other: Any) -> bool:
    """Equal, with 1, 1.0 and true told apart, and the order of keys too."""
    return json.dumps(one) == json.dumps(other)


def _insert(text: str, found: _Object, key: str, value: Any) -> str:
    indent = _indent(text, found)
    if not found.members:
        colon, inner = ": ", indent or ""
        before, tail = found.start + 1, ""
    else:
        first = min(found.members.values())
        _, written = _DECODER.raw_decode(text, first[0])
        colon, inner = text[written : first[1]], text[found.start + 1 : first[0]]
        before, tail = max(end for _, _, end in found.members.values()), ","
        if indent is None and len(found.members) > 1:
            second = sorted(found.members.values())[1]
            inner = text[first[2] : second[0]].lstrip(",")
        elif indent is None:
            inner = " " if colon.endswith(" ") else ""
    member = f"{json.dumps(key, ensure_ascii=False)}{colon}{_dump(value, indent, _unit(text), text)}"
    return f"{text[:before]}{tail}{inner}{member}{text[before:]}"


def _indent(text: str, found: _Object) -> str | None:
    """The white space before a member of an object, its newline first; None where members share a line."""
    if not found.members:
        return None
    space = text[found.start + 1 : min(found.members.values())[0]]
    return space if "\n" in space else None


def _unit(text: str) -> str:
    """One step of a text's indentation."""
    top = _indent(text, _scan(text, _skip(text, 0)))
    return top.rpartition("\n")[2] if top else ""


def _dump(value: Any, indent: str | None, unit: str, text: str) -> str:
    if indent is None or not isinstance(value, dict):
        compact = indent is None and '": ' not in text
        return json.dumps(value, ensure_ascii=False, separators=(",", ":") if compact else (", ", ": "))
    newline = "\r\n" if "\r\n" in indent else "\n"
    margin = indent.rpartition("\n")[2]
    return json.dumps(value, ensure_ascii=False, indent=unit).replace("\n", newline + margin)
