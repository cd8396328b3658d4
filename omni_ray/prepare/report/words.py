"""Figures in words, and what may stand in a page at all."""

import re
from urllib.parse import urlsplit

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(value: object) -> object:
    """What no page may hold (NUL, other controls, halves of surrogate pairs) becomes U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", value) if type(value) is str else value


def link(homepage: str) -> str:
    """The homepage, where it is one that a browser may be sent to; "" else."""
    try:
        return homepage if urlsplit(homepage).scheme in ("http", "https") else ""
    except ValueError:  # http://[ is no address
        return ""


def percent(part: float, whole: float) -> str:
    """Of nothing, nothing is 0%; what is there is never 0%, and what is not all is never 100%."""
    if not part or not whole:
        return "0%"
    share = 100 * part / whole
    if share < 0.1:
        return "<0.1%"
    if 99.9 < share < 100:
        return ">99.9%"
    return f"{share:.1f}%" if share < 10 or 99 < share < 100 else f"{share:,.0f}%"


def hours(seconds: float) -> str:
    """Seconds in the unit in which they are a small number."""
    for unit, factor in (("h", 3600), ("min", 60)):
        if seconds >= factor:
            return f"{seconds / factor:,.1f} {unit}"
    return f"{seconds:.1f} s"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
