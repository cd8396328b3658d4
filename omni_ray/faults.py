"""Stops at named points, for the tests of recovery; nothing happens unless OMNI_RAY_STOP is set.

OMNI_RAY_STOP=<point>[@n] kills the process group of the command with SIGKILL the n-th time (the first by default) a
process of it passes that point. The points follow the crash table of `docs/recovery.md`.
"""

import os
import signal
from collections import Counter
from typing import Literal

Point = Literal[
    "planning",
    "forgetting",
    "indexing",
    "decoding",
    "committing",
    "ledger",
    "joining",
    "combining",
    "publishing",
    "updating",
    "accumulating",
    "training",
    "checkpointing",
]

_passed: Counter[str] = Counter()


def arm() -> None:
    """Called by a command at its start: its process group is the one that a stop kills, from workers too."""
    if "OMNI_RAY_STOP" in os.environ:
        os.environ["OMNI_RAY_STOP_GROUP"] = str(os.getpgid(0))


def stop_here(point: Point) -> None:
    """Kill the command if this is the point it was told to stop at."""
    wanted = os.environ.get("OMNI_RAY_STOP")
    if wanted is None:
        return
    name, _, count = wanted.partition("@")
    if name == point:
        _passed[point] += 1
        if _passed[point] == int(count or 1):
            os.killpg(int(os.environ["OMNI_RAY_STOP_GROUP"]), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
