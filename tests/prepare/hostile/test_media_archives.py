"""Archives of sounds and pictures with members that lead out of them or are no files: a bad record each, never read."""

import gzip
import io
import itertools
import stat
import tarfile
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

from tests.prepare.hostile import files
from tests.prepare.media import world

pytestmark = pytest.mark.usefixtures("no_ray")
ARCHIVES = ["tar", "tar.gz", "zip"]
PLACES = ["/abs/up.{}", "../up.{}", "a/../../up.{}", "..\\up.{}", "C:\\boot.{}", "//host/share.{}"]
LINKS = {"sym.{}": tarfile.SYMTYPE, "hard.{}": tarfile.LNKTYPE}
DEVICES = {"char.{}": tarfile.CHRTYPE, "block.{}": tarfile.BLKTYPE, "fifo.{}": tarfile.FIFOTYPE}
MODES = {"sym.{}": stat.S_IFLNK, "char.{}": stat.S_IFCHR, "block.{}": stat.S_IFBLK, "fifo.{}": stat.S_IFIFO}


class Case(NamedTuple):
    """A reader, and good members for it: two of them are media, whose texts are `texts`."""

    modality: str
    reader: str
    more: str
    good: dict[str, bytes]
    texts: list[str]
    told: Mapping[str, int] = MappingProxyType({})  # what else is bad, by reason


def named(suffix: str) -> list[str]:
    """What the unsafe members of a tar are called."""
    return [name.format(suffix) for name in (*PLACES, *LINKS, *DEVICES)]


def cases() -> dict[str, Case]:
    png, wav = {n: world.photo(n) for n in (1, 2)}, {n: world.clip(n) for n in (1, 2)}
    rows = [["file", "words"], ["1.png", "one"], *([name, "bad"] for name in named("png")), ["2.png", "two"]]
    heard = [["file", "words"], ["1.wav", "one"], *([name, "bad"] for name in named("wav")), ["2.wav", "two"]]
    by_list = 'manifest = "list.csv"\npath = "{file}"\n[source.fields]\ntext = "{words}"'
    by_name = "pattern = '(?P<name>[12])\\.wav'\n[source.fields]\ntext = \"{name}\""
    by_row = '[source.fields]\nimage = "{file}"\ncaption = "{words}"'
    return {
        "imagefolder": Case("image", "imagefolder", "", {"one/1.png": png[1], "two/2.png": png[2]}, ["one", "two"]),
        "pattern": Case("audio", "files", by_name, {"1.wav": wav[1], "2.wav": wav[2]}, ["1", "2"]),
        "manifest": Case(
            "audio", "files", by_list, {"1.wav": wav[1], "list.csv": world.table_csv(heard), "2.wav": wav[2]},
            ["one", "two"], {"missing_file": len(heard) - 3},
        ),
        "librispeech": Case(
            "audio", "librispeech", "",
            {"19/8/19-8-1.wav": wav[1], "19/8/19-8.trans.txt": b"19-8-1 ONE\n19-8-2 TWO\n", "19/8/19-8-2.wav": wav[2]},
            ["ONE", "TWO"],
        ),
        "ljspeech": Case(
            "audio", "ljspeech", "", {"wavs/1.wav": wav[1], "metadata.csv": b"1|one|\n2|two|\n", "wavs/2.wav": wav[2]},
            ["one", "two"],
        ),
        "webdataset of pictures": Case(
            "image", "webdataset", "", {"1.png": png[1], "1.txt": b"one", "2.png": png[2], "2.txt": b"two"},
            ["one", "two"],
        ),
        "webdataset of sounds": Case(
            "audio", "webdataset", '[source.fields]\ntext = "{txt}"',
            {"1.wav": wav[1], "1.txt": b"one", "2.wav": wav[2], "2.txt": b"two"}, ["one", "two"],
        ),
        "table": Case(
            "image", "table", by_row, {"1.png": png[1], "t.csv": world.table_csv(rows), "2.png": png[2]},
            ["one", "two"], {"unsafe_path": len(PLACES), "missing_file": len(LINKS) + len(DEVICES)},
        ),
    }  # fmt: skip


def packed(kind: str, good: dict[str, bytes], suffix: str, outside: Path) -> tuple[bytes, list[str]]:
    """An archive whose unsafe members lie between the good ones, and their names; links lead to a good file outside, or
    to a member that is one."""
    places = [name.format(suffix) for name in (*PLACES, str(outside.with_name("absolute.{}")))]
    members, data = list(good.items()), outside.read_bytes()
    before, behind = members[: len(good) // 2], members[len(good) // 2 :]
    if kind == "zip":
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as archive:
            for member in before:
                archive.writestr(*member)
            for name in places:
                info = zipfile.ZipInfo("x")
                info.filename = name
                archive.writestr(info, data)
            for name, mode in MODES.items():
                info = zipfile.ZipInfo(name.format(suffix))
                info.external_attr = (mode | 0o644) << 16
                archive.writestr(info, str(outside) if mode == stat.S_IFLNK else data)
            for member in behind:
                archive.writestr(*member)
        return sink.getvalue(), [*places, *(name.format(suffix) for name in MODES)]
    targets = {"sym.{}": str(outside), "hard.{}": before[0][0]}
    kinds = LINKS | DEVICES
    links = [(files.link(name.format(suffix), how, targets.get(name, "")), b"") for name, how in kinds.items()]
    plain = [
        [(files.member_of(*one), one[1]) for one in some] for some in (before, ((n, data) for n in places), behind)
    ]
    tar = files.tar_of([*plain[0], *plain[1], *links, *plain[2]])
    return gzip.compress(tar) if kind == "tar.gz" else tar, [*places, *(name.format(suffix) for name in kinds)]


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.parametrize("case", cases())
def test_members_that_are_never_read(tmp_path: Path, case: str, kind: str) -> None:
    modality, reader, more, good, texts, told = cases()[case]
    suffix, name = ("wav", "asr") if modality == "audio" else ("png", "annotations")
    folder, outside = tmp_path / "deep/er", tmp_path / f"outside.{suffix}"
    outside.write_bytes(world.clip(77) if modality == "audio" else world.photo(77))
    data, unsafe = packed(kind, good, suffix, outside)
    world.files(folder, {f"data.{kind}": data})
    rows = world.made(folder, modality, name, world.entry("s", modality, f"data.{kind}", reader, more))
    assert [row["text"] for row in rows] == texts
    quarantined = world.quarantine(folder / "out")
    assert [member for member, _, reason in quarantined if reason == "unsafe_member"] == unsafe
    assert Counter(reason for _, _, reason in quarantined) == {"unsafe_member": len(unsafe), **told}
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if "/out/" not in f"{path}/"}
    assert written == {"deep", "deep/er", f"deep/er/data.{kind}", "deep/er/catalog.toml", outside.name}


REFUSED = {  # a member of the sample that is a link: what is told, and the texts that are left
    "1.cls": ([("1.cls", 0, "unsafe_member")], ["one", "two"]),
    "1.txt": ([("1.png", 0, "unsafe_member"), ("1.txt", 0, "unsafe_member")], ["two"]),
    "1.png": ([("1.png", 0, "unsafe_member")], ["two"]),
}


@pytest.mark.parametrize("order", list(itertools.permutations(REFUSED)), ids=" ".join)
@pytest.mark.parametrize("refused", REFUSED)
def test_a_sample_goes_on_without_a_member_that_is_never_read(
    tmp_path: Path, refused: str, order: tuple[str, ...]
) -> None:
    """Wherever it stands in the sample, and nothing counts twice."""
    contents = {"1.png": world.photo(1), "1.txt": b"one", "1.cls": b"7"}
    members = [
        (files.link(name, tarfile.SYMTYPE, "2.png"), b"")
        if name == refused
        else (files.member_of(name, contents[name]), contents[name])
        for name in order
    ]
    second = {"2.png": world.photo(2), "2.txt": b"two"}
    members += [(files.member_of(*member), member[1]) for member in second.items()]
    world.files(tmp_path, {"s.tar": files.tar_of(members)})
    rows = world.made(tmp_path, "image", "annotations", world.entry("s", "image", "s.tar", "webdataset"))
    told, texts = REFUSED[refused]
    assert [row["text"] for row in rows] == texts
    assert sorted(world.quarantine(tmp_path / "out")) == told


def test_a_sample_takes_the_picture_that_may_be_read(tmp_path: Path) -> None:
    some = {"1.x.png": world.photo(1), "1.txt": b"one"}
    members = [(files.link("1.png", tarfile.SYMTYPE, "1.x.png"), b"")]
    members += [(files.member_of(*member), member[1]) for member in some.items()]
    world.files(tmp_path, {"s.tar": files.tar_of(members)})
    rows = world.made(tmp_path, "image", "annotations", world.entry("s", "image", "s.tar", "webdataset"))
    assert [row["text"] for row in rows] == ["one"]
    assert world.quarantine(tmp_path / "out") == [("1.png", 0, "unsafe_member")]
