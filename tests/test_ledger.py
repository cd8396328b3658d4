import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_ray.errors import LedgerCorrupt
from omni_ray.ledger import Ledger, Receipt, read_ledger
from omni_ray.storage import LocalStorage

FOLDER = "src/ledger"


def receipt(block: str, segment: int = 0, cursor: str | None = None) -> Receipt:
    return Receipt(
        block=block, segment=segment, cursor=cursor, settings="s", path="f", size=1, revision="1", unit="bytes",
        start=0, stop=1, member="", read_bytes=1, read_sha256="", outputs={}, rows_in=1, kept=1,
    )  # fmt: skip


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def write(storage: LocalStorage, epoch: int, receipts: list[Receipt]) -> Ledger:
    ledger = Ledger(storage, FOLDER, f"run{epoch}", epoch)
    for one in receipts:
        ledger.append(one)
    ledger.sync()
    return ledger


def test_receipts_of_several_runs_are_read_in_order(storage: LocalStorage) -> None:
    write(storage, 1, [receipt("a"), receipt("b", 0, "7")]).close()
    write(storage, 2, [receipt("b", 1), receipt("c")]).close()
    state = read_ledger(storage, FOLDER)
    assert {block: len(found) for block, found in state.receipts.items()} == {"a": 1, "b": 2, "c": 1}
    assert all(state.done(block) for block in "abc")
    assert not state.done("d")


def test_a_block_without_its_last_segment_is_not_done(storage: LocalStorage) -> None:
    write(storage, 1, [receipt("b", 0, "7")]).close()
    assert not read_ledger(storage, FOLDER).done("b")


def test_a_repeated_report_is_noted_once(storage: LocalStorage) -> None:
    ledger = write(storage, 1, [])
    assert ledger.append(receipt("a", 0, "5"))
    assert not ledger.append(receipt("a", 0, "5"))
    assert ledger.append(receipt("a", 1))
    assert not ledger.append(receipt("a", 1))
    assert not ledger.append(receipt("a", 2))
    ledger.close()
    assert len(read_ledger(storage, FOLDER).receipts["a"]) == 2


@given(cut=st.integers(0, 10_000))
def test_any_torn_end_reads_as_a_prefix(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    storage = LocalStorage(tmp_path_factory.mktemp("ledger"))
    blocks = [f"block{number}" for number in range(12)]
    write(storage, 1, [receipt(block) for block in blocks]).close()
    key = f"{FOLDER}/00000001.jsonl"
    data = storage.read(key)
    cut = min(cut, len(data))
    (storage.root / key).write_bytes(data[:cut])
    state = read_ledger(storage, FOLDER)
    whole = max(data[:cut].count(b"\n") - 1, 0)
    assert list(state.receipts) == blocks[:whole]
    if cut:  # and a later run goes on behind the whole records
        write(storage, 2, [receipt("later")]).close()
        assert list(read_ledger(storage, FOLDER).receipts) == [*blocks[:whole], "later"]


def test_a_damaged_record_with_others_behind_it_is_an_error(storage: LocalStorage) -> None:
    write(storage, 1, [receipt("a"), receipt("b")]).close()
    path = storage.root / FOLDER / "00000001.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"block":"a"', b'"block":"x"'))
    with pytest.raises(LedgerCorrupt, match="record at byte"):
        read_ledger(storage, FOLDER)


def test_damage_in_what_a_later_run_sealed_is_an_error(storage: LocalStorage) -> None:
    write(storage, 1, [receipt("a"), receipt("b")]).close()
    write(storage, 2, [receipt("c")]).close()
    path = storage.root / FOLDER / "00000001.jsonl"
    whole = path.read_bytes()
    for damaged in (whole[:-5], whole.replace(b'"block":"b"', b'"block":"x"')):  # at its end: torn, were it not sealed
        path.write_bytes(damaged)
        with pytest.raises(LedgerCorrupt, match=r"record at byte .*--reset --dataset NAME"):
            read_ledger(storage, FOLDER)
    path.write_bytes(whole[: whole[:-1].rfind(b"\n") + 1])  # whole records, of which one is lacking
    with pytest.raises(LedgerCorrupt, match="and a later run found"):
        read_ledger(storage, FOLDER)


def test_a_block_begins_with_its_first_segment(storage: LocalStorage) -> None:
    ledger = write(storage, 1, [])
    assert not ledger.append(receipt("a", 1))
    assert ledger.append(receipt("a", 0, "5"))
    ledger.close()
    assert [one.segment for one in read_ledger(storage, FOLDER).receipts["a"]] == [0]


def test_closing_makes_durable_what_was_noted(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = write(storage, 1, [receipt("a")])
    synced: list[int] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    ledger.append(receipt("b"))
    ledger.close()
    assert synced[-1:] == [(storage.root / FOLDER / "00000001.jsonl").stat().st_size]


def test_a_ledger_remembers_why_a_block_was_revoked(storage: LocalStorage) -> None:
    ledger = write(storage, 1, [receipt("a"), receipt("b")])
    ledger.revoke(["a"], "retry of undecodable")
    assert ledger.state.revoked == {"a": "retry of undecodable"}
    ledger.close()
    assert read_ledger(storage, FOLDER).revoked == {"a": "retry of undecodable"}


def test_what_a_run_appends_after_the_take_over_does_not_count(storage: LocalStorage) -> None:
    stopped = write(storage, 1, [receipt("a")])
    taker = write(storage, 2, [receipt("b")])
    stopped.append(receipt("zombie"))
    stopped.sync()
    taker.append(receipt("c"))
    taker.close()
    assert list(read_ledger(storage, FOLDER).receipts) == ["a", "b", "c"]
    write(storage, 3, [receipt("d")]).close()
    stopped.append(receipt("zombie2"))
    stopped.close()
    assert list(read_ledger(storage, FOLDER).receipts) == ["a", "b", "c", "d"]


def test_a_late_first_append_of_a_fenced_run_does_not_count(storage: LocalStorage) -> None:
    stopped = Ledger(storage, FOLDER, "run1", 1)
    write(storage, 2, [receipt("b")]).close()
    stopped.append(receipt("zombie"))
    stopped.close()
    assert list(read_ledger(storage, FOLDER).receipts) == ["b"]


def test_revoked_blocks_are_undone_until_committed_again(storage: LocalStorage) -> None:
    ledger = write(storage, 1, [receipt("a"), receipt("b")])
    ledger.revoke(["a"], "file changed")
    ledger.close()
    assert list(read_ledger(storage, FOLDER).receipts) == ["b"]
    write(storage, 2, [receipt("a")]).close()
    assert sorted(read_ledger(storage, FOLDER).receipts) == ["a", "b"]


def test_nothing_is_written_before_the_first_receipt(storage: LocalStorage) -> None:
    write(storage, 1, []).close()
    assert not list(storage.list(""))
