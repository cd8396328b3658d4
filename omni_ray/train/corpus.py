"""A text corpus as training reads it: cut into blocks, each line with the group that decides on its side of the split.

With the index that preparation writes beside a corpus a block is one of its row groups and a line's group is its
document's; without one, or with one that does not fit the file any more, a block is a byte range and each line is a
group of its own.
"""

import hashlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import msgspec
import pyarrow.parquet as pq

from omni_ray.errors import DataError
from omni_ray.storage import Storage, open_storage

BLOCK_BYTES = 8 << 20
CHUNK_BYTES = 1 << 20
SAMPLE_BYTES = 64 << 20  # what a tokenizer is trained on


class Corpus(msgspec.Struct, frozen=True):
    """A corpus file. `fingerprint` changes when its content does."""

    root: str
    key: str
    size: int
    fingerprint: str
    row_groups: int  # of the index; 0 where there is none that fits


class Block(msgspec.Struct, frozen=True):
    """A row group of the index, or the lines that begin in bytes [start, stop)."""

    number: int
    row_group: int | None
    start: int
    stop: int


class Line(NamedTuple):
    text: bytes
    group: bytes


class _IndexFacts(msgspec.Struct):
    bytes: int
    selection: str


def find(path: str) -> Corpus:
    """The corpus at `path`.

    Raises:
        DataError: where there is none, or it is empty.
    """
    root, _, key = path.rpartition("/")
    storage = open_storage(root or ".")
    stat = storage.stat(key)
    if stat is None or not stat.size:
        state = "does not exist" if stat is None else "is empty"
        raise DataError(f"{path}: {state}; prepare it with `python -m omni_ray.prepare text`, or name another file")
    index = storage.stat(_index_key(key))
    if index is not None and index.mtime_ns >= stat.mtime_ns:
        metadata = pq.read_metadata(storage.open(_index_key(key)))
        facts = (metadata.metadata or {}).get(b"omni_ray")
        if facts is not None:
            known = msgspec.json.decode(facts, type=_IndexFacts)
            if known.bytes == stat.size:
                return Corpus(storage.location, key, stat.size, known.selection, metadata.num_row_groups)
    return Corpus(storage.location, key, stat.size, _content_hash(storage, key), 0)


def blocks(corpus: Corpus) -> list[Block]:
    if not corpus.row_groups:
        cuts = range(0, corpus.size, BLOCK_BYTES)
        return [Block(number, None, at, min(at + BLOCK_BYTES, corpus.size)) for number, at in enumerate(cuts)]
    with pq.ParquetFile(open_storage(corpus.root).open(_index_key(corpus.key))) as file:
        firsts = (
            file.read_row_group(group, columns=["offset"], use_threads=False) for group in range(corpus.row_groups)
        )
        starts = [first.column("offset")[0].as_py() for first in firsts]
    ends = [*starts[1:], corpus.size]
    return [Block(number, number, start, end) for number, (start, end) in enumerate(zip(starts, ends, strict=True))]


def lines(corpus: Corpus, block: Block) -> Iterator[Line]:
    """The lines of a block that hold something, without their line ends."""
    storage = open_storage(corpus.root)
    if block.row_group is None:
        for text in _lines_between(storage.open(corpus.key), block.start, block.stop):
            yield Line(text, text)
        return
    data = storage.read(corpus.key, block.start, block.stop - block.start)
    with pq.ParquetFile(storage.open(_index_key(corpus.key))) as file:
        table = file.read_row_group(block.row_group, columns=["group", "offset", "bytes"], use_threads=False)
    groups, offsets, sizes = (table.column(name).to_pylist() for name in ("group", "offset", "bytes"))
    for group, offset, size in zip(groups, offsets, sizes, strict=True):
        start = offset - block.start
        text = data[start : start + size]
        if not text.endswith(b"\n") or text.count(b"\n") != 1:
            raise DataError(
                f"{corpus.root}/{corpus.key}: bytes {offset} to {offset + size} are not one line, as its index says; "
                "run the prepare command again"
            )
        yield Line(text[:-1], group.encode())


def sample(corpus: Corpus) -> Iterator[str]:
    """Lines from all over the corpus, SAMPLE_BYTES of them; all lines of a small one."""
    storage = open_storage(corpus.root)
    count = min(-(-corpus.size // CHUNK_BYTES), SAMPLE_BYTES // CHUNK_BYTES)
    for number in range(count):
        start = corpus.size * number // count
        stop = min(start + CHUNK_BYTES, corpus.size * (number + 1) // count)
        for text in _lines_between(storage.open(corpus.key), start, stop):
            yield decode(text, corpus)


def decode(line: bytes, corpus: Corpus) -> str:
    """
    Raises:
        DataError: for what is not UTF-8.
    """
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{corpus.root}/{corpus.key}: a line is not UTF-8 ({error.reason}): {line[:60]!r}; "
            "prepare the text with the source's `encoding` set"
        ) from error


def held_out(group: bytes, share: float) -> bool:
    """Whether a group is for validation. Depends on nothing but the group, so that every run holds out the same."""
    return int.from_bytes(hashlib.sha256(group).digest()[:8]) < share * 2**64


def _lines_between(stream: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    """The lines that begin in [start, stop), wherever they end."""
    with stream:
        stream.seek(max(0, start - 1))
        if start:
            stream.readline()  # ends at `start` at the earliest: a line that began before it is another block's
        while stream.tell() < stop:
            line = stream.readline()
            if not line:
                return
            text = line.removesuffix(b"\n").removesuffix(b"\r")
            if text:
                yield text


def _content_hash(storage: Storage, key: str) -> str:
    digest = hashlib.sha256()
    with storage.open(key) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _index_key(key: str) -> str:
    return f"{key.rpartition('.')[0]}.index.parquet"
