"""Writing small files durably, as decoded blocks of pictures are written, beside plain loops.

    python scripts/bench/small_files.py --folder /a/folder/on/the/disk

Three ways write the same files and end when they would survive a loss of power: `staged` is the storage's, in
commits of `--together` files (about a block of photos), each of which is durable and visible when it returns; `one
sync` opens, writes and closes every file and has the file system flushed once at the end, so that nothing is durable
before; `fsync each` makes one file durable after the other. The file system is flushed before each, untimed.
"""

import argparse
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from omni_ray.storage import open_storage
from scripts.bench import _measure

TARGET = 0.9  # of one sync at the end, which promises less
Write = Callable[[Path, list[bytes], int], None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="on the file system to be measured (default: that of temp files)")
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--bytes", type=int, default=33_000, help="of a file")
    parser.add_argument("--together", type=int, default=150, help="files of one commit")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    dice = random.Random(0)
    contents = [dice.randbytes(arguments.bytes) for _ in range(arguments.files)]
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as top:
        for number in range(arguments.runs):
            for name in list(WAYS)[number % len(WAYS) :] + list(WAYS)[: number % len(WAYS)]:
                out = Path(top, "out")
                out.mkdir()
                os.sync()
                began = time.perf_counter()
                WAYS[name](out, contents, arguments.together)
                seconds[name].append(time.perf_counter() - began)
                found = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
                assert found == arguments.files * arguments.bytes, name
                shutil.rmtree(out)
    report(seconds, arguments.files, arguments.bytes)
    return 0


def report(seconds: dict[str, list[float]], files: int, size: int) -> None:
    ratios = {
        name: statistics.median(theirs / ours for ours, theirs in zip(seconds["staged"], taken, strict=True))
        for name, taken in seconds.items()
    }
    print(f"{files} files of {size} bytes, {len(seconds['staged'])} rounds: median [smallest, largest]")
    print("| way | files/s | MB/s | staged / it |\n|---|---|---|---|")
    for name, taken in seconds.items():
        rates = [files / one for one in taken]
        mb = statistics.median(rates) * size / 1e6
        print(f"| {name} | {_measure.spread(rates)} | {mb:.0f} | {ratios[name]:.2f} |")
    _measure.ratio("small files, staged / plain loop with one sync", ratios["one sync"], TARGET)


def staged(out: Path, contents: list[bytes], together: int) -> None:
    storage = open_storage(str(out))
    for start in range(0, len(contents), together):
        block = contents[start : start + together]
        many = storage.staged_many({f"all/{start}/{number}.jpg": data for number, data in enumerate(block)}, "all")
        many.commit()


def one_sync(out: Path, contents: list[bytes], together: int) -> None:
    plain(out, contents, together, sync=False)
    os.sync()


def fsync_each(out: Path, contents: list[bytes], together: int) -> None:
    plain(out, contents, together, sync=True)
    os.sync()


def plain(out: Path, contents: list[bytes], together: int, sync: bool) -> None:
    for number, data in enumerate(contents):
        if number % together == 0:
            folder = out / str(number)
            folder.mkdir()
        with (folder / f"{number}.jpg").open("wb") as stream:
            stream.write(data)
            if sync:
                stream.flush()
                os.fsync(stream.fileno())


WAYS: dict[str, Write] = {"staged": staged, "one sync": one_sync, "fsync each": fsync_each}

if __name__ == "__main__":
    raise SystemExit(main())
