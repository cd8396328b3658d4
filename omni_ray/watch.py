"""Whether a Ray cluster is there, and the end of a command whose cluster is lost, as Ray may let it wait for ever."""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from omni_ray.entry import end_at_once
from omni_ray.errors import OmniRayError

ANSWER_SECONDS = 5.0
WATCH_SECONDS = 2.0  # between two looks
HEAD_SECONDS = 50.0  # for a head to come back, where it can; after 60 Ray ends the process itself and names no remedy


def answers(address: str) -> bool:
    """Whether something listens at HOST:PORT. Ray itself takes minutes to find that nothing does."""
    host, _, port = address.rpartition(":")
    if "://" in address or not port.isdigit():
        return bool(address)  # a form that only Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


@contextmanager
def watching(head: str, node: str) -> Iterator[None]:
    """End the command where the cluster that it is connected to is lost meanwhile.

    The node is Ray's process on this machine: what was connected to it cannot go on without it, also where a new
    cluster has begun under the same address. The head may come back, where it keeps its state in a store (Ray's fault
    tolerance of the GCS).

    Args:
        head: HOST:PORT.
        node: HOST:PORT.
    """
    ended = threading.Event()

    def watch() -> None:
        missing_since: float | None = None
        while not ended.wait(WATCH_SECONDS):
            if not answers(node) and not ended.wait(WATCH_SECONDS) and not answers(node):
                end_at_once(_lost(head, "its processes on this machine have ended"))
            if answers(head):
                missing_since = None
            elif missing_since is None:
                missing_since = time.monotonic()
                print(f"the head of the Ray cluster, {head}, does not answer; waiting for it", file=sys.stderr)
            elif time.monotonic() - missing_since > HEAD_SECONDS:
                end_at_once(_lost(head, f"its head has not answered for {HEAD_SECONDS:.0f} s"))

    thread = threading.Thread(target=watch, name="watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _lost(head: str, what: str) -> OmniRayError:
    return OmniRayError(
        f"the Ray cluster {head} is lost: {what}; what was committed stays; start the cluster again (`ray start`) and "
        "run the same command"
    )
