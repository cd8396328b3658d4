"""The readers of all formats behind one function."""

from collections.abc import Iterator

from omni_ray.prepare.readers import tables
from omni_ray.prepare.readers.documents import read_document
from omni_ray.prepare.readers.lines import read_slice
from omni_ray.prepare.readers.parquet import read_parquet
from omni_ray.prepare.readers.steps import Step, Task
from omni_ray.prepare.readers.streams import Stream
from omni_ray.prepare.records import Cut


def read_steps(stream: Stream, task: Task, format_: str, cut: Cut, at: int = -1) -> Iterator[Step]:
    """Records of a stream between two of its boundaries, from `at` on (-1: from the beginning).

    Raises:
        Damaged: where the stream cannot be read on.
    """
    begun = max(at, cut.start)
    if format_ == "document":
        yield read_document(stream, task, cut.stop)
    elif format_ == "parquet":
        yield from read_parquet(stream, task, cut, at)
    elif format_ in ("csv", "tsv"):
        yield from tables.read_csv(stream, task, cut.stop, begun, tables.delimiter_of(format_))
    elif format_ == "json":
        yield from tables.read_json(stream, task, cut.stop, begun)
    else:
        yield from read_slice(stream, task, cut.start, cut.stop, None if at < 0 else at, format_)
