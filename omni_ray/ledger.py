"""The commit protocol: receipts as cursors in one append-only ledger per source.

A ledger is a folder of logs `<epoch>.jsonl` (a file; on S3 a few objects, see `storage.s3_log`), one for each run that
committed something, written by that run alone. A line is eight hex digits of CRC-32, a space, a JSON record. The first
record of a log says how many bytes of each earlier log count (`sealed`): what a run that lost its lease appends later
lies beyond, and is never read. A last line that is torn does not count; a damaged line with others after it is an
error.

What has a receipt is never done again; what has none leaves no trace in any output.
"""

import zlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from omni_ray.errors import LedgerCorrupt
from omni_ray.storage import Appender, Log, Storage

_SUFFIX = ".jsonl"
_REMEDY = (
    "restore it from a copy, or prepare the dataset anew: python -m omni_ray.prepare ... --reset --dataset NAME, where "
    "NAME is the folder that holds `ledger`"
)


class Output(msgspec.Struct, frozen=True, omit_defaults=True):
    """A committed output: its size in bytes, its sha256 in hex, and where it lies: from byte `offset` of `key` on."""

    key: str
    size: int
    sha256: str
    offset: int = 0


class Receipt(msgspec.Struct, frozen=True, tag="receipt", omit_defaults=True):
    """One committed segment of one block. `cursor` is where the block goes on; None when the block is done.

    `rows_in == kept + sum(dropped.values()) + sum(quarantined.values())`, always. `kept` counts records, `samples`
    what they became (lines), `bytes` the size of those samples.
    """

    block: str
    segment: int
    cursor: str | None
    settings: str  # fingerprint of what can change the bytes of this block
    path: str
    size: int
    revision: str
    unit: str
    start: int
    stop: int
    member: str
    read_bytes: int
    read_sha256: str
    outputs: dict[str, Output]
    rows_in: int = 0
    kept: int = 0
    samples: int = 0
    bytes: int = 0
    dropped: dict[str, int] = {}
    quarantined: dict[str, int] = {}


class Revoke(msgspec.Struct, frozen=True, tag="revoke"):
    """The receipts of these blocks so far no longer count."""

    blocks: list[str]
    why: str


class _Opened(msgspec.Struct, frozen=True, tag="run"):
    run: str
    epoch: int
    sealed: dict[str, int]


_decoder = msgspec.json.Decoder(_Opened | Receipt | Revoke)
_encoder = msgspec.json.Encoder()


class LedgerState(NamedTuple):
    """What a ledger says: the receipts of each block in the order of their segments."""

    receipts: dict[str, list[Receipt]]
    sealed: dict[str, int]  # valid bytes of each log
    revoked: dict[str, str]  # why each block was revoked last, if it ever was

    def done(self, block: str) -> bool:
        receipts = self.receipts.get(block)
        return receipts is not None and receipts[-1].cursor is None


class Ledger:
    """The ledger of one source, as read at the start of a run (`state`, if it was read since) and appended to by it."""

    def __init__(self, storage: Storage, folder: str, run: str, epoch: int, state: LedgerState | None = None) -> None:
        self._storage = storage
        self._folder = folder
        self._opened = _Opened(run, epoch, {})
        self._appender: Appender | None = None
        self.state = read_ledger(storage, folder) if state is None else state

    def append(self, receipt: Receipt) -> bool:
        """Note a receipt; durable after `sync`. False, and nothing noted, for one that is there already."""
        if not _apply(self.state.receipts, receipt):
            return False
        self._write(receipt)
        return True

    def revoke(self, blocks: Iterable[str], why: str) -> None:
        record = Revoke(sorted(blocks), why)
        if record.blocks:
            _forget(self.state.receipts, self.state.revoked, record)
            self._write(record)

    def sync(self) -> None:
        if self._appender is not None:
            self._appender.sync()

    def close(self) -> None:
        """Keep what was noted, unless the storage refuses it by now."""
        if self._appender is not None:
            try:
                self._appender.sync()
            finally:
                self._appender.close()
                self._appender = None

    def _write(self, record: Receipt | Revoke) -> None:
        if self._appender is None:
            key = f"{self._folder}/{self._opened.epoch:08d}{_SUFFIX}"
            self._appender = self._storage.appender(key)
            self._appender.write(_line(msgspec.structs.replace(self._opened, sealed=self.state.sealed)))
        self._appender.write(_line(record))


def read_ledger(storage: Storage, folder: str) -> LedgerState:
    """Read what counts of the ledger in `folder`; empty where there is none.

    Raises:
        LedgerCorrupt: a record other than a torn last one does not match its checksum.
    """
    opened: _Opened | None = None
    receipts: dict[str, list[Receipt]] = {}
    revoked: dict[str, str] = {}
    lengths: dict[str, int] = {}
    logs: dict[str, list[_Opened | Receipt | Revoke]] = {}
    for log in reversed(storage.logs(folder)):  # the newest log says what counts of the others
        name = log.key.rpartition("/")[2]
        if not name.endswith(_SUFFIX) or (opened is not None and name not in opened.sealed):
            continue
        records, length = _read_log(storage, log, None if opened is None else opened.sealed[name])
        if opened is None and records and isinstance(records[0], _Opened):
            opened = records[0]
        logs[name], lengths[name] = records, length
    for name in sorted(logs):
        for record in logs[name]:
            if isinstance(record, Receipt):
                _apply(receipts, record)
            elif isinstance(record, Revoke):
                _forget(receipts, revoked, record)
    return LedgerState(receipts, lengths, revoked)


def receipts_of_epoch(storage: Storage, folder: str, epoch: int) -> list[Receipt]:
    """What one run has committed so far."""
    key = f"{folder}/{epoch:08d}{_SUFFIX}"
    logs = [log for log in storage.logs(folder) if log.key == key]
    return [record for log in logs for record in _read_log(storage, log, None)[0] if isinstance(record, Receipt)]


def _read_log(storage: Storage, log: Log, sealed: int | None) -> tuple[list[_Opened | Receipt | Revoke], int]:
    data = storage.read_log(log, sealed)
    records: list[_Opened | Receipt | Revoke] = []
    at = 0
    while at < len(data):
        end = data.find(b"\n", at)
        line = data[at:end] if end >= 0 else b""
        if end < 0 or line[:8] != b"%08x" % zlib.crc32(line[9:]):
            if sealed is not None or (end >= 0 and end + 1 < len(data)):
                raise LedgerCorrupt(
                    f"{storage.uri}/{log.key}: the record at byte {at} does not match its checksum; {_REMEDY}"
                )
            break
        records.append(_decoder.decode(line[9:]))
        at = end + 1
    if sealed is not None and at < sealed:
        raise LedgerCorrupt(
            f"{storage.uri}/{log.key}: ends at byte {at}, and a later run found {sealed} bytes; {_REMEDY}"
        )
    return records, at


def _apply(receipts: dict[str, list[Receipt]], receipt: Receipt) -> bool:
    """Add a receipt if it is the next one of its block; a task that ran twice reports the same segments again."""
    known = receipts.get(receipt.block)
    if known is None:
        if receipt.segment != 0:
            return False
        receipts[receipt.block] = [receipt]
        return True
    if receipt.segment != len(known) or known[-1].cursor is None:
        return False
    known.append(receipt)
    return True


def _forget(receipts: dict[str, list[Receipt]], revoked: dict[str, str], record: Revoke) -> None:
    for block in record.blocks:
        receipts.pop(block, None)
        revoked[block] = record.why


def _line(record: _Opened | Receipt | Revoke) -> bytes:
    body = _encoder.encode(record)
    return b"%08x %b\n" % (zlib.crc32(body), body)
