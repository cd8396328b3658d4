"""How every command begins and ends: errors become one message and an exit code, SIGTERM acts like Ctrl-C."""

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from omni_ray.errors import Interrupted, OmniRayError

PATIENCE_SECONDS = 30.0  # for the clean-up after Ctrl-C; one that takes longer can be interrupted itself

_at_interrupt: list[Callable[[], None]] = []


def guarded(action: Callable[[], int]) -> int:
    """Run a command; its errors become one message on stderr and an exit code."""
    try:
        with interruptible():
            return action()
    except OmniRayError as error:
        print(f"omni_ray: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM acts like Ctrl-C; both end as Interrupted.

    Another one while the first is being obeyed would cut the clean-up short, so it is ignored for PATIENCE_SECONDS;
    once the clean-up is done all are, until the process has given its exit code.
    """
    obeyed_at = -math.inf

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        nonlocal obeyed_at
        if time.monotonic() - obeyed_at >= PATIENCE_SECONDS:
            obeyed_at = time.monotonic()
            for act in _at_interrupt:
                act()
            raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        before = dict.fromkeys(before, signal.SIG_IGN)
        raise Interrupted("stopped; what was committed stays, the same command goes on from there") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def at_interrupt(act: Callable[[], None]) -> Callable[[], None]:
    """Call `act` first of all when the command is interrupted, for what cannot wait until Ray has ended: `ray job stop`
    kills a command 3 s after its SIGTERM. It runs in the signal's handler, so it must neither wait nor take a lock that
    the main thread may hold. Gives a function that takes it back."""
    _at_interrupt.append(act)

    def forget() -> None:
        if act in _at_interrupt:
            _at_interrupt.remove(act)

    return forget
