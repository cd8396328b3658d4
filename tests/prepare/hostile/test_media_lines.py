"""Lines of 100 MB in what tells of sounds and pictures what they are: one bad record each, in little memory."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.prepare.hostile.client import Worker
from tests.prepare.hostile.run import prepare_media
from tests.prepare.media import world

pytestmark = pytest.mark.slow
WORDS = b"word " * 20_000_000
PLACES = ["first", "between", "last"]
LONG = "record_too_large"
Rows = list[tuple[bytes, bytes]]  # what a row is about, and its words


def csv(rows: Rows) -> bytes:
    return b"file,words\n" + b"".join(b"%s,%s\n" % row for row in rows)


def jsonl(rows: Rows) -> bytes:
    return b"".join(b'{"file": "%s", "words": "%s"}\n' % row for row in rows)


def json(rows: Rows) -> bytes:
    return b"[" + b",".join(jsonl(rows).splitlines()) + b"]"


TABLES: dict[str, Callable[[Rows], bytes]] = {"csv": csv, "jsonl": jsonl, "json": json}


@pytest.fixture(autouse=True)
def a_process_of_its_own(worker: Worker) -> None:
    """What a test before left in the allocator is not this one's memory."""
    worker.stop()


@pytest.mark.parametrize(("format_", "container"), [*((one, "folder") for one in TABLES), ("csv", "tar.gz")])
def test_a_manifest(worker: Worker, tmp_path: Path, format_: str, container: str) -> None:
    rows = [(b"1.wav", b"one"), (b"2.wav", WORDS), (b"4.wav", WORDS), (b"3.wav", b"three")]
    contents = {f"{number}.wav": world.clip(number) for number in (1, 2, 3)}
    url = world.place(tmp_path, container, {**contents, f"list.{format_}": TABLES[format_](rows)})
    more = f'manifest = "list.{format_}"\npath = "{{file}}"\n[source.fields]\ntext = "{{words}}"'
    found = prepare_media(worker, tmp_path, "audio", url, "files", more)
    assert found.corpus == ["one", "three"]
    assert [(bad["member"], bad["reason"]) for bad in found.quarantine] == [
        ("2.wav", "not_described"), (f"list.{format_}", LONG), (f"list.{format_}", LONG),
    ]  # fmt: skip


@pytest.mark.parametrize(("place", "container"), [*((one, "folder") for one in PLACES), ("between", "tar.gz")])
def test_transcripts(worker: Worker, tmp_path: Path, container: str, place: str) -> None:
    """The clip that such a line is about is told, or the line where there is no such clip."""
    lines = [b"19-8-1 ONE\n", b"19-8-3 THREE\n"]
    lines.insert(PLACES.index(place), b"19-8-4 " + WORDS + b"\n19-8-2 " + WORDS + b"\r\n")
    text = b"".join(lines).rstrip() if place == "last" else b"".join(lines)
    contents = {f"19/8/19-8-{number}.flac": world.clip(number) for number in (1, 2, 3)}
    url = world.place(tmp_path, container, {**contents, "19/8/19-8.trans.txt": text})
    found = prepare_media(worker, tmp_path, "audio", url, "librispeech", "")
    assert found.corpus == ["ONE", "THREE"]
    assert [(bad["member"], bad["row"], bad["reason"]) for bad in found.quarantine] == [
        ("19/8/19-8-2.flac", 0, LONG), ("19/8/19-8.trans.txt", PLACES.index(place), LONG),
    ]  # fmt: skip


@pytest.mark.parametrize("field", ["raw", "text", "none"])
def test_metadata_of_lj_speech(worker: Worker, tmp_path: Path, field: str) -> None:
    """Too long as written, as spoken, or without anything that ends the name of the clip."""
    long = {"raw": b"2|" + WORDS + b"|two", "text": b"2|two|" + WORDS, "none": b"2" + b"x" * len(WORDS)}[field]
    contents = {f"wavs/{number}.wav": world.clip(number) for number in (1, 2, 3)}
    world.files(tmp_path / "lj", {**contents, "metadata.csv": b"1|one|\n" + long + b"\n3|3|three\n"})
    found = prepare_media(worker, tmp_path, "audio", "lj", "ljspeech", "")
    assert found.corpus == ["one", "three"]
    told = [("wavs/2.wav", LONG)] if field != "none" else [("metadata.csv", LONG), ("wavs/2.wav", "not_described")]
    assert [(bad["member"], bad["reason"]) for bad in found.quarantine] == told


@pytest.mark.parametrize("reader", ["files", "ljspeech"])
def test_many_lines_that_are_as_long_as_they_may_be(worker: Worker, tmp_path: Path, reader: str) -> None:
    """Of which a worker cannot hold as many as of others."""
    words = WORDS[: 7 << 20]
    rows = [(b"1.wav", b"one"), *((b"%d.wav" % number, words) for number in range(10, 50)), (b"3.wav", b"three")]
    if reader == "files":
        data = {"list.jsonl": jsonl(rows), **{f"{number}.wav": world.clip(number) for number in (1, 3)}}
        more = 'manifest = "list.jsonl"\npath = "{file}"\n[source.fields]\ntext = "{words}"'
    else:
        lines = (b"%s|%s\n" % (file.removesuffix(b".wav"), said) for file, said in rows)
        data = {"metadata.csv": b"".join(lines), **{f"wavs/{number}.wav": world.clip(number) for number in (1, 3)}}
        more = ""
    world.files(tmp_path / "data", data)
    found = prepare_media(worker, tmp_path, "audio", "data", reader, more)
    assert (found.corpus, found.quarantined) == (["one", "three"], {"missing_file": 40})


@pytest.mark.parametrize(
    ("format_", "container"), [*((one, "") for one in TABLES), *(("csv", one) for one in ("folder", "tar.gz", "zip"))]
)
def test_a_table_of_pictures(worker: Worker, tmp_path: Path, format_: str, container: str) -> None:
    rows = [(b"1.png", b"one"), (b"2.png", WORDS), (WORDS, b"nothing"), (b"3.png", b"three")]
    contents = {f"{number}.png": world.photo(number) for number in (1, 2, 3)}
    url = world.place(tmp_path, container or "folder", {f"t.{format_}": TABLES[format_](rows), **contents})
    url = url if container else f"{url}/t.{format_}"
    more = '[source.fields]\nimage = "{file}"\ncaption = "{words}"'
    found = prepare_media(worker, tmp_path, "image", url, "table", more)
    assert (found.corpus, found.quarantined) == (["one", "three"], {LONG: 2})
    assert all("may have 8 MiB" in bad["error"] for bad in found.quarantine)


@pytest.mark.parametrize("ending", ["txt", "json"])
def test_a_member_of_a_webdataset_sample(worker: Worker, tmp_path: Path, ending: str) -> None:
    said = {1: b"one", 2: WORDS, 3: b"three"}
    contents: dict[str, bytes] = {}
    for number, words in said.items():
        contents[f"{number}.png"] = world.photo(number)
        contents[f"{number}.{ending}"] = words if ending == "txt" else b'{"words": "%s"}' % words
    url = world.place(tmp_path, "tar", contents)
    caption = "{txt}" if ending == "txt" else "{json.words}"
    found = prepare_media(worker, tmp_path, "image", url, "webdataset", f'[source.fields]\ncaption = "{caption}"')
    assert (found.corpus, found.quarantined) == (["one", "three"], {LONG: 1})
