"""Tables of members and files of labels: packed, and the same as plain lists and dicts say."""

import datetime
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from omni_ray.catalog import MediaOptions, Source
from omni_ray.prepare import readers, store
from omni_ray.prepare.readers import entries, labels, members, read, steps
from omni_ray.prepare.readers.entries import Entries, Entry
from omni_ray.prepare.readers.members import MemberTable, plain
from omni_ray.prepare.readers.names import Names, digests
from omni_ray.prepare.readers.streams import Damaged
from omni_ray.prepare.records import Bad, Cut, InputFile, Member, Raw

NAME = st.sampled_from(["a", "b", "./a", "x/a", "x/b.wav", "./x/b.wav", "ä", "\ud800", ""]) | st.text(max_size=3)
MEMBERS = st.lists(st.tuples(NAME, st.sampled_from(["", "unsafe_member: no"])), max_size=60)


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "GROUP_MEMBERS", 7)
    monkeypatch.setattr(members, "HELD_GROUPS", 2)
    monkeypatch.setattr(entries, "CHUNK_ROWS", 5)


def table_of(given: list[Member]) -> MemberTable:
    """As a worker has it: encoded in parts."""
    parts = [store.encode_members(given[at : at + 20]) for at in range(0, len(given), 20)]
    return MemberTable([group for part in parts for group in store.member_groups(part, "x")])


@settings(max_examples=200, deadline=None)
@given(MEMBERS)
@example([("wav", "")])
@example([("x/.wav", ""), (".wav", "")])
def test_a_table_is_what_a_list_is(rows: list[tuple[str, str]]) -> None:
    rows = [(name.encode("utf-8", "backslashreplace").decode(), refused) for name, refused in rows]
    listed = [Member(name, at, at, refused) for at, (name, refused) in enumerate(rows)]
    table, seen, first = table_of(listed), Counter[str](), dict[str, int]()
    assert len(table) == len(listed)
    for position, member in enumerate(listed):
        label = f"{member.name}~{seen[member.name]}" if seen[member.name] else member.name
        assert table[position].label == label
        seen[member.name] += 1
        if not member.refused:
            first.setdefault(plain(member.name), position)
    asked = sorted({plain(name) for name, _ in rows} | {"nobody", "a"})
    assert table.known(asked) == [name in first for name in asked]
    for name in asked:
        if name in first:
            assert table.find(name) == first[name]
        else:
            with pytest.raises(KeyError):
                table.find(name)
    stems = {str(PurePosixPath(name).with_suffix("")) for name in first if name.endswith("wav")}
    asked = ["x/b", "x/a", "", "wav", ".wav"]
    assert table.known_stems(asked, lambda name: name.endswith("wav")) == [stem in stems for stem in asked]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(NAME, st.none() | st.integers() | st.text() | st.floats(allow_nan=False)), max_size=40),
    st.sampled_from([1, 30, 1 << 20]),
)
def test_entries_are_what_a_dict_of_lists_is(rows: list[tuple[str, object]], chunk_bytes: int) -> None:
    given = [Entry(name, row, {"x": value}) for row, (name, value) in enumerate(rows)]
    with mock.patch.object(entries, "CHUNK_BYTES", chunk_bytes):
        packed = Entries(iter(given))
    assert [entry for chunk in packed.chunks() for entry in chunk] == given
    for name in {name for name, _ in rows} | {"nobody"}:
        assert packed.of(name) == [entry for entry in given if entry.name == name]


def test_names_that_begin_with_the_same_bits_are_told_apart() -> None:
    parts = digests(["a", "b", "c"]).copy()
    parts[:2, 0] = digests(["wanted"])[0, 0]  # two others before or behind it
    parts[1] = digests(["wanted"])[0]
    names = Names([parts])
    assert names.known(["wanted", "a", "c"]) == [True, False, True]
    assert names.numbers("wanted") == [1]


def test_values_of_a_parquet_manifest_are_shown_as_python_shows_them() -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5)
    (entry,) = Entries([Entry("a", 0, {"when": moment, "much": 1 << 80, "lone": "\ud800"})]).of("a")
    assert entry.value == {"when": str(moment), "much": 1 << 80, "lone": "\ud800"}


def manifest_source(**more: object) -> Source:
    entry = {"name": "s", "modality": "audio", "category": "general", "url": ("x.tar",), "reader": "files"}
    columns = {"manifest": "list.jsonl", "path": "{file}", "fields": {"text": "{words}"}, "license": "MIT"}
    return Source.model_validate({**entry, **columns, **more})


def entries_of(data: bytes, name: str) -> list[Entry]:
    stream = io.BytesIO(data)
    return list(labels.manifest(manifest_source(), stream, Member(name, 0, len(data))))


def test_a_bad_row_of_a_manifest_is_one_row() -> None:
    found = entries_of(
        b'{"file": "a", "words": "x"}\n{"file"\n{"words": "y"}\n\n[1]\n{"file": "./b"}\n', "m/list.jsonl"
    )
    assert [(one.name, one.row) for one in found] == [("a", 0), ("", 1), ("", 2), ("", 3), ("b", 4)]
    reasons = [one.value.partition(":")[0] for one in found if isinstance(one.value, str)]
    assert reasons == ["bad_json", "missing_field", "bad_json"]
    found = entries_of(b"file,words\na,\xff\nb,c\n", "list.csv")
    assert [one.value if isinstance(one.value, dict) else one.value[:11] for one in found] == [
        "undecodable", {"file": "b", "words": "c"},
    ]  # fmt: skip
    first, last = entries_of(b'[{"file": "a"},{"fi', "list.json")
    assert (first.name, str(last.value).partition(":")[0]) == ("a", "truncated")
    with pytest.raises(Damaged, match="truncated"):
        entries_of(b"PAR1", "list.parquet")


def test_lines_of_every_end_and_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "MIB", 3)
    source = manifest_source(reader="ljspeech", manifest="", path="", fields={})
    data = "\ufeffa|one\r\nb|two\rc|\u00fcber\n\n \n\u3000\nd|x".encode()
    found = list(labels.ljspeech(source, io.BytesIO(data), Member("metadata.csv", 0, len(data))))
    assert [(one.name, one.row) for one in found] == [("a", 0), ("b", 1), ("c", 2), ("d", 6)]
    monkeypatch.setattr(labels, "MAX_RECORD_BYTES", 10)
    for end in (b"\n", b"\r", b"\r\n"):
        data = b"a|one" + end + (b"b|" + b"x" * 100 + end) * 2 + b"c|two" + end + b"d" * 100
        read = labels.ljspeech(source, io.BytesIO(data), Member("metadata.csv", 0, len(data)))
        told = [(one.name[:1], one.row, isinstance(one.value, str) and one.value.partition(":")[0]) for one in read]
        long = "record_too_large"
        assert told == [("a", 0, False), ("b", 1, long), ("b", 2, long), ("c", 3, False), ("d", 4, long)]


@pytest.mark.parametrize(
    ("modality", "media", "rules", "most"),
    [
        ("image", {}, {}, 256), ("image", {"keep_original": True}, {}, 16), ("image", {"image_size": 1024}, {}, 21),
        ("audio", {}, {}, 69), ("audio", {}, {"max_seconds": 3600.0}, 16),
    ],
)  # fmt: skip
def test_a_batch_is_no_larger_than_what_may_become_of_it(
    modality: str, media: dict[str, object], rules: dict[str, object], most: int
) -> None:
    """A segment is asked whether it is full only between batches, and many rows may be about one file."""
    text = {"text" if modality == "audio" else "caption": "{words}"}
    source = manifest_source(modality=modality, fields=text, media=MediaOptions(**media), rules=rules)
    members_ = [Member("list.jsonl", 0, 1), Member("1.wav", 1, 4)]
    rows = b"".join(json.dumps({"file": "1.wav", "words": str(n)}).encode() + b"\n" for n in range(600))

    def open_member(source: Source, file: InputFile, member: Member) -> io.BytesIO:
        return io.BytesIO(rows if member.name == "list.jsonl" else b"RIFF")

    members_[0] = Member("list.jsonl", 0, len(rows))
    with mock.patch.object(read, "open_member", open_member):
        cut, file = Cut("members", 1, 2), InputFile("data/", 0, "")
        found = [list(batch.records) for batch in readers.read_cut(source, file, cut, members_, b"", None)]
    assert [one.row for records in found for one in records] == list(range(600))
    assert max(map(len, found)) == most


def test_a_manifest_of_missing_files_comes_in_steps_and_goes_on_from_each(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Millions of rows about files that are not there are never held at once."""
    monkeypatch.setattr(steps, "STEP_MEDIA", 10)
    monkeypatch.setattr(steps, "LEAST_STEP_MEDIA", 10)
    folder = tmp_path / "data"  # type: ignore[operator]
    folder.mkdir()
    rows = [{"file": f"{n}.wav", "words": "x"} for n in range(95)]
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "7.wav").write_bytes(b"RIFF")
    source = manifest_source(url=("data",), base=tmp_path, block_bytes=1 << 20)
    stat = [(path, path.stat()) for path in sorted(folder.iterdir())]
    listed = [Member(path.name, one.st_mtime_ns, one.st_size) for path, one in stat]
    file, cut = InputFile("data/", 0, ""), Cut("members", 0, 2)

    def batches(cursor: str | None) -> Iterator[tuple[list[Raw | Bad], str | None]]:
        for batch in readers.read_cut(source, file, cut, listed, b"", cursor):
            yield list(batch.records), batch.cursor

    whole = list(batches(None))
    assert [len(records) for records, _ in whole] == [1] + [10] * 9 + [4]
    assert [one.row for records, _ in whole[1:] for one in records] == [n for n in range(95) if n != 7]
    for number, (_, cursor) in enumerate(whole[:-1], 1):
        assert list(batches(cursor)) == whole[number:]
