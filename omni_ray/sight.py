"""What every node of a cluster must see, tried out before there is work: the output, and the files that are read.

The run leaves a mark in the output, each node looks for it and writes an answer, and the run looks for that. The mark
stays, so that a node that joins later can look for it before its first task.
"""

import functools
import time
import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from omni_ray import runtime
from omni_ray.errors import Refused, StorageError
from omni_ray.storage import Storage, open_storage

MARKS = ".omni_ray/shared"
REMEDY = "give a folder that every node has at the same path, or an s3:// uri"
ATTEMPTS = 3  # to read an output that fails, which may pass


class Sight(msgspec.Struct, frozen=True):
    """An output, told by the mark that this run left in it, and paths of local files."""

    out: str
    mark: str
    files: tuple[str, ...]

    def check(self) -> None:
        """Called on a node.

        Raises:
            Refused: naming what it does not see, and what to do.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                missing = _missing(self)
            except StorageError as error:
                if attempt == ATTEMPTS:
                    node = runtime.this_node()
                    raise Refused(f"{self.out}: cannot be read on node {node} of the Ray cluster: {error}") from error
                time.sleep(2**attempt)
            else:
                break
        if missing:
            raise Refused(missing)


def look(storage: Storage, files: Sequence[str] = ()) -> Sight | None:
    """Make sure that every node sees `storage` and `files`; None on a cluster that nobody else can join.

    One run at a time: the caller holds the lease.

    Args:
        files: absolute.

    Raises:
        Refused: naming what is not shared, a node that does not see it, and what to do.
    """
    if not runtime.outlives_us():
        return None
    storage.delete_tree(MARKS)
    sight = Sight(storage.location, f"{MARKS}/{uuid.uuid4().hex}", tuple(files))
    storage.put(sight.mark, b"")
    answers = runtime.ask_nodes(partial(_answer, sight))
    for node, missing in answers.items():
        if missing:
            raise Refused(missing)
        if not storage.exists(_answer_key(sight, node)):
            raise Refused(f"{storage.uri}: what node {node} of the Ray cluster writes there is not seen here; {REMEDY}")
    storage.delete_many([_answer_key(sight, node) for node in answers])
    return sight


@functools.lru_cache(maxsize=8)  # once in each worker process; a failure is not kept
def _missing(sight: Sight) -> str:
    """Raises StorageError."""
    node = runtime.this_node()
    if not open_storage(sight.out).exists(sight.mark):
        return f"{sight.out}: not seen by node {node} of the Ray cluster, which would write there; {REMEDY}"
    for path in sight.files:
        if not Path(path).exists():
            return (
                f"{path}: not seen by node {node} of the Ray cluster, which would read it; put the data into a folder "
                "that every node has at the same path, or into s3://"
            )
    return ""


def _answer(sight: Sight, node: str) -> str:
    """Runs on a node: what it does not see, or "" and an answer where the mark lies."""
    try:
        sight.check()
    except Refused as error:
        return str(error)
    try:
        open_storage(sight.out).put(_answer_key(sight, node), b"")
    except StorageError as error:
        return f"{sight.out}: cannot be written on node {node} of the Ray cluster: {error}"
    return ""


def _answer_key(sight: Sight, node: str) -> str:
    return f"{sight.mark}-{node.partition(' ')[0]}"
