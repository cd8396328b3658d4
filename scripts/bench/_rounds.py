"""Systems that take turns on a quarter of an input and on all of it, round by round, and what their times say.

"Whole" is the input over the wall time of the command on all of it; "steady" is the difference of the inputs over the
difference of the times, without what starting costs. Ratios are taken within a round.
"""

import json
import os
import shutil
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from scripts.bench import _measure

Parts = Mapping[str, float]  # how much is in `quarter` and in `all` of an input, in the unit of the rates
Start = Callable[[str, str, str], _measure.Run]  # runs a system on a part of a kind of input


class Timed(NamedTuple):
    """One run of one system on one part of one kind of input."""

    round: int
    kind: str
    system: str
    part: str
    amount: float
    seconds: float
    peak_bytes: int


class Rates(NamedTuple):
    """Input per second of the clock, round by round."""

    whole: list[float]
    steady: list[float]


def measure(
    systems: list[str], inputs: Mapping[str, Parts], start: Start, out: Path, count: int, log: Path
) -> list[Timed]:
    """Add `count` rounds to the log; what they measure, in all rounds of the log that hold it.

    `start` leaves `out` behind, which is removed before the next one's turn.
    """
    for kind in inputs:
        for system in systems:  # unmeasured: who comes first pays for what nobody has read yet
            start(kind, system, "quarter")
            remove(out)
    first = 1 + max((one.round for one in read(log)), default=0)
    for number in range(first, first + count):
        turn = number % len(systems)
        for kind, parts in inputs.items():
            for part, amount in parts.items():
                for system in systems[turn:] + systems[:turn]:
                    done = start(kind, system, part)
                    remove(out)
                    timed = Timed(number, kind, system, part, amount, done.seconds, done.peak_bytes)
                    with log.open("a") as stream:
                        stream.write(json.dumps(timed) + "\n")
                    shown = f"round {number}: {kind}: {system:18} {part:7} {done.seconds:6.2f} s"
                    print(shown, file=sys.stderr, flush=True)
    asked = {(kind, system, *part) for kind, parts in inputs.items() for part in parts.items() for system in systems}
    there = [one for one in read(log) if (one.kind, one.system, one.part, one.amount) in asked]
    runs = Counter(one.round for one in there)
    return [one for one in there if runs[one.round] == len(asked)]  # without a round that was broken off


def read(log: Path) -> list[Timed]:
    return [Timed(*json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []


def remove(out: Path) -> None:
    """The disk is done with what was written and removed before the next run begins."""
    shutil.rmtree(out)
    os.sync()


def rates_of(timed: list[Timed], kind: str) -> dict[str, Rates]:
    """Of each system on a kind of input."""
    found = {(one.round, one.system, one.part): one for one in timed if one.kind == kind}
    rounds = sorted({one.round for one in found.values()})
    rates = {}
    for system in dict.fromkeys(one.system for one in found.values()):
        pairs = [(found[number, system, "quarter"], found[number, system, "all"]) for number in rounds]
        whole = [every.amount / every.seconds for _, every in pairs]
        steady = [(every.amount - some.amount) / (every.seconds - some.seconds) for some, every in pairs]
        rates[system] = Rates(whole, steady)
    return rates


def median_ratio(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def peak_of(timed: list[Timed], *systems: str) -> int:
    """Bytes of the largest process that any of the systems ever had."""
    return max(one.peak_bytes for one in timed if one.system in systems)
