"""What each reader makes of each layout: what comes in, in which order, with which text, and what is quarantined."""

import gzip
import io
import os
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.prepare import inprocess
from tests.prepare.media import world
from tests.prepare.media.world import CONTAINERS, clip, made, photo

pytestmark = pytest.mark.usefixtures("no_ray")


@pytest.mark.parametrize("container", CONTAINERS)
def test_librispeech(tmp_path: Path, container: str) -> None:
    url = world.place(
        tmp_path,
        container,
        {
            "LibriSpeech/dev/19/198/19-198-0000.flac": clip(0),
            "LibriSpeech/dev/19/198/19-198-0001.flac": clip(1),
            "LibriSpeech/dev/19/198/19-198-0002.flac": clip(2),
            "LibriSpeech/dev/19/198/19-198.trans.txt": b"19-198-0000 ONE TWO\n19-198-0001 \xff\n19-198-0009 NOBODY\n",
            "LibriSpeech/dev/20/7/20-7-0000.flac": clip(3),
            "LibriSpeech/dev/20/8/20-8-0000.flac": clip(4),
            "LibriSpeech/dev/20/8/20-8.trans.txt": b"20-8-0000 THREE\n",
            "LibriSpeech/README.TXT": b"not looked at",
        },
    )
    rows = made(tmp_path, "audio", "asr", world.entry("libri", "audio", url, "librispeech"))
    assert [(row["text"], row["group"]) for row in rows] == [("ONE TWO", "libri:19"), ("THREE", "libri:20")]
    where = "LibriSpeech/dev/19/198/19-198"
    assert world.quarantine(tmp_path / "out") == [
        (f"{where}-0001.flac", 0, "undecodable"),
        (f"{where}-0002.flac", 0, "not_described"),
        (f"{where}.trans.txt", 2, "missing_file"),
        ("LibriSpeech/dev/20/7/20-7-0000.flac", 0, "not_described"),
    ]


@pytest.mark.parametrize("container", CONTAINERS)
def test_ljspeech(tmp_path: Path, container: str) -> None:
    metadata = 'LJ-1|Dr. A|Doctor A\nLJ-2|as written|\nLJ-9|gone|gone\nLJ-3|, "quotes"|, "quotes"\nLJ-1|again|again\n'
    url = world.place(
        tmp_path,
        container,
        {
            "LJ/metadata.csv": metadata.encode(),
            **{f"LJ/wavs/LJ-{n}.wav": clip(n) for n in (1, 2, 3, 4)},
        },
    )
    entry = world.entry("lj", "audio", url, "ljspeech")
    rows = made(tmp_path, "audio", "tts", entry)
    assert [row["text"] for row in rows] == ["Doctor A", "as written", ', "quotes"']
    assert world.prepare("audio", tmp_path / "all", world.catalog(tmp_path, entry), "--dedup", "none") == 0
    texts = [row["text"] for row in world.index(tmp_path / "all", "tts")]
    assert texts == ["Doctor A", "again", "as written", ', "quotes"'], "each line about a clip is a record"
    assert sorted(world.quarantine(tmp_path / "out")) == [
        ("LJ/metadata.csv", 2, "missing_file"),
        ("LJ/wavs/LJ-4.wav", 0, "not_described"),
    ]


@pytest.mark.parametrize("container", CONTAINERS)
def test_imagefolder(tmp_path: Path, container: str) -> None:
    contents = {
        "train/cat/1.png": photo(1),
        "train/dog/2.PNG": photo(2),
        "0.png": photo(3),
        "train/dog/notes.txt": b"x",
    }
    url = world.place(tmp_path, container, contents)
    more = '[source.fields]\ncaption = "a photo of {class}"\ncategory = "{class}"\n[source.maps.class]\ncat = "a cat"'
    rows = made(tmp_path, "image", "annotations", world.entry("photos", "image", url, "imagefolder", more))
    assert [(row["text"], row["category"]) for row in rows] == [
        ("a photo of a cat", "a cat"),
        ("a photo of dog", "dog"),
    ]
    assert world.quarantine(tmp_path / "out") == [("0.png", 0, "missing_field")]


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(
    ("modality", "name", "make", "ending"), [("audio", "asr", clip, "wav"), ("image", "annotations", photo, "png")]
)
def test_webdataset(
    tmp_path: Path, modality: str, name: str, make: Callable[[int], bytes], ending: str, container: str
) -> None:
    """Groups of two and three members over several blocks; one without its media, one without a text."""
    contents: dict[str, bytes] = {}
    for number in range(12):
        contents[f"s/{number:02d}.{ending}"] = make(number)
        contents[f"s/{number:02d}.json"] = b'{"by": {"name": "p%d"}, "what": "sample %d"}' % (number % 3, number)
        if number % 2:
            contents[f"s/{number:02d}.x.{ending}"] = make(100 + number)
    contents["s/90.json"] = b"{}"
    contents[f"s/91.{ending}"] = make(91)
    contents[f"s/92.{ending}"], contents["s/92.json"] = make(92), b"{"
    url = world.place(tmp_path, container, contents)
    field = "text" if modality == "audio" else "caption"
    more = f'group = "json.by.name"\n[source.fields]\n{field} = "{{json.what}}"'
    rows = made(tmp_path, modality, name, world.entry("shots", modality, url, "webdataset", more, block_bytes=2048))
    assert [row["text"] for row in rows] == [f"sample {n}" for n in range(12)]
    assert [row["group"] for row in rows] == [f"shots:p{n % 3}" for n in range(12)]
    assert sorted(world.quarantine(tmp_path / "out")) == [
        ("s/90.json", 0, "missing_file"), (f"s/91.{ending}", 0, "missing_field"), (f"s/92.{ending}", 0, "bad_json"),
    ]  # fmt: skip


def test_of_two_pictures_of_a_sample_the_one_that_can_be_decoded_is_taken(tmp_path: Path) -> None:
    contents = {"1.heic": b"\0\0\0\x20ftypheic" + bytes(99), "1.jpg": photo(1), "1.txt": b"one"}
    contents |= {"2.svg": b"<svg/>", "2.txt": b"two"}
    url = world.place(tmp_path, "tar", contents)
    rows = made(tmp_path, "image", "annotations", world.entry("shots", "image", url, "webdataset"))
    assert [row["text"] for row in rows] == ["one"]
    assert world.quarantine(tmp_path / "out") == [("2.svg", 0, "unsupported_format")]


@pytest.mark.parametrize("reader", ["ljspeech", "librispeech"])
def test_a_clip_whose_name_has_no_ending_is_counted_once(tmp_path: Path, reader: str) -> None:
    folder, suffix = ("v1.0/wavs", ".wav") if reader == "ljspeech" else ("v1.0", ".flac")
    contents = {f"{folder}/a-1-1": clip(1), f"{folder}/a-1-2{suffix}": clip(2)}
    contents |= {"v1.0/metadata.csv": b"a-1-1|one\na-1-2|two\n", "v1.0/a-1.trans.txt": b"a-1-1 one\na-1-2 two\n"}
    url = world.place(tmp_path, "tar", contents)
    rows = made(tmp_path, "audio", "asr", world.entry("s", "audio", url, reader))
    assert [row["text"] for row in rows] == ["one", "two"]
    assert world.quarantine(tmp_path / "out") == []


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_table_that_is_compressed_inside_a_container_is_told(tmp_path: Path, container: str) -> None:
    table = world.table_csv([["file", "words"], ["1.png", "one"]])
    contents = {"more.csv.gz": gzip.compress(table), "t.csv": table, "1.png": photo(1)}
    url = world.place(tmp_path, container, contents)
    more = '[source.fields]\nimage = "{file}"\ncaption = "{words}"'
    rows = made(tmp_path, "image", "annotations", world.entry("paths", "image", url, "table", more))
    assert [row["text"] for row in rows] == ["one"]
    assert world.quarantine(tmp_path / "out") == [("more.csv.gz", 0, "unknown_format")]


def test_a_folder_without_any_table_is_no_source_of_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world.place(tmp_path, "folder", {"1.png": photo(1), "notes.txt": b"x"})
    entry = world.entry("paths", "image", "data", "table", '[source.fields]\nimage = "{file}"\ncaption = "x"')
    assert world.prepare("image", tmp_path / "out", world.catalog(tmp_path, entry)) == 4
    assert "no file in it is one that table reads" in capsys.readouterr().err


def test_samples_of_one_key_that_follow_each_other(tmp_path: Path) -> None:
    """As in shards that were written one behind the other; each is a sample, whichever block it lies in."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for number in range(5):
            for ending, data in (("jpg", photo(number)), ("txt", b"picture %d" % number)):
                member = tarfile.TarInfo(f"same.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    world.files(tmp_path, {"s.tar": sink.getvalue()})
    entry = world.entry("s", "image", "s.tar", "webdataset", block_bytes=1024)
    rows = made(tmp_path, "image", "annotations", entry)
    assert [row["text"] for row in rows] == [f"picture {n}" for n in range(5)]
    assert len({row["key"] for row in rows}) == 5


@pytest.mark.parametrize("container", CONTAINERS)
def test_files_with_a_manifest(tmp_path: Path, container: str) -> None:
    """As ESC-50 has it, below a folder of its own; two rows for one file."""
    manifest = world.table_csv([
        ["filename", "target", "label"], ["1.wav", "0", "dog"], ["2.wav", "1", "rain"], ["1.wav", "0", "a dog barks"],
        ["9.wav", "3", "gone"], ["too", "few"],
    ])  # fmt: skip
    url = world.place(
        tmp_path,
        container,
        {
            **{f"ESC-50-master/audio/{n}.wav": clip(n) for n in (1, 2, 3)},
            "ESC-50-master/LICENSE": b"text",
            "ESC-50-master/meta/esc50.csv": manifest,
        },
    )
    more = (
        'manifest = "meta/esc50.csv"\npath = "audio/{filename}"\nspeech = false\n[source.fields]\n'
        'text = "{label}"\n[source.maps.label]\nrain = "it rains"'
    )
    rows = made(tmp_path, "audio", "asr", world.entry("esc", "audio", url, "files", more))
    assert [row["text"] for row in rows] == ["dog", "it rains"], "the second text of a clip is its duplicate"
    where = "ESC-50-master/meta/esc50.csv"
    assert sorted(world.quarantine(tmp_path / "out")) == [
        ("ESC-50-master/audio/3.wav", 0, "not_described"), (where, 3, "missing_file"), (where, 4, "bad_csv"),
    ]  # fmt: skip
    assert world.index(tmp_path / "out", "tts") == []


@pytest.mark.parametrize("container", CONTAINERS)
def test_files_with_a_pattern(tmp_path: Path, container: str) -> None:
    contents = {f"free/recordings/{n}_ann_{n}.wav": clip(n) for n in range(3)} | {"free/recordings/other.wav": clip(9)}
    url = world.place(tmp_path, container, contents)
    more = (
        "pattern = 'recordings/(?P<digit>\\d)_(?P<speaker>\\w+)_\\d+\\.wav'\ngroup = \"speaker\"\n"
        '[source.fields]\ntext = "{digit}"\n[source.maps.digit]\n0 = "zero"'
    )
    rows = made(tmp_path, "audio", "asr", world.entry("digits", "audio", url, "files", more))
    assert [(row["text"], row["group"]) for row in rows] == [(t, "digits:ann") for t in ("zero", "1", "2")]
    assert world.quarantine(tmp_path / "out") == [("free/recordings/other.wav", 0, "not_described")]


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("reader", ["imagefolder", "files"])
def test_every_file_is_accounted_for_whatever_its_name(tmp_path: Path, container: str, reader: str) -> None:
    """What a picture is called decides nothing: files of any ending and of none are looked at by their content."""
    contents = {
        "set/cat/bitmap.pbm": photo(1, format_="PPM"),
        "set/cat/paint.pcx": photo(2, format_="PCX"),
        "set/cat/without": photo(3),
        "set/cat/odd.xyz": photo(4),
        "set/cat/phone.heic": b"\0\0\0\x20ftypheic" + bytes(99),
        "set/cat/drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "set/cat/film.mp4": b"\0\0\0\x20ftypisom" + bytes(99),
        "set/cat/stub": b"no picture",
        "set/README": b"about",
        "set/cat/labels.json": b"{}",
        "set/cat/bark.wav": clip(1),
        "set/.DS_Store": b"x",
    }
    more = "pattern = 'cat/(?P<class>[^/]+)'\n[source.fields]\ncaption = \"{class}\"" if reader == "files" else ""
    url = world.place(tmp_path, container, contents)
    rows = made(tmp_path, "image", "annotations", world.entry("photos", "image", url, reader, more))
    texts = ["bitmap.pbm", "odd.xyz", "paint.pcx", "without"] if reader == "files" else ["cat"] * 4
    assert sorted(str(row["text"]) for row in rows) == texts
    assert sorted(world.quarantine(tmp_path / "out")) == [
        ("set/cat/drawing.svg", 0, "unsupported_format"), ("set/cat/film.mp4", 0, "unsupported_format"),
        ("set/cat/phone.heic", 0, "unsupported_format"), ("set/cat/stub", 0, "unknown_format"),
    ]  # fmt: skip


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_table_names_files_of_any_ending(tmp_path: Path, container: str) -> None:
    rows = [["file", "words"], ["1", "a picture"], ["2.heic", "from a phone"], ["3.pbm", "a bitmap"], ["4.txt", "none"]]
    contents = {
        "set/table.csv": world.table_csv(rows), "set/1": photo(1), "set/2.heic": b"\0\0\0\x20ftypheic" + bytes(99),
        "set/3.pbm": photo(3, format_="PPM"), "set/4.txt": b"words",
    }  # fmt: skip
    url = world.place(tmp_path, container, contents)
    more = '[source.fields]\nimage = "{file}"\ncaption = "{words}"'
    found = made(tmp_path, "image", "annotations", world.entry("paths", "image", url, "table", more))
    assert [row["text"] for row in found] == ["a picture", "a bitmap"]
    assert [one[2] for one in world.quarantine(tmp_path / "out")] == ["unsupported_format", "unknown_format"]


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_table_of_paths(tmp_path: Path, container: str) -> None:
    """Beside the table, in a folder or in an archive; paths that lead out are never followed."""
    outside = tmp_path / "outside.png"
    outside.write_bytes(photo(77))
    rows = [["file", "words"], ["1.png", "first"], ["sub/2.png", "second"], ["3.png", "gone"], ["../outside.png", "up"],
            [str(outside), "absolute"]]  # fmt: skip
    contents = {
        "set/table.csv": world.table_csv(rows), "set/pics/1.png": photo(1), "set/pics/sub/2.png": photo(2),
    }  # fmt: skip
    url = world.place(tmp_path, container, contents)
    more = '[source.fields]\nimage = "pics/{file}"\ncaption = "{words}"'
    found = made(tmp_path, "image", "annotations", world.entry("paths", "image", url, "table", more))
    assert [row["text"] for row in found] == ["first", "second"]
    reasons = [reason for _, _, reason in world.quarantine(tmp_path / "out")]
    assert reasons == ["missing_file", "unsafe_path", "missing_file"]


def test_what_a_table_names_and_is_no_file_is_one_bad_record(tmp_path: Path) -> None:
    names = ["loop.png", "nowhere.png", "pipe.png", "folder.png", "1.png/2.png", "socket.png", "1.png"]
    rows = [["file", "words"], *([name, name] for name in names)]
    world.files(tmp_path, {"t.csv": world.table_csv(rows), "1.png": photo(1)})
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "nowhere.png").symlink_to("gone.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    more = '[source.fields]\nimage = "{file}"\ncaption = "{words}"'
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.png"))
        found = made(tmp_path, "image", "annotations", world.entry("paths", "image", "t.csv", "table", more))
    assert [row["text"] for row in found] == ["1.png"]
    assert [reason for _, _, reason in world.quarantine(tmp_path / "out")] == ["missing_file"] * 6


@pytest.mark.parametrize("path", ["n" * 300 + ".png", "n/" * 600 + "1.png", "\\ud800.png"])
def test_a_path_that_no_file_can_have_is_one_bad_record(tmp_path: Path, path: str) -> None:
    lines = f'{{"file": "{path}", "words": "odd"}}\n{{"file": "1.png", "words": "first"}}\n'
    world.files(tmp_path, {"t.jsonl": lines.encode(), "1.png": photo(1)})
    more = '[source.fields]\nimage = "{file}"\ncaption = "{words}"'
    found = made(tmp_path, "image", "annotations", world.entry("paths", "image", "t.jsonl", "table", more))
    assert [row["text"] for row in found] == ["first"]
    reason = "undecodable" if "ud800" in path else "missing_file"
    assert [one[2] for one in world.quarantine(tmp_path / "out")] == [reason]


def test_files_of_a_folder_that_are_none_are_bad_records(tmp_path: Path) -> None:
    url = world.place(tmp_path, "folder", {"cat/1.png": photo(1)})
    (tmp_path / "data/cat/2.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "data/cat/3.png")
    (tmp_path / "data/cat/4.png").symlink_to("4.png")
    rows = made(tmp_path, "image", "annotations", world.entry("photos", "image", url, "imagefolder"))
    assert [row["text"] for row in rows] == ["cat"]
    assert world.quarantine(tmp_path / "out") == [
        ("cat/2.png", 0, "unsafe_member"), ("cat/3.png", 0, "unsafe_member"),
        ("cat/4.png", 0, "unsafe_member"),
    ]  # fmt: skip


def test_a_name_that_utf_8_cannot_hold_is_told_escaped(tmp_path: Path) -> None:
    lines = b'{"file": "\\ud800.wav", "words": "odd"}\n{"file": "1.wav", "words": "first"}\n'
    url = world.place(tmp_path, "folder", {"list.jsonl": lines, "1.wav": clip(1)})
    more = 'manifest = "list.jsonl"\npath = "{file}"\n[source.fields]\ntext = "{words}"'
    rows = made(tmp_path, "audio", "asr", world.entry("odd", "audio", url, "files", more))
    assert [row["text"] for row in rows] == ["first"]
    assert world.quarantine(tmp_path / "out") == [("list.jsonl", 0, "missing_file")]


def test_a_folder_that_changes_is_refused_and_updated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = world.place(tmp_path, "folder", {"cat/1.png": photo(1), "dog/2.png": photo(2)})
    catalog = world.catalog(tmp_path, world.entry("photos", "image", url, "imagefolder"))
    out = tmp_path / "out"
    assert world.prepare("image", out, catalog) == 0
    world.files(tmp_path / "data", {"owl/3.png": photo(3)})
    assert world.prepare("image", out, catalog) == 5
    assert "photos: file data/: size: " in capsys.readouterr().err
    assert world.prepare("image", out, catalog, "--update") == 0
    assert [row["text"] for row in world.index(out, "annotations")] == ["cat", "dog", "owl"]
    assert inprocess.omni("verify", out) == 0
    assert len(list(out.glob("images/photos/*/*.jpg"))) == 3, "what nothing names any more is gone"
