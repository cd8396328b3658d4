"""Folders of sounds and pictures in a bucket: the same as from a disk, in about one GET a file, pinned by ETag."""

import threading
from pathlib import Path

import boto3
import pytest

from omni_ray.catalog import Source, load_catalog
from omni_ray.errors import CatalogError, DataError, SourceFailed, StorageError
from omni_ray.prepare import readers, sources
from omni_ray.prepare.readers import ahead, index
from omni_ray.prepare.records import InputFile, Member, Raw
from tests.prepare import inprocess
from tests.prepare.conftest import no_ray
from tests.prepare.media import world
from tests.prepare.media.world import clip, photo
from tests.s3.conftest import BUCKET, upload_folder
from tests.s3.proxy import Fault, Proxy

__all__ = ["no_ray"]
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_ray")]
HERE = f"s3://{BUCKET}/in/"
MORE = {
    "manifest": 'manifest = "meta/list.csv"\npath = "audio/{file}"\n[source.fields]\ntext = "{words}"',
    "pattern": 'pattern = \'(?P<n>\\d+)_(?P<who>\\w+)\\.wav\'\ngroup = "who"\n[source.fields]\ntext = "number {n}"',
    "paths": '[source.fields]\nimage = "pics/{file}"\ncaption = "{words}"',
}


def sounds(folder: Path) -> list[str]:
    """Every reader of sounds over a folder, with files and labels that lack each other."""
    world.files(
        folder,
        {
            "libri/dev/19/198/19-198-0000.flac": clip(0),
            "libri/dev/19/198/19-198-0002.flac": clip(2),
            "libri/dev/19/198/19-198.trans.txt": b"19-198-0000 ONE TWO\n19-198-0009 NOBODY\n",
            "libri/dev/20/7/20-7-0000.flac": clip(3),
            "lj/metadata.csv": b"LJ-1|Dr. A|Doctor A\nLJ-9|gone|gone\nLJ-3|c|c\n",
            **{f"lj/wavs/LJ-{n}.wav": clip(10 + n) for n in (1, 3, 4)},
            "listed/meta/list.csv": world.table_csv(
                [["file", "words"], *([f"{n:02d}.wav", f"file {n}"] for n in range(40)), ["x.wav", "gone"], ["few"]]
            ),
            **{f"listed/audio/{n:02d}.wav": clip(20 + n) for n in range(40)},
            "listed/audio/99.wav": b"RIFF",
            **{f"named/{n}_ann.wav": clip(70 + n) for n in range(3)},
            "named/.hidden.wav": clip(1),
            "named/.cache/9_ann.wav": clip(1),
            "named/ä/7_öz.wav": clip(80),
        },
    )
    return [
        world.entry("libri", "audio", "libri/", "librispeech"),
        world.entry("lj", "audio", "lj", "ljspeech"),
        world.entry("listed", "audio", "listed/", "files", MORE["manifest"], block_bytes=1 << 16),
        world.entry("named", "audio", "named/", "files", MORE["pattern"]),
    ]


def pictures(folder: Path) -> list[str]:
    """Every reader of pictures over a folder."""
    shots: dict[str, bytes] = {}
    for n in range(12):
        shots[f"shots/{n:02d}.jpg"] = photo(n, format_="JPEG")
        shots[f"shots/{n:02d}.txt"] = b"picture %d" % n
    table = world.table_csv([["file", "words"], *([f"{n}.png", f"row {n}"] for n in range(30)), ["../x", "up"]])
    world.files(
        folder,
        {
            **{
                f"classes-{part}/{kind}/{n}.png": photo(100 * part + n)
                for part in (1, 2)
                for n, kind in enumerate("ab")
            },
            "classes-x.png": photo(1),
            **shots,
            "shots/99.txt": b"alone",
            "set/table.csv": table,
            **{f"set/pics/{n}.png": photo(300 + n) for n in range(29)},
        },
    )
    return [
        world.entry("classes", "image", "classes-*/", "imagefolder"),
        world.entry("shots", "image", "shots/", "webdataset", block_bytes=4096),
        world.entry("beside", "image", "set/table.csv", "table", MORE["paths"]),
        world.entry("inside", "image", "set/", "table", MORE["paths"]),
    ]


def facts(out: Path, name: str, url: str) -> list[tuple[object, ...]]:
    """What a run made of its records, with the url that they were read from taken out."""
    rows = world.index(out, name)
    assert rows
    wanted = ("group", "source", "text", "category", "bytes", "sha256")
    return [
        (str(row["key"]).replace(url, ""), *(str(row[column]).replace(url, "") for column in wanted)) for row in rows
    ]


@pytest.mark.parametrize(("modality", "name"), [("audio", "asr"), ("image", "annotations")])
def test_as_on_a_disk(proxy: Proxy, tmp_path: Path, modality: str, name: str) -> None:
    """Keys, order, texts, bytes and what is quarantined; each file read by one GET, also where a body is cut off."""
    folder = tmp_path / "in"
    entries = sounds(folder) if modality == "audio" else pictures(folder)
    assert world.prepare(modality, tmp_path / "disk", world.catalog(folder, *entries), "--dedup", "none") == 0
    upload_folder(folder, "in")
    there = [entry.replace('url = "', f'url = "{HERE}') for entry in entries]
    proxy.forget()
    proxy.fail(Fault("GET", r"wav|png|jpg", cut=100, times=3))
    out = tmp_path / "bucket"
    assert world.prepare(modality, out, world.catalog(tmp_path / "s3", *there), "--dedup", "none") == 0
    assert facts(out, name, HERE) == facts(tmp_path / "disk", name, HERE)
    assert sorted(world.quarantine(out)) == sorted(world.quarantine(tmp_path / "disk")) != []
    assert inprocess.omni("verify", out) == 0
    files = [path for path in folder.rglob("*") if path.suffix in (".wav", ".flac", ".png", ".jpg")]
    got = [path for kind, path in proxy.requests if kind == "GET" and path.endswith((".wav", ".flac", ".png", ".jpg"))]
    twice = 29 if modality == "image" else 0  # two sources read the folder `set`
    assert len(files) - 8 <= len(got) - 3 <= len(files) + twice


def source_of(tmp_path: Path, url: str, reader: str = "imagefolder", more: str = "") -> Source:
    return load_catalog(world.catalog(tmp_path / "c", world.entry("s", "image", url, reader, more))).sources[0]


def members_of(source: Source, file: InputFile) -> list[Member]:
    return [member for part in readers.index_file(source, file, b"", None) for member in part.members]


def read_all(source: Source, file: InputFile) -> list[object]:
    parts = list(readers.index_file(source, file, b"", None))
    members = [member for part in parts for member in part.members]
    cuts = [cut for part in parts for cut in part.cuts]
    return [
        one
        for cut in cuts
        for batch in readers.read_cut(source, file, cut, members, b"", None)
        for one in batch.records
    ]


def test_a_listing_is_read_by_pages_and_goes_on_from_anywhere(
    proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.files(tmp_path / "in", {f"pics/{n % 3}/{n:03d}.png": b"%d" % n for n in range(50)})
    upload_folder(tmp_path / "in", "in")
    source = source_of(tmp_path, f"{HERE}pics")
    (file,) = sources.expand(source)
    assert file.path == f"{HERE}pics/"
    whole = members_of(source, file)
    assert [member.name for member in whole] == sorted(member.name for member in whole) and len(whole) == 50
    monkeypatch.setattr(index, "FOLDER_PART", 7)
    parts = list(readers.index_file(source, file, b"", None))
    assert [member for part in parts for member in part.members] == whole and len(parts) == 8
    for number, part in enumerate(parts[:-1], 1):
        proxy.forget()
        assert list(readers.index_file(source, file, b"", part.cursor)) == parts[number:]
        assert proxy.count() == {"LIST": 1}
    local = source_of(tmp_path, str(tmp_path / "in/pics"))
    (there,) = sources.expand(local)
    listed = list(readers.index_file(local, there, b"", None))
    assert [member.name for part in listed for member in part.members] == [member.name for member in whole]
    assert [part.cuts for part in listed] == [part.cuts for part in parts]
    for number, part in enumerate(listed[:-1], 1):
        assert list(readers.index_file(local, there, b"", part.cursor)) == listed[number:]


@pytest.mark.parametrize("how", ["replaced", "gone"])
def test_a_file_that_changed_since_the_listing_is_noticed(proxy: Proxy, tmp_path: Path, how: str) -> None:
    world.files(tmp_path / "in", {f"pics/a/{n}.png": photo(n) for n in range(9)})
    upload_folder(tmp_path / "in", "in")
    source = source_of(tmp_path, f"{HERE}pics/")
    (file,) = sources.expand(source)
    parts = list(readers.index_file(source, file, b"", None))
    client, key = boto3.client("s3"), "in/pics/a/5.png"
    if how == "gone":
        client.delete_object(Bucket=BUCKET, Key=key)
    else:  # of the same size
        client.put_object(Bucket=BUCKET, Key=key, Body=b"x" * len(photo(5)))
    with pytest.raises(DataError, match=r"pics/a/5\.png: .*--update"):
        list(readers.read_cut(source, file, parts[0].cuts[0], parts[0].members, b"", None))
    with pytest.raises(DataError, match="changed since this run planned with it"):
        list(readers.index_file(source, file, b"", None))
    (now,) = sources.expand(source)
    assert now.revision != file.revision
    assert len(read_all(source, now)) == (8 if how == "gone" else 9)


def test_files_are_fetched_at_once_and_taken_in_order(proxy: Proxy, tmp_path: Path) -> None:
    """No answer comes before as many are asked for as may be under way."""
    world.files(tmp_path / "in", {f"pics/a/{n:03d}.png": b"%d" % n for n in range(80)})
    upload_folder(tmp_path / "in", "in")
    source = source_of(tmp_path, f"{HERE}pics/")
    (file,) = sources.expand(source)
    parts = list(readers.index_file(source, file, b"", None))
    proxy.hold(r"\.png", ahead.AT_ONCE)
    heard: list[bytes] = []
    batches = readers.read_cut(source, file, parts[0].cuts[0], parts[0].members, b"", None, heard.append)
    records = [record for batch in batches for record in batch.records]
    assert [record.data for record in records if isinstance(record, Raw)] == [b"%d" % n for n in range(80)]
    assert heard == [b"%d" % n for n in range(80)]


def test_no_more_is_held_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of things of 40 bytes two are held beside the one whose turn it is; one larger than all comes in its turn."""
    monkeypatch.setattr(ahead, "HELD_BYTES", 100)
    held, most, lock = set[int](), [0], threading.Lock()
    fetched = ahead.Ahead(lambda data: None)

    def fetch(number: int) -> int:
        fetched.expect(1000 if number == 20 else 40)
        with lock:
            held.add(number)
            most[0] = max(most[0], len(held))
        return number

    for number in fetched.each(fetch, range(50)):
        with lock:
            held.discard(number)
            assert len(held) <= 2
    assert most[0] <= 3


def test_what_fails_ahead_fails_in_its_turn(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.files(tmp_path / "in", {f"pics/a/{n}.png": photo(n) for n in range(9)})
    upload_folder(tmp_path / "in", "in")
    source = source_of(tmp_path, f"{HERE}pics/")
    (file,) = sources.expand(source)
    parts = list(readers.index_file(source, file, b"", None))
    proxy.fail(Fault("GET", r"pics/a/4\.png", status=403, code="AccessDenied"))
    batches = readers.read_cut(source, file, parts[0].cuts[0], parts[0].members, b"", None)
    for number in range(4):
        (record,) = next(batches).records
        assert isinstance(record, Raw) and record.data == photo(number)
    with pytest.raises(StorageError, match="need s3:GetObject"):
        next(batches)


@pytest.mark.parametrize(
    ("url", "reader", "error", "message"),
    [
        ("none/", "imagefolder", SourceFailed, "no object found"),
        ("pics/*/none/", "imagefolder", SourceFailed, "no object found"),
        ("notes/", "imagefolder", SourceFailed, "no file in it is one that imagefolder reads"),
        ("**/", "imagefolder", CatalogError, "name the top folder"),
        ("pics/a/*.png", "imagefolder", CatalogError, "give the folder in which the file lies"),
    ],
)
def test_folders_that_are_none(
    proxy: Proxy, tmp_path: Path, url: str, reader: str, error: type[Exception], message: str
) -> None:
    world.files(tmp_path / "in", {"pics/a/1.png": photo(1), "notes/a.txt": b"x"})
    upload_folder(tmp_path / "in", "in")
    source = source_of(tmp_path, HERE + url, reader)
    with pytest.raises(error, match=message):
        readers.check_fields(source, sources.expand(source))


def test_a_listing_that_is_not_sorted_is_refused(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from omni_ray.storage import s3

    there = [{"Key": f"in/pics/{name}.png", "Size": 1, "ETag": '"x"'} for name in "bac"]
    monkeypatch.setattr(s3, "list_objects", lambda bucket, prefix, after="": iter(there))
    with pytest.raises(StorageError, match="does not list in the order of keys"):
        list(sources.folder_members(source_of(tmp_path, f"{HERE}pics/"), InputFile(f"{HERE}pics/", 0, "")))
