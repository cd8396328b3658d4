"""Tables of sounds and pictures for tests, and reading them as a run does."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from omni_ray.catalog import Source
from omni_ray.prepare import readers, sources
from omni_ray.prepare.records import Bad, Cut, Member, Raw, RawBatch


def source_of(folder: Path, url: str, modality: str = "image", **more: object) -> Source:
    """A table with the columns `file` and `words`."""
    fields = {"text": "{words}"} if modality == "text" else {"image": "file", "caption": "{words}"}
    return Source.model_validate(
        {
            "name": "s", "modality": modality, "category": "general", "url": (url,), "reader": "table",
            "license": "MIT", "base": folder, "defined_in": "c.toml", "fields": fields, **more,
        }
    )  # fmt: skip


def text_table(format_: str, rows: Sequence[tuple[str, str]]) -> bytes:
    """Rows of the columns `file` and `words`."""
    objects = [{"file": file, "words": words} for file, words in rows]
    if format_ == "jsonl":
        return "".join(json.dumps(one) + "\n" for one in objects).encode()
    if format_ == "json":
        return json.dumps(objects).encode()
    sink = io.StringIO(newline="")
    csv.writer(sink, delimiter="\t" if format_ == "tsv" else ",").writerows([("file", "words"), *rows])
    return sink.getvalue().encode()


def cuts_of(source: Source) -> tuple[list[Cut], list[Member]]:
    (file,) = sources.expand(source)
    if (blind := readers.plan_cuts(source, file)) is not None:
        return list(blind), []
    parts = list(readers.index_file(source, file, b"", None))
    return [cut for part in parts for cut in part.cuts], [member for part in parts for member in part.members]


def batches(source: Source, cut: Cut, cursor: str | None = None, members: Sequence[Member] = ()) -> list[RawBatch]:
    """Batches with their records in lists, so that they can be compared."""
    (file,) = sources.expand(source)
    found = readers.read_cut(source, file, cut, members, b"", cursor)
    return [batch._replace(records=list(batch.records)) for batch in found]


def records(source: Source) -> list[list[Raw | Bad]]:
    """What each block holds."""
    cuts, members = cuts_of(source)
    return [[one for batch in batches(source, cut, None, members) for one in batch.records] for cut in cuts]
