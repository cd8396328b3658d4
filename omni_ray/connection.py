"""How long a connection to Ray lasts. Knows nothing of Ray, so that a command that needs none need not import it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_lasting: list[ExitStack] = []  # one for each block of `one_connection` that we are in


@contextmanager
def one_connection() -> Iterator[None]:
    """What `runtime.connected` connects to inside this block stays connected until its end. A connection takes seconds;
    and of a process that makes its third one, Ray 2.60 sends every counter twice."""
    with ExitStack() as connection:
        _lasting.append(connection)
        try:
            yield
        finally:
            _lasting.pop()


def lasting(ours: ExitStack) -> ExitStack:
    """What a new connection ends with: the block of `one_connection` that we are in, `ours` where we are in none."""
    return _lasting[-1] if _lasting else ours
