"""Dividing a corpus into parts: a function of the selection, complete, in order, within the store's limits."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni_ray.ledger import Output, Receipt
from omni_ray.prepare import assemble, store
from omni_ray.prepare.assemble import Part, Stretch, plan_parts, stretch_of
from omni_ray.storage import LocalStorage, Storage

LEAST = 100


def stretch(number: int, length: int, gaps: bool) -> Stretch:
    text = Output(f"block{number}", length + 7, "")
    return Stretch(text, 0, length, Output(f"rows{number}", 1, ""), b"\xff") if gaps else Stretch(text, 3, length)


stretches = st.lists(st.tuples(st.integers(1, 3 * LEAST), st.booleans()), max_size=60).map(
    lambda drawn: [stretch(number, length, gaps) for number, (length, gaps) in enumerate(drawn)]
)


@given(given_stretches=stretches, target=st.integers(1, 4 * LEAST))
def test_parts_hold_everything_once_in_order_and_are_large_enough(given_stretches: list[Stretch], target: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assemble, "PART_BYTES", target)
        parts = list(plan_parts(given_stretches, LEAST))
    assert [one for part in parts for one in part.stretches] == given_stretches
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert all(part.size >= LEAST for part in parts[:-1])
    assert all(part.stretches for part in parts)


def test_what_is_large_and_whole_is_copied_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "PART_BYTES", LEAST)
    drawn = [(LEAST, False), (LEAST, True), (LEAST, False), (5, False), (LEAST, False), (LEAST, False)]
    parts = list(plan_parts([stretch(n, length, gaps) for n, (length, gaps) in enumerate(drawn)], LEAST))
    assert [len(part.stretches) for part in parts] == [1, 1, 1, 2, 1]
    assert [assemble.is_copied(part.stretches, LEAST) for part in parts] == [True, False, True, False, True]


@settings(deadline=None)  # a disk may take its time
@given(
    lines=st.lists(st.tuples(st.text(st.characters(exclude_characters="\n\r"), max_size=9), st.booleans()), max_size=40)
)
def test_a_stretch_is_the_chosen_lines(tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, bool]]) -> None:
    storage = LocalStorage(tmp_path_factory.mktemp("blocks"))
    encoded = [line.encode("utf-8", "surrogatepass") + b"\n" for line, _ in lines]
    receipt = write_block(storage, encoded)
    mask = np.array([chosen for _, chosen in lines], np.bool_)
    made = stretch_of(receipt, np.array([len(line) for line in encoded], np.uint32), mask)
    expected = b"".join(line for line, (_, chosen) in zip(encoded, lines, strict=True) if chosen)
    assert (b"" if made is None else assemble.chosen_text(storage, made)) == expected


def write_block(storage: Storage, lines: list[bytes]) -> Receipt:
    sizes = [len(line) for line in lines]
    count = len(lines)
    rows = store.encode_rows([""] * count, [0] * count, [0] * count, sizes, [b"\0" * 32] * count)
    objects, outputs = store.arrange(storage, "block", {"txt": b"".join(lines), "rows.parquet": rows})
    for key, data in objects.items():
        storage.put(key, data)
    return Receipt(
        block="b", segment=0, cursor=None, settings="", path="", size=0, revision="", unit="whole", start=0, stop=0,
        member="", read_bytes=0, read_sha256="", outputs=outputs, samples=count,
    )  # fmt: skip


def test_a_disk_takes_no_parts(tmp_path_factory: pytest.TempPathFactory) -> None:
    storage = LocalStorage(tmp_path_factory.mktemp("out"))
    assert assemble.assemble(storage, "text", "corpus", "mark", [], lambda work, tasks: iter(())) is None
    assert not list(storage.list(""))


def test_parts_are_described_by_what_json_can_hold() -> None:
    part = Part(1, [stretch(0, 5, True), stretch(1, 5, False)])
    assert assemble.msgspec.msgpack.decode(assemble.msgspec.msgpack.encode(part), type=Part) == part


@given(members=st.dictionaries(st.sampled_from(["txt", "rows.parquet", "quarantine.jsonl"]), st.binary(max_size=200)))
def test_a_pack_holds_its_members_where_it_says_and_opens_as_a_zip(members: dict[str, bytes]) -> None:
    packed, offsets = store.pack(members)
    assert packed == store.pack(members)[0]
    for kind, data in members.items():
        assert packed[offsets[kind] : offsets[kind] + len(data)] == data
        assert zipfile.ZipFile(io.BytesIO(packed)).read(kind) == data
