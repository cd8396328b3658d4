"""One task as a worker does it: what a receipt says, segments, retries, and a lease that is lost meanwhile."""

import gzip
import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from omni_ray.catalog import Source
from omni_ray.errors import StorageError
from omni_ray.lease import LEASE_FOLDER
from omni_ray.ledger import Receipt
from omni_ray.prepare import readers, sources, store, work
from omni_ray.prepare.plan import block_id, index_id, make_plan
from omni_ray.prepare.records import Cut, InputFile
from omni_ray.prepare.work import Failed, Report, Task, Work
from omni_ray.storage import LocalStorage

MIB = 1 << 20


class Bench:
    """A source in one file, and an output whose lease is held by epoch 1."""

    def __init__(self, folder: Path, name: str, reader: str, **more: object) -> None:
        fields = {"fields": {"text": "{words}"}} if reader == "table" else {}
        entry: dict[str, Any] = {
            "name": "s", "modality": "text", "category": "general", "url": (name,), "reader": reader,
            "license": "MIT", "base": folder, "defined_in": "c.toml", "block_bytes": 1 << 40, **fields, **more,
        }  # fmt: skip
        self.source = Source.model_validate(entry)
        self.storage = LocalStorage(folder / "out")
        self.storage.put(f"{LEASE_FOLDER}/00000001.json", b"held")
        (self.file,) = sources.expand(self.source)
        self.work = Work(
            out=self.storage.location, modality="text", epoch=1,
            sources={"s": store.AskedSource.of(self.source, self.storage)},
            settings={"s": make_plan(self.source.settings(), []).fingerprint},
        )  # fmt: skip

    def task(self, cut: Cut, kind: Any = "decode", **more: Any) -> Task:
        block = index_id(self.file.path) if kind == "index" else block_id(self.file.path, cut)
        blank = Task(kind, "s", block, self.file, cut, 0, None, 0, None)
        return msgspec.structs.replace(blank, **more)

    def run(self, task: Task) -> list[Receipt | Failed]:
        reports = filter(None, self.work(msgspec.msgpack.encode(task)))
        return [msgspec.msgpack.decode(one, type=Report).what for one in reports]

    def decode(self, cut: Cut, **more: Any) -> list[Receipt]:
        done = self.run(self.task(cut, **more))
        assert not [one for one in done if isinstance(one, Failed)]
        return done  # type: ignore[return-value]

    def only_cut(self) -> Cut:
        (cut,) = readers.plan_cuts(self.source, self.file) or ()
        return cut

    def text(self, receipts: list[Receipt]) -> bytes:
        return b"".join(store.read_output(self.storage, receipt.outputs["txt"]) for receipt in receipts)

    def stored(self) -> list[str]:
        return [stat.key for stat in self.storage.list(".omni_ray/text")]


def lines(count: int, width: int = 60) -> bytes:
    """Every 11th too short, every 13th not UTF-8."""
    made = []
    for number in range(count):
        line = b"no" if number % 11 == 3 else b"line %d " % number + b"words " * (width // 6)
        made.append(b"\xff" + line if number % 13 == 5 else line)
    return b"\n".join([*made, b""])


@pytest.fixture
def of_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A block of several segments."""
    monkeypatch.setattr(work, "SEGMENT_BYTES", MIB)
    monkeypatch.setattr(work.time, "sleep", lambda seconds: None)
    (tmp_path / "s.txt").write_bytes(lines(60_000, 120))
    return Bench(tmp_path, "s.txt", "lines")


def test_a_receipt_accounts_for_what_was_read(tmp_path: Path) -> None:
    data = lines(1000)
    (tmp_path / "s.txt").write_bytes(data)
    bench = Bench(tmp_path, "s.txt", "lines")
    (receipt,) = bench.decode(bench.only_cut())
    bad = len(range(5, 1000, 13))
    short = len([number for number in range(3, 1000, 11) if number % 13 != 5])
    assert receipt.rows_in == 1000
    assert receipt.quarantined == {"undecodable": bad}
    assert receipt.dropped == {"min_chars": short}
    assert receipt.kept == receipt.samples == 1000 - bad - short
    assert receipt.read_bytes == len(data)
    assert receipt.read_sha256 == hashlib.sha256(data).hexdigest()
    assert receipt.cursor is None
    assert (receipt.size, receipt.revision) == (bench.file.size, bench.file.revision)
    assert bench.text([receipt]).count(b"\n") == receipt.samples
    assert len(bench.text([receipt])) == receipt.bytes
    quarantine = store.read_output(bench.storage, receipt.outputs["quarantine.jsonl"]).splitlines()
    assert len(quarantine) == bad


def test_segments_add_up_to_the_block(of_lines: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = of_lines.only_cut()
    segments = of_lines.decode(cut)
    assert len(segments) > 2
    assert [receipt.segment for receipt in segments] == list(range(len(segments)))
    assert [receipt.cursor is None for receipt in segments] == [False] * (len(segments) - 1) + [True]
    text = of_lines.text(segments)
    monkeypatch.setattr(work, "SEGMENT_BYTES", 1 << 40)
    (whole,) = of_lines.decode(cut)
    assert of_lines.text([whole]) == text
    for count in ("rows_in", "kept", "samples", "bytes", "read_bytes"):
        assert sum(getattr(receipt, count) for receipt in segments) == getattr(whole, count), count
    for name in ("dropped", "quarantined"):
        (reason,) = getattr(whole, name)
        assert sum(getattr(receipt, name)[reason] for receipt in segments) == getattr(whole, name)[reason]
    content = (of_lines.source.base / "s.txt").read_bytes()
    assert whole.read_sha256 == hashlib.sha256(content).hexdigest()
    assert segments[-1].read_sha256 != whole.read_sha256, "each has the hash of its own part"


def test_the_end_of_a_block_is_written_while_the_worker_may_go_on(of_lines: Bench) -> None:
    """Its receipt comes when the outputs are there, and not before they are."""
    reports = iter(of_lines.work(msgspec.msgpack.encode(of_lines.task(of_lines.only_cut()))))
    before = list(iter(lambda: next(reports), b""))
    (last,) = [msgspec.msgpack.decode(report, type=Report).what for report in reports]
    assert len(before) >= 2
    assert isinstance(last, Receipt)
    assert last.cursor is None
    assert of_lines.text([last])


def test_a_block_of_tiny_records_has_segments_too(of_lines: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "SEGMENT_BYTES", 1 << 40)
    monkeypatch.setattr(work, "SEGMENT_ROWS", 20_000)
    assert len(of_lines.decode(of_lines.only_cut())) > 2


def test_a_task_goes_on_from_any_receipt(of_lines: Bench) -> None:
    cut = of_lines.only_cut()
    segments = of_lines.decode(cut)
    for before, after in pairwise(segments):
        resumed = of_lines.decode(cut, segment=after.segment, cursor=before.cursor)
        assert [one.outputs for one in resumed] == [one.outputs for one in segments[after.segment :]]


def test_an_error_that_passes_is_tried_again_from_the_last_receipt(
    of_lines: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = of_lines.decode(of_lines.only_cut())
    writer, opened = LocalStorage.writer, []

    def failing(self: LocalStorage, key: str) -> Any:
        opened.append(key)
        if len(opened) in (4, 6):
            raise StorageError("no space left")
        return writer(self, key)

    monkeypatch.setattr(LocalStorage, "writer", failing)
    assert [one.outputs for one in of_lines.decode(of_lines.only_cut())] == [one.outputs for one in expected]
    first = expected[0].outputs["txt"].key
    assert opened.count(first) == 1, "what has a receipt is not done again"


def test_an_error_that_stays_leaves_the_block_undone(of_lines: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def failing(self: LocalStorage, key: str) -> Any:
        tries.append(key)
        raise StorageError("no space left")

    monkeypatch.setattr(LocalStorage, "writer", failing)
    (failed,) = of_lines.run(of_lines.task(of_lines.only_cut()))
    assert isinstance(failed, Failed)
    assert "no space left" in failed.error
    assert len(tries) == work.ATTEMPTS


def test_nothing_becomes_visible_once_the_lease_is_lost(of_lines: Bench) -> None:
    reports = of_lines.work(msgspec.msgpack.encode(of_lines.task(of_lines.only_cut())))
    next(reports)
    held = of_lines.stored()
    of_lines.storage.put(f"{LEASE_FOLDER}/00000002.json", b"taken over")
    (failed,) = [msgspec.msgpack.decode(one, type=Report).what for one in reports]
    assert isinstance(failed, Failed)
    assert "another run took over" in failed.error
    assert of_lines.stored() == held


def test_parts_of_a_long_document_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_text("\n\n".join("A sentence of some length. " * 50 for _ in range(12)))
    bench = Bench(tmp_path, "s.txt", "documents")
    (receipt,) = bench.decode(bench.only_cut())
    assert (receipt.rows_in, receipt.kept) == (1, 1)
    (rows,) = store.read_rows(bench.storage, [receipt])
    assert receipt.samples > 2
    assert rows.column("part").to_pylist() == list(range(receipt.samples))
    assert rows.column("row").to_pylist() == [0] * receipt.samples


def test_blocks_in_the_middle_of_a_gzip_are_read_with_its_own_seek_points(tmp_path: Path) -> None:
    records = [f"record {number} {hashlib.sha256(b'%d' % number).hexdigest() * 3}" for number in range(20_000)]
    data = "".join(json.dumps({"words": words}) + "\n" for words in records).encode()
    (tmp_path / "s.jsonl.gz").write_bytes(gzip.compress(data))
    bench = Bench(tmp_path, "s.jsonl.gz", "table", block_bytes=700_000)
    whole = Cut("whole", 0, bench.file.size)
    index = bench.decode(whole, kind="index")
    cuts = [
        cut
        for receipt in index
        for cut in store.decode_cuts(store.read_output(bench.storage, receipt.outputs["cuts.parquet"]), "cuts")
    ]
    assert len(cuts) > 3
    found = [
        bench.text(bench.decode(cut, index_segments=len(index), seek_points=index[-1].outputs[store.SEEK_POINTS]))
        for cut in cuts
    ]
    assert b"".join(found).decode().splitlines() == records


def test_a_file_that_is_not_as_planned_leaves_the_block_undone(of_lines: Bench) -> None:
    stale = InputFile(of_lines.file.path, of_lines.file.size, "an earlier revision")
    (failed,) = of_lines.run(of_lines.task(of_lines.only_cut(), file=stale))
    assert isinstance(failed, Failed)
    assert "changed since this run planned with it" in failed.error
    assert not of_lines.stored()
