"""How every command begins and ends: errors become one message and an exit code, SIGTERM acts like Ctrl-C."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from omni_ray.errors import Interrupted, OmniRayError


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
    """SIGTERM acts like Ctrl-C; both end as Interrupted."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("stopped; what was committed stays, the same command goes on from there") from None
    finally:
        signal.signal(signal.SIGTERM, before)
