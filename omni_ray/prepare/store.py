"""Where preparation keeps what under `<out>/.omni_ray/<modality>/`, and how block outputs are written and read.

    request.json                         what was asked for in this output, ever
    combined.json                        what the production files were made from
    <source>/plan.json                   settings and pinned files
    <source>/ledger/<epoch>.jsonl        receipts (see `ledger`)
    <source>/samples/*                   sizes and hashes of committed samples (see `samples`)
    <source>/index/<file>.<tag>.<seg>.*  index passes: cuts, members, gzip seek points
    <source>/blocks/<block>.<segment>.<tag>.{txt,rows.parquet,quarantine.jsonl}

Where a request has its price (S3) the outputs of a segment are the members of one object `....zip`, stored as they are,
so that a receipt can say where in it each begins; gzip seek points, which go when newer ones come, stay apart.

`tag` is made of the settings and the file's revision, so that a straggler of a run with other settings can never
overwrite what this one committed.
"""

import hashlib
import io
import itertools
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from omni_ray.catalog import Modality, Source
from omni_ray.errors import DataError, NotStored, StorageError
from omni_ray.ledger import Output, Receipt
from omni_ray.prepare.records import Bad, Cut, Member, storable
from omni_ray.storage import Slice, Storage

T = TypeVar("T", bound=msgspec.Struct)

WORK = ".omni_ray"
PACK = "zip"
SEEK_POINTS = "gzidx"
GROUP_MEMBERS = 1 << 13  # of a table of members that are unpacked together
ROWS_SCHEMA = pa.schema(
    [
        ("member", pa.dictionary(pa.int32(), pa.string())),
        ("row", pa.int64()),
        ("part", pa.int32()),
        ("bytes", pa.uint32()),
        ("sha256", pa.binary(32)),
    ]
)


class AskedSource(msgspec.Struct, frozen=True):
    """A source as it was when a run last asked for it; enough to read it again without its catalog.

    `base` is relative to the output where it lies below it, so that an output can be moved with what is inside.
    """

    entry: dict[str, Any]
    base: str
    defined_in: str

    @classmethod
    def of(cls, source: Source, storage: Storage) -> "AskedSource":
        base, out = source.base.absolute(), Path(storage.location)
        inside = base.relative_to(out) if base.is_relative_to(out) else base
        return cls(source.model_dump(mode="json"), str(inside), source.defined_in)

    def source(self, storage: Storage) -> Source:
        entry = {**self.entry, "url": tuple(self.entry["url"])}
        base = Path(storage.location) / self.base
        return Source.model_validate({**entry, "base": base, "defined_in": self.defined_in})


class Request(msgspec.Struct, frozen=True):
    """What was asked for in one modality of an output: the newest budget, and every source ever asked for."""

    max_bytes: int
    min_bytes: int
    dedup: str
    license: str | None
    sources: list[AskedSource]  # in canonical order
    category_weights: dict[str, float] = {}


class SourceFolder:
    """Keys of one source."""

    def __init__(self, modality: Modality, name: str) -> None:
        self.root = f"{WORK}/{modality}/{name}"
        self.plan = f"{self.root}/plan.json"
        self.ledger = f"{self.root}/ledger"
        self.samples = f"{self.root}/samples"

    def index(self, file_id: str, tag: str, segment: int) -> str:
        """What the names of an index segment's outputs begin with."""
        return f"{self.root}/index/{file_id}.{tag}.{segment:04d}"

    def block(self, block: str, segment: int, tag: str) -> str:
        """What the names of a block segment's outputs begin with."""
        return f"{self.root}/blocks/{block}.{segment:04d}.{tag}"


def request_key(modality: Modality) -> str:
    return f"{WORK}/{modality}/request.json"


def combined_key(modality: Modality) -> str:
    return f"{WORK}/{modality}/combined.json"


def read_struct(storage: Storage, key: str, kind: type[T]) -> T | None:
    """A JSON file as a struct; None where it is not there.

    Raises:
        DataError: naming a file that is damaged.
    """
    try:
        return msgspec.json.decode(storage.read(key), type=kind)
    except NotStored:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{storage.uri}/{key}: damaged: {error}; restore it from a copy, or delete it and run prepare again with "
            "every dataset that this output is for"
        ) from error


def write_struct(storage: Storage, key: str, value: msgspec.Struct) -> None:
    storage.put(key, msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")


def output_of(key: str, data: bytes) -> Output:
    return Output(key, len(data), hashlib.sha256(data).hexdigest())


def arrange(storage: Storage, stem: str, data: Mapping[str, bytes]) -> tuple[dict[str, bytes], dict[str, Output]]:
    """The objects to write for a segment's outputs, by key, and the outputs for its receipt, both by kind."""
    objects = {f"{stem}.{kind}": content for kind, content in data.items()}
    outputs = {kind: output_of(f"{stem}.{kind}", content) for kind, content in data.items()}
    together = {kind: content for kind, content in data.items() if kind != SEEK_POINTS}
    if storage.packs and together:
        packed, offsets = pack(together)
        for kind in together:
            del objects[f"{stem}.{kind}"]
            outputs[kind] = msgspec.structs.replace(outputs[kind], key=f"{stem}.{PACK}", offset=offsets[kind])
        objects[f"{stem}.{PACK}"] = packed
    return objects, outputs


def pack(members: Mapping[str, bytes]) -> tuple[bytes, dict[str, int]]:
    """A zip of members that are stored as they are, the same for the same members, and where each begins."""
    sink = io.BytesIO()
    offsets = {}
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
            offsets[name] = sink.tell() - len(content)
    return sink.getvalue(), offsets


def read_output(storage: Storage, output: Output) -> bytes:
    """The bytes of an output.

    Raises:
        StorageError: where less is there than was committed.
    """
    return _whole(storage, output, storage.read(output.key, output.offset, output.size))


def _whole(storage: Storage, output: Output, data: bytes) -> bytes:
    if len(data) != output.size:
        raise StorageError(f"{storage.uri}/{output.key}: ends early; `omni-ray verify` lists what is damaged")
    return data


def read_outputs(storage: Storage, outputs: Mapping[str, Output]) -> dict[str, bytes]:
    """Several outputs of one segment, with one read of each file that they lie in.

    Raises:
        NotStored: for one that is not there.
    """
    data: dict[str, bytes] = {}
    for key in sorted({output.key for output in outputs.values()}):
        here = {kind: output for kind, output in outputs.items() if output.key == key}
        start = min(output.offset for output in here.values())
        stop = max(output.offset + output.size for output in here.values())
        content = memoryview(storage.read(key, start, stop - start))
        data |= {kind: bytes(content[o.offset - start : o.offset - start + o.size]) for kind, o in here.items()}
    return data


def read_named(storage: Storage, stem: str, kind: str) -> bytes:
    """An output by the name of its segment, where no receipt is at hand to say where it lies."""
    if not storage.packs:
        return storage.read(f"{stem}.{kind}")
    with zipfile.ZipFile(io.BytesIO(storage.read(f"{stem}.{PACK}"))) as archive:
        return archive.read(kind)


def encode_rows(
    members: Sequence[str], rows: Sequence[int], parts: Sequence[int], sizes: Sequence[int], digests: Sequence[bytes]
) -> bytes:
    """The table beside a block's text: one row a sample, in canonical order. `sizes` count the newline."""
    columns = [
        pa.array(members, pa.string()).dictionary_encode(),
        pa.array(rows, pa.int64()),
        pa.array(parts, pa.int32()),
        pa.array(sizes, pa.uint32()),
        pa.array(digests, pa.binary(32)),
    ]
    return encode_parquet(pa.table(columns, schema=ROWS_SCHEMA))


def encode_parquet(table: pa.Table, group_rows: int | None = None) -> bytes:
    sink = io.BytesIO()
    dictionaries = ["member"] if "member" in table.column_names else []
    pq.write_table(table, sink, compression="zstd", use_dictionary=dictionaries, row_group_size=group_rows)
    return sink.getvalue()


def read_rows(storage: Storage, receipts: Iterable[Receipt], columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The table of each segment's samples, in order; the next ones are on their way meanwhile.

    Raises:
        DataError: naming a table that is damaged.
    """
    wanted, ahead = itertools.tee(receipt.outputs["rows.parquet"] for receipt in receipts)
    contents = storage.read_ahead(Slice(output.key, output.offset, output.size) for output in ahead)
    for output, data in zip(wanted, contents, strict=True):
        yield _read_parquet(_whole(storage, output, data), f"{storage.uri}/{output.key}", columns)


def _read_parquet(data: bytes, where: str, columns: list[str] | None = None) -> pa.Table:
    with _naming(where):
        return read_table(data, columns)


def read_table(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """A Parquet table, or these of its columns.

    Without Arrow's threads: one of them that still holds `data` when Python ends takes the whole process with it
    (SIGABRT in the place of the exit code; `pyarrow.parquet.read_table` did so in one of twenty processes).
    """
    table = pq.ParquetFile(pa.BufferReader(data)).read(columns, use_threads=False)
    return table if columns is None else table.select(columns)


@contextmanager
def _naming(where: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, KeyError, OSError) as error:
        raise DataError(
            f"{where}: damaged: {error}; `omni-ray verify` lists what else is, and prepare with --reset --dataset NAME "
            "makes that dataset anew"
        ) from error


def sizes_and_hashes(table: pa.Table) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint64]]:
    """Sizes [n] and 128-bit content hashes [n, 2] of a rows table."""
    sizes = table.column("bytes").combine_chunks().to_numpy(zero_copy_only=False).astype(np.uint32)
    digests = table.column("sha256").combine_chunks()
    raw = np.frombuffer(digests.buffers()[1] or b"", np.uint8, len(digests) * 32, digests.offset * 32)
    return sizes, raw.reshape(-1, 4, 8)[:, :2].copy().view(np.uint64).reshape(-1, 2)


def encode_quarantine(bad: Iterable[Bad], path: str) -> bytes:
    lines = [
        msgspec.json.encode(
            {"file": path, "member": storable(b.member), "row": b.row, "reason": b.reason, "error": storable(b.error)}
        )
        for b in bad
    ]
    return b"\n".join(lines) + b"\n"


def encode_cuts(cuts: Sequence[Cut]) -> bytes:
    columns = {name: [getattr(cut, name) for cut in cuts] for name in _CUTS.names}
    return encode_parquet(pa.table(columns, schema=_CUTS))


def decode_cuts(data: bytes, where: str) -> list[Cut]:
    """Raises DataError, naming the file `where`, for one that is damaged."""
    return [Cut(**row) for row in _read_parquet(data, where, _CUTS.names).to_pylist()]


def encode_members(members: Sequence[Member]) -> bytes:
    """The column of revisions is there where one has some."""
    names = [name for name in _MEMBERS.names if name != "revision" or any(member.revision for member in members)]
    columns = {name: [getattr(member, name) for member in members] for name in names}
    return encode_parquet(pa.table(columns, schema=pa.schema([_MEMBERS.field(name) for name in names])), GROUP_MEMBERS)


def member_groups(data: bytes, where: str) -> list[tuple[int, Callable[[], list[Member]]]]:
    """Encoded members in groups: how many, and what unpacks them.

    Raises:
        DataError: naming the file `where`, for one that is damaged, here or while it is unpacked.
    """
    with _naming(where):
        file = pq.ParquetFile(pa.BufferReader(data))

    def unpacked(group: int) -> list[Member]:
        with _naming(where):
            return [Member(**row) for row in file.read_row_group(group, use_threads=False).to_pylist()]

    counts = (file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups))
    return [(count, partial(unpacked, group)) for group, count in enumerate(counts) if count]


_CUTS = pa.schema(
    [
        ("unit", pa.string()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
        ("member", pa.string()),
        ("weight", pa.int64()),
        ("first_row", pa.int64()),
    ]
)
_MEMBERS = pa.schema(
    [
        ("name", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("refused", pa.string()),
        ("revision", pa.string()),
    ]
)
