"""Reading one file in every way that a run may read it, and what the ways do not agree on."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omni_ray.catalog import Source
from omni_ray.prepare import readers, sources
from omni_ray.prepare.records import Bad, Cut, InputFile, Member, Raw

WHOLE = 1 << 40  # a block size that leaves every stream in one piece


def source_of(folder: Path, name: str, reader: str, text: str = "{words}", **more: object) -> Source:
    fields = {"fields": {"text": text}} if reader == "table" else {}
    entry: dict[str, Any] = {
        "name": "s", "modality": "text", "category": "general", "url": (name,), "reader": reader, "license": "MIT",
        "base": folder, "defined_in": "c.toml", **fields, **more,
    }  # fmt: skip
    return Source.model_validate(entry)


def index(source: Source, file: InputFile, segment_bytes: int) -> tuple[list[Cut], list[Member], bytes]:
    """Cuts, members and seek points, the pass stopped and resumed after every part."""
    blind = readers.plan_cuts(source, file)
    if blind is not None:
        return list(blind), [], b""
    cuts: list[Cut] = []
    members: list[Member] = []
    points, cursor = b"", None
    while True:
        part = next(readers.index_file(source, file, points, cursor, segment_bytes))
        cuts += part.cuts
        members += part.members
        points, cursor = part.seek_points, part.cursor
        if cursor is None:
            return cuts, members, points


def read(source: Source, segment_bytes: int = WHOLE, step_bytes: int = 1 << 20, resume: bool = False) -> Iterator[
    list[Raw | Bad]
]:  # fmt: skip
    """The records of each cut; with `resume`, reading is broken off after every batch and goes on from its cursor."""
    (file,) = sources.expand(source)
    cuts, members, points = index(source, file, segment_bytes)
    for cut in cuts:
        records: list[Raw | Bad] = []
        cursor = None
        while True:
            for batch in readers.read_cut(source, file, cut, members, points, cursor, step_bytes=step_bytes):
                records += batch.records
                cursor = batch.cursor
                if resume:
                    break
            if cursor is None:
                break
        yield records


def told(record: Raw | Bad) -> list[Any]:
    """A record as the ways of reading are compared by: what is kept, and which is bad for what reason."""
    if isinstance(record, Bad):
        return [record.member, record.row, record.reason]
    value = json.dumps(record.value, sort_keys=True, default=str)
    return [record.member, record.row, hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()]


def compare_readings(
    folder: str, name: str, reader: str, block_bytes: int, step_bytes: int, text: str = "{words}"
) -> dict[str, Any]:
    """Read whole, by cuts, and resumed from every cursor; what differs is the first place where two ways part."""
    whole = source_of(Path(folder), name, reader, text, block_bytes=WHOLE)
    cut = source_of(Path(folder), name, reader, text, block_bytes=block_bytes)
    ways = {
        "whole": list(read(whole)),
        "by cuts": list(read(cut)),
        "in small steps": list(read(cut, step_bytes=step_bytes)),
        "resumed": list(read(cut, segment_bytes=step_bytes, step_bytes=step_bytes, resume=True)),
    }
    flat = {way: [told(record) for records in found for record in records] for way, found in ways.items()}
    expected = flat["whole"]
    differing = [
        f"{way}: {next(([a, b] for a, b in zip(found, expected) if a != b), [len(found), len(expected)])}"  # noqa: B905
        for way, found in flat.items()
        if found != expected
    ]
    reasons: dict[str, int] = {}
    for records in ways["whole"]:
        for record in records:
            if isinstance(record, Bad):
                reasons[record.reason] = reasons.get(record.reason, 0) + 1
    texts = [r.value for records in ways["whole"] for r in records if isinstance(r, Raw)]
    return {"differing": differing, "records": len(expected), "reasons": reasons, "kept": len(texts),
            "cuts": len(ways["by cuts"])}  # fmt: skip
