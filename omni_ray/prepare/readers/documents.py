"""Whole streams as one record each."""

from omni_ray.prepare.readers.lines import without_bom
from omni_ray.prepare.readers.steps import Step, Task
from omni_ray.prepare.readers.streams import MAX_RECORD_BYTES, Stream, read_fully


def read_document(stream: Stream, task: Task, size: int) -> Step:
    """The text of a stream of `size` bytes as `{"text": ...}`, or why it cannot be used."""
    if size > MAX_RECORD_BYTES:
        return Step([task.too_large(0)], size, size)
    stream.seek(0)
    data = read_fully(stream, size)
    try:
        text = without_bom(data, task.source.encoding).decode(task.source.encoding)
    except UnicodeDecodeError as error:
        return Step([task.bad(0, "undecodable", str(error))], len(data), size)
    return Step([task.raw(0, {"text": text})], len(data), size)
