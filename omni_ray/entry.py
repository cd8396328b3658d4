"""How every command begins and ends: errors become one message and an exit code, SIGTERM acts like Ctrl-C."""

import atexit
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple, NoReturn

from omni_ray.errors import Interrupted, OmniRayError

PATIENCE_SECONDS = 30.0  # for the clean-up after Ctrl-C; one that takes longer can be interrupted itself
FAREWELL_SECONDS = 5.0


class _Farewell(NamedTuple):
    begin: Callable[[], None]
    wait: Callable[[float], None]


_farewells: list[_Farewell] = []
_exit_code: int | None = None


def end(code: int) -> NoReturn:
    """End the command with this exit code, whatever the C++ libraries in it would do when they are taken down."""
    leave_with(code)
    sys.exit(code)


def leave_with(code: int) -> None:
    """Have this process leave with `code` once Python has joined its threads and called what is registered with atexit.

    What would follow is skipped: a search for garbage, which takes 0.4 s with Ray, and the destructors of C++
    libraries, which race with threads of these libraries that still run; now and then that gave SIGSEGV or SIGABRT in
    the place of the exit code of a command that had done and said everything.
    """
    global _exit_code
    _exit_code = code


@atexit.register  # imported before the libraries that matter, so called after what they registered
def _leave() -> None:
    if _exit_code is None:
        return
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except (OSError, ValueError):  # Python tries again, complains and gives its own exit code
        return
    os._exit(_exit_code)


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
            for farewell in _farewells:
                farewell.begin()
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


def at_interrupt(begin: Callable[[], None], wait: Callable[[float], None]) -> Callable[[], None]:
    """Call `begin` first of all when the command is interrupted, for what cannot wait until Ray has ended: `ray job
    stop` kills a command 3 s after its SIGTERM. It runs in the signal's handler, so it must neither wait nor take a
    lock that the main thread may hold; `wait` waits for what it began, so many seconds at most. Gives a function that
    takes both back."""
    farewell = _Farewell(begin, wait)
    _farewells.append(farewell)

    def forget() -> None:
        if farewell in _farewells:
            _farewells.remove(farewell)

    return forget


def end_at_once(error: OmniRayError) -> NoReturn:
    """End the command from any thread, where its main thread waits for something that will never come."""
    print(f"omni_ray: {error}", file=sys.stderr, flush=True)
    farewells = list(_farewells)
    for farewell in farewells:
        farewell.begin()
    for farewell in farewells:
        farewell.wait(FAREWELL_SECONDS)
    os._exit(error.exit_code)
