"""Sounds and pictures of one segment: files under names made of their content, or one tar.

A file's name holds the first half of its sha256, so whoever writes it, and whenever, writes the same bytes: a straggler
of a killed run can harm nothing, and a list that names it stays true until the next list is there.
"""

import hashlib
import re
import tarfile
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from omni_ray.catalog import Source, template_names
from omni_ray.ledger import Output
from omni_ray.prepare import store
from omni_ray.prepare.kinds import Made, Segment
from omni_ray.prepare.records import Bad, Drop, MediaSample, Raw, RawBatch, Unusable
from omni_ray.prepare.transforms import fields

Transform = Callable[[bytes, str], MediaSample | Drop | Unusable]

MEDIA_SCHEMA = pa.schema(
    [
        ("member", pa.dictionary(pa.int32(), pa.string())),
        ("row", pa.int64()),
        ("bytes", pa.uint32()),
        ("sha256", pa.binary(32)),
        ("path", pa.string()),  # key of the file, or of the tar with `#` and the member's name
        ("offset", pa.int64()),  # of the content in the tar
        ("text", pa.string()),
        ("group", pa.string()),  # null where the source names no column for it
        ("category", pa.string()),  # null where it is the source's
        ("seconds", pa.float64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)
OURS = re.compile(
    r"[0-9a-f-]+[a-z_]+-[0-9a-f]+\.[0-9a-f]{8}/[0-9a-f]{32}\.[a-z0-9]+"
    r"|[0-9a-f-]+[a-z_]+-[0-9a-f]+\.\d{4}\.[0-9a-f]{8}\.[0-9a-f]{16}\.tar"
)


class MediaSegment(Segment):
    """Files and the table that tells of them. `text` renders transcript or caption, `folder` is below the output."""

    def __init__(self, source: Source, transform: Transform, folder: str) -> None:
        super().__init__()
        self._source = source
        self._transform = transform
        self._root = f"{folder}/{source.name}"
        self._text = fields.renderer(source.text_template())
        self._lone = source.text_template() in [f"{{{name}}}" for name in template_names(source.text_template())]
        category = source.fields.get("category")
        self._category = fields.renderer(category) if category else None
        group = source.group_column()
        self._group = fields.renderer(f"{{{group}}}") if group else None
        self._samples: list[MediaSample] = []
        self._columns: dict[str, list[Any]] = {name: [] for name in ("member", "row", "sha256", "group", "category")}

    def add(self, batch: RawBatch) -> None:
        self.read_bytes += batch.read_bytes
        self.rows_in += len(batch.records)
        for record in batch.records:
            if isinstance(record, Bad):
                self.bad.append(record)
            else:
                self._add(record)

    def _add(self, raw: Raw) -> None:
        try:
            text = self._text_of(raw)
            group = self._group(raw.value) if self._group else None
            category = fields.clean(self._category(raw.value)) if self._category else None
        except KeyError as error:
            self._refuse(raw, fields.missing(error))
            return
        except UnicodeEncodeError as error:
            self._refuse(raw, fields.undecodable(error))
            return
        result = self._transform(raw.data, text)
        if isinstance(result, Drop):
            self.dropped[result.rule] += 1
        elif isinstance(result, Unusable):
            self._refuse(raw, result)
        else:
            self.kept += 1
            self.held_bytes += len(result.data) + len(result.text)
            self._samples.append(result)
            values = (raw.member, raw.row, hashlib.sha256(result.data).digest(), group, category)
            for column, value in zip(self._columns.values(), values, strict=True):
                column.append(value)

    def _text_of(self, raw: Raw) -> str:
        """A text that is nothing but a column that is null is empty, and the rules say what becomes of it."""
        try:
            return self._text(raw.value)
        except KeyError:
            if not self._lone:
                raise
            return ""

    def _refuse(self, raw: Raw, why: Unusable) -> None:
        self.bad.append(Bad(raw.member, raw.row, why.reason, why.error))

    def made(self, block: str, segment: int, tag: str) -> Made:
        if self._source.media.layout == "tar" and self._samples:
            paths, offsets, content = _tar(self._samples, f"{block}-{segment:04d}")
            digest = hashlib.sha256(content).hexdigest()
            key = f"{self._root}/{block}.{segment:04d}.{tag}.{digest[:16]}.tar"
            media = {key: content}
            named = {"tar": Output(key, len(content), digest)}
            paths = [f"{key}#{name}" for name in paths]
        else:
            digests = [digest.hex()[:32] for digest in self._columns["sha256"]]
            found = zip(digests, self._samples, strict=True)
            paths = [f"{self._root}/{block}.{tag}/{digest}{sample.suffix}" for digest, sample in found]
            offsets, named = [0] * len(paths), {}
            media = {path: sample.data for path, sample in zip(paths, self._samples, strict=True)}
        rows = store.encode_parquet(self._table(paths, offsets))
        size = sum(len(sample.data) for sample in self._samples)
        return Made({"rows.parquet": rows}, len(self._samples), size, media, named)

    def _table(self, paths: list[str], offsets: list[int]) -> pa.Table:
        columns: dict[str, Any] = {
            **self._columns,
            "member": pa.array(self._columns["member"], pa.string()).dictionary_encode(),
            "bytes": [len(sample.data) for sample in self._samples],
            "path": paths,
            "offset": offsets,
            "text": [sample.text for sample in self._samples],
            "seconds": [sample.seconds for sample in self._samples],
            "width": [sample.width for sample in self._samples],
            "height": [sample.height for sample in self._samples],
        }
        return pa.table({name: columns[name] for name in MEDIA_SCHEMA.names}, schema=MEDIA_SCHEMA)


def _tar(samples: list[MediaSample], stem: str) -> tuple[list[str], list[int], bytes]:
    """A tar as webdataset names its members, each sample's file with its text behind it: names, offsets, the tar."""
    names, offsets = [], []
    pieces: list[bytes] = []
    size = 0
    for number, sample in enumerate(samples):
        key = f"{stem}-{number:06d}"
        names.append(key + sample.suffix)
        offsets.append(size + tarfile.BLOCKSIZE)
        for name, data in ((key + sample.suffix, sample.data), (f"{key}.txt", sample.text.encode())):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            pieces += [member.tobuf(tarfile.USTAR_FORMAT), data, bytes(-len(data) % tarfile.BLOCKSIZE)]
            size += sum(map(len, pieces[-3:]))
    end = 2 * tarfile.BLOCKSIZE
    return names, offsets, b"".join([*pieces, bytes(end + -(size + end) % tarfile.RECORDSIZE)])
