"""Archives that no tool would make: members that are not files or not where they say, bombs, headers that lie."""

import gzip
import io
import os
import struct
import subprocess
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from tests.prepare.hostile import files
from tests.prepare.hostile.client import Worker
from tests.prepare.hostile.run import prepare

FINE = b"a document with enough words"
MB = 1_000_000


def unsafe_tar() -> tuple[bytes, list[str]]:
    """An archive with one member of every kind that is never read, and their names."""
    plain = ["/etc/passwd.txt", "../up.txt", "a/../../up.txt", "..\\up.txt", "C:\\boot.txt", "//host/share.txt"]
    links = [
        ("sym.txt", tarfile.SYMTYPE), ("hard.txt", tarfile.LNKTYPE), ("char.txt", tarfile.CHRTYPE),
        ("block.txt", tarfile.BLKTYPE), ("fifo.txt", tarfile.FIFOTYPE), ("odd.txt", b"Z"),
    ]  # fmt: skip
    members = [(files.member_of(name, FINE), FINE) for name in ["first.txt", *plain]]
    members += [(files.link(name, kind, "/etc/passwd"), b"") for name, kind in links]
    members += [(files.member_of("last.txt", FINE), FINE)]
    return files.tar_of(members), [*plain, *(name for name, _ in links)]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_members_that_are_never_read(worker: Worker, tmp_path: Path, name: str) -> None:
    data, unsafe = unsafe_tar()
    (tmp_path / name).write_bytes(data if name == "a.tar" else gzip.compress(data))
    outcome = prepare(worker, tmp_path, name, "documents")
    assert outcome.rows_in == len(unsafe) + 2
    assert outcome.kept == 2
    assert outcome.quarantined == {"unsafe_member": len(unsafe)}
    assert [entry["member"] for entry in outcome.quarantine] == unsafe
    written = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert written == {name, "catalog.toml", "out"}


def test_members_of_a_zip_that_are_never_read(worker: Worker, tmp_path: Path) -> None:
    unsafe = ["/etc/passwd.txt", "../up.txt", "..\\up.txt", "C:\\boot.txt"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ["fine.txt", *unsafe]:
            info = zipfile.ZipInfo("x")
            info.filename = name
            archive.writestr(info, FINE)
        symlink = zipfile.ZipInfo("link.txt")
        symlink.external_attr = 0o120777 << 16
        archive.writestr(symlink, "/etc/passwd")
    outcome = prepare(worker, tmp_path, "a.zip", "documents")
    assert (outcome.rows_in, outcome.kept) == (6, 1)
    assert [entry["member"] for entry in outcome.quarantine] == [*unsafe, "link.txt"]
    assert outcome.quarantined == {"unsafe_member": 5}


def test_encrypted_members(worker: Worker, tmp_path: Path) -> None:
    data = bytearray(files.zipped({"a.txt": FINE, "secret.txt": FINE}, zipfile.ZIP_STORED))
    central = data.rindex(b"PK\x01\x02")  # of the second member
    data[central + 8] |= 1
    data[data.index(b"PK\x03\x04", 10) + 6] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    outcome = prepare(worker, tmp_path, "a.zip", "documents")
    assert (outcome.rows_in, outcome.kept) == (2, 1)
    assert [(entry["member"], entry["error"]) for entry in outcome.quarantine] == [("secret.txt", "encrypted")]


def test_two_members_of_one_name_are_two(worker: Worker, tmp_path: Path) -> None:
    contents = [FINE + b" one", FINE + b" two"]
    (tmp_path / "a.tar").write_bytes(files.tar_of([(files.member_of("a.txt", one), one) for one in contents]))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        for one in contents:
            archive.writestr("a.txt", one)
    for name in ("a.tar", "a.zip"):
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        (tmp_path / name).rename(folder / name)
        assert prepare(worker, folder, name, "documents").corpus == [one.decode() for one in contents]


def test_names_that_are_no_utf8(worker: Worker, tmp_path: Path) -> None:
    info = tarfile.TarInfo("caf\udce9.txt")
    info.size = len(FINE)
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(FINE))
        archive.addfile(files.link("lien\udce9.txt", tarfile.SYMTYPE))
    (tmp_path / "a.tar").write_bytes(sink.getvalue())
    outcome = prepare(worker, tmp_path, "a.tar", "documents")
    assert (outcome.kept, outcome.quarantined) == (1, {"unsafe_member": 1})
    data = files.zipped({"cafX.txt": FINE})
    flagged = bytearray(data.replace(b"cafX", b"caf\xe9"))
    flagged[6 + 1] |= 8  # says that the name is UTF-8
    flagged[flagged.index(b"PK\x01\x02") + 8 + 1] |= 8
    (tmp_path / "zip").mkdir()
    (tmp_path / "zip/a.zip").write_bytes(flagged)
    assert prepare(worker, tmp_path / "zip", "a.zip", "documents").quarantined == {"truncated": 1}


def header(size: bytes, name: bytes = b"a.txt", kind: bytes = b"0") -> bytes:
    """A ustar header with `size` as its field of 12 bytes."""
    block = bytearray(512)
    block[0 : len(name)] = name
    block[100:136] = b"0000644\0" + b"0000000\0" * 2 + size
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


SIZES = [  # what a header says of the size of 512 bytes of content
    (b"00000077777\0", "truncated"),  # more than there is
    (b"77777777777\0", "truncated"),
    (b"\xff" * 12, "truncated"),  # negative, so that the next header would be this one again
    (b"\x80" + b"\xff" * 11, "truncated"),  # more than any file holds
    (b"9999999999x\0", "truncated"),
]


@pytest.mark.parametrize(("size", "reason"), SIZES)
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_headers_that_lie_about_the_size(worker: Worker, tmp_path: Path, name: str, size: bytes, reason: str) -> None:
    data = files.tar({"first.txt": FINE})[:1024] + header(size) + FINE.ljust(512, b"\0") + b"\0" * 1024
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    outcome = prepare(worker, tmp_path, name, "documents")
    assert outcome.corpus == [FINE.decode()]
    assert outcome.rows_in == 2
    assert set(outcome.quarantined) <= {reason, "corrupt", "record_too_large"}


@pytest.mark.parametrize(
    ("kind", "there"),
    [(b"L", 100), (b"K", 100), (b"x", 100), (b"g", 100), pytest.param(b"L", 1500, marks=pytest.mark.slow)],
)
def test_a_header_that_would_be_read_into_memory(worker: Worker, tmp_path: Path, kind: bytes, there: int) -> None:
    """Gigabytes of a name or of a pax header; `there` MB of them really are."""
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as packed:
        packed.write(files.tar({"first.txt": FINE})[:1024] + header(b"%011o\0" % (2000 * MB), kind=kind))
        for _ in range(there):
            packed.write(bytes(MB))
    outcome = prepare(worker, tmp_path, "a.tar.gz", "documents")
    assert outcome.corpus == [FINE.decode()]
    assert outcome.quarantined == {"corrupt": 1}


def test_thousands_of_headers_for_one_member(worker: Worker, tmp_path: Path) -> None:
    chain = (header(b"%011o\0" % 6, kind=b"L") + b"a.txt\0".ljust(512, b"\0")) * 5000
    (tmp_path / "a.tar").write_bytes(files.tar({"first.txt": FINE})[:1024] + chain + bytes(1024))
    outcome = prepare(worker, tmp_path, "a.tar", "documents")
    assert outcome.corpus == [FINE.decode()]
    assert sum(outcome.quarantined.values()) == 1


@pytest.mark.parametrize("hole", [512, 4096])
def test_zeros_in_the_middle_do_not_end_an_archive_in_silence(worker: Worker, tmp_path: Path, hole: int) -> None:
    data = bytearray(files.tar(files.documents()))
    data[40 * 1024 : 40 * 1024 + hole] = bytes(hole)
    (tmp_path / "a.tar").write_bytes(data)
    outcome = prepare(worker, tmp_path, "a.tar", "documents")
    assert outcome.corpus == files.TEXTS[:40]
    assert outcome.quarantined == {"corrupt": 1}


def test_two_archives_in_one_file(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(files.tar({"a.txt": FINE}) + files.tar({"b.txt": FINE + b" two"}))
    outcome = prepare(worker, tmp_path, "a.tar", "documents")
    assert (outcome.kept, outcome.quarantined) == (1, {"corrupt": 1})


def lying_zip(field: int, value: int, size: int = 4) -> bytes:
    """A zip of two members whose central directory says something else of the first."""
    data = bytearray(files.zipped({"a.txt": FINE, "b.txt": FINE + b" too"}))
    at = data.index(b"PK\x01\x02") + field
    data[at : at + size] = value.to_bytes(size, "little")
    return bytes(data)


SEES_OVERLAPS = hasattr(zipfile.ZipInfo(), "_end_offset")  # later Pythons take members that overlap for a bomb

LIES = {
    "a size too small": lying_zip(24, 5),
    "a size too large": lying_zip(24, 500 * MB),
    "a packed size too large": lying_zip(20, 500),
    "an offset into another member": lying_zip(42, 9),
    "an offset behind the end": lying_zip(42, 1 << 31),
    "another checksum": lying_zip(16, 12345),
    "an unknown method": lying_zip(10, 77, 2),
    "a longer name": lying_zip(28, 60000, 2),
    "a longer extra field": lying_zip(30, 60000, 2),
    "a version to come": lying_zip(6, 255, 2),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_zip_whose_directory_lies(worker: Worker, tmp_path: Path, lie: str) -> None:
    (tmp_path / "a.zip").write_bytes(LIES[lie])
    outcome = prepare(worker, tmp_path, "a.zip", "documents")
    if lie == "a packed size too large" and not SEES_OVERLAPS:  # what inflates to the right checksum is what was packed
        assert (outcome.rows_in, outcome.kept) == (2, 2)
        return
    assert sum(outcome.quarantined.values()) == 1
    assert set(outcome.quarantined) <= {"corrupt", "truncated", "record_too_large"}
    assert outcome.corpus in ([FINE.decode() + " too"], [])
    assert outcome.rows_in == outcome.kept + 1


def test_a_zip_that_counts_more_members_than_it_has(worker: Worker, tmp_path: Path) -> None:
    data = bytearray(files.zipped({"a.txt": FINE}))
    end = data.index(b"PK\x05\x06")
    struct.pack_into("<HH", data, end + 8, 9999, 9999)
    (tmp_path / "a.zip").write_bytes(data)
    assert prepare(worker, tmp_path, "a.zip", "documents").rows_in == 1


BOMBS = {
    "gz": ("a.txt.gz", "lines", lambda text: gzip.compress(text)),
    "zip": ("a.zip", "lines", lambda text: files.zipped({"a.txt": text})),
    "zip lzma": ("a.zip", "lines", lambda text: files.zipped({"a.txt": text}, zipfile.ZIP_LZMA)),
    "tar.gz": ("a.tar.gz", "lines", lambda text: gzip.compress(files.tar({"a.txt": text}))),
    "csv.gz": ("a.csv.gz", "table", lambda text: gzip.compress(b"words\n" + text)),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_thousandfold_of_lines(worker: Worker, tmp_path: Path, kind: str) -> None:
    """Lines of a megabyte that are one word, and too short for the rule."""
    name, reader, pack = BOMBS[kind]
    line = b"w" * (MB - 1) + b"\n"
    data = pack(line * 60)
    assert len(data) < 60_000 * 1.05
    (tmp_path / name).write_bytes(data)
    outcome = prepare(worker, tmp_path, name, reader, "rules = { min_chars = 1000000 }")
    assert (outcome.rows_in, outcome.dropped) == (60, {"min_chars": 60})


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.long if kind == "zip lzma" else []) for kind in BOMBS]
)
def test_a_thousandfold_of_nothing(worker: Worker, tmp_path: Path, kind: str) -> None:
    name, reader, pack = BOMBS[kind]
    size = 1200 if kind in ("gz", "zip lzma") else 200  # MB; more than a worker may hold
    (tmp_path / name).write_bytes(pack(bytes(size * MB)))
    outcome = prepare(worker, tmp_path, name, reader)
    assert (outcome.rows_in, outcome.quarantined) == (1, {"record_too_large": 1})


def test_bzip2_in_a_zip_is_not_unpacked(worker: Worker, tmp_path: Path) -> None:
    """Four kilobytes of it may be gigabytes, and zipfile gives them in one piece."""
    (tmp_path / "a.zip").write_bytes(files.zipped({"a.txt": FINE, "b.txt": FINE}, zipfile.ZIP_BZIP2))
    assert prepare(worker, tmp_path, "a.zip", "documents").quarantined == {"unknown_format": 2}


def test_gzip_in_gzip(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(gzip.compress(FINE * 100)))
    outcome = prepare(worker, tmp_path, "a.txt.gz", "lines")
    assert outcome.kept == 0
    assert set(outcome.quarantined) <= {"undecodable"}
    assert outcome.rows_in >= 1


def test_gzip_of_several_streams_and_padding(worker: Worker, tmp_path: Path) -> None:
    parts = [gzip.compress(f"{text}\n".encode()) for text in files.TEXTS]
    (tmp_path / "a.txt.gz").write_bytes(b"".join(parts) + bytes(1000))
    assert prepare(worker, tmp_path, "a.txt.gz", "lines").corpus == files.TEXTS
    (tmp_path / "b").mkdir()
    (tmp_path / "b/a.txt.gz").write_bytes(b"".join(parts)[:-7])
    outcome = prepare(worker, tmp_path / "b", "a.txt.gz", "lines")
    assert outcome.corpus == files.TEXTS
    assert outcome.quarantined == {"truncated": 1}


def stored_gzip(data: bytes) -> bytes:
    """Gzip whose content stands in it as it is."""
    return gzip.compress(data, compresslevel=0, mtime=0)


@pytest.mark.parametrize("where", ["content", "checksum", "length", "tail"])
def test_damage_that_only_the_checksum_shows(worker: Worker, tmp_path: Path, where: str) -> None:
    data = bytearray(stored_gzip("\n".join(files.TEXTS).encode()))
    if where == "tail":
        data += b"something behind it"
    else:
        data[{"content": data.index(b"number 50"), "checksum": -8, "length": -3}[where]] ^= 1
    (tmp_path / "a.txt.gz").write_bytes(data)
    outcome = prepare(worker, tmp_path, "a.txt.gz", "lines", "block_bytes = 1024")
    assert len(outcome.corpus) == 99  # the last line has no end before the damage
    assert outcome.quarantined == {"corrupt": 1}


def test_a_gzip_document_longer_than_a_block_is_one(worker: Worker, tmp_path: Path) -> None:
    text = " ".join(files.TEXTS)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    outcome = prepare(worker, tmp_path, "a.txt.gz", "documents", "block_bytes = 1024")
    assert (outcome.rows_in, outcome.kept) == (1, 1)
    assert " ".join(outcome.corpus) == text


def test_a_zip_of_twenty_thousand_members(worker: Worker, tmp_path: Path) -> None:
    """Its directory is read once for each block, not once for each member."""
    members = {f"d/{number}.txt": b"document number %d of many" % number for number in range(20_000)}
    (tmp_path / "a.zip").write_bytes(files.zipped(members, zipfile.ZIP_STORED))
    outcome = prepare(worker, tmp_path, "a.zip", "documents")
    assert outcome.corpus == [one.decode() for one in members.values()]


def test_crc_helpers_are_right() -> None:
    assert zlib.decompress(stored_gzip(b"x" * 9), 31) == b"x" * 9
    assert subprocess.run(["gzip", "-t"], input=stored_gzip(b"x"), check=True).returncode == os.EX_OK
