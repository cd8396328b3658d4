"""Memory and time of one worker over a folder of many files and a manifest that describes each, in random order.

    python scripts/bench/labels.py --rows 10000000

The files are made up: nothing but the table of members that an index pass would leave, and a manifest on disk.
"""

import argparse
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import omni_ray.blocks  # noqa: F401 - what a Ray worker has in memory too
from omni_ray.catalog import Source
from omni_ray.prepare import store
from omni_ray.prepare.readers.index import FOLDER_PART
from omni_ray.prepare.readers.members import MemberTable
from omni_ray.prepare.readers.shelf import Shelf
from omni_ray.prepare.records import Member, Raw

WORDS = ["dog", "rain", "baby", "clock", "sneeze", "helicopter", "chainsaw", "rooster", "fire", "thunder"]
ASKED = 2000  # files in a row, as in a block


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder, "list.csv")
        write_manifest(manifest, rows)
        parts = encoded_members(rows, manifest.stat().st_size)
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        print(f"{rows:,} rows, {manifest.stat().st_size / 1e6:,.0f} MB of CSV; a process of {peak_gb():.2f} GB")
        measure(manifest, parts, rows)


def name_of(row: int) -> str:
    return f"{row % 7}-{row:09d}-A-{row % 50}.wav"


def write_manifest(path: Path, rows: int) -> None:
    order = list(range(rows))
    random.Random(0).shuffle(order)
    with path.open("w") as stream:
        stream.write("filename,fold,target,label\n")
        for row in order:
            label = f"{WORDS[row % 10]} {WORDS[row // 10 % 10]} {row % 977}"
            stream.write(f"{name_of(row)},{row % 5},{row % 50},{label}\n")


def encoded_members(rows: int, manifest_bytes: int) -> list[bytes]:
    names = (f"audio/{name_of(row)}" for part in range(7) for row in range(part, rows, 7))
    files = (Member(name, 1_790_000_000_000_000_000, 100_000) for name in names)
    listed = itertools.chain(files, [Member("meta/list.csv", 1, manifest_bytes)])
    parts = []
    while part := list(itertools.islice(listed, FOLDER_PART)):
        parts.append(store.encode_members(part))
    return parts


def measure(manifest: Path, parts: list[bytes], rows: int) -> None:
    @contextmanager
    def open_(member: Member) -> Iterator[BinaryIO]:
        with manifest.open("rb") as stream:
            yield stream

    entry: dict[str, object] = {"name": "s", "modality": "audio", "category": "general", "url": ("x/",)}
    entry |= {"reader": "files", "manifest": "meta/list.csv", "path": "audio/{filename}", "license": "MIT"}
    source = Source.model_validate({**entry, "fields": {"text": "{label}"}})
    table = MemberTable([group for part in parts for group in store.member_groups(part, "members")], unique=True)
    shelf = Shelf(source, table, lambda member: b"sound", open_)
    began = time.monotonic()
    assert isinstance(next(shelf.records(0)), Raw)
    print(f"the first file: {time.monotonic() - began:.1f} s, at most {peak_gb():.2f} GB")
    began = time.monotonic()
    found = [one for row in range(rows // 2, rows // 2 + ASKED) for one in shelf.records(row)]
    assert len(found) == ASKED and all(isinstance(one, Raw) for one in found)
    print(f"each further one: {(time.monotonic() - began) / ASKED * 1000:.2f} ms")
    began = time.monotonic()
    assert not list(shelf.records(rows))
    print(f"files that are missing: {time.monotonic() - began:.1f} s, at most {peak_gb():.2f} GB")


def peak_gb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


if __name__ == "__main__":
    main()
