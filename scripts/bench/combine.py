"""Combining committed blocks into the corpus and its index, against `cp` of the same two files to the same disk.

    python scripts/bench/combine.py --gb 1 --runs 5

Both end with the files on the disk (fsync; `sync FILE` after cp). The blocks are made in this process first.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from omni_ray.prepare import combine, status
from omni_ray.prepare.corpus_index import CORPUS, CORPUS_INDEX
from omni_ray.storage import open_storage
from scripts.bench import _measure, scale

CATALOG = """
[[source]]
name = "bench"
modality = "text"
category = "general"
url = "lines.txt"
reader = "lines"
license = "MIT"
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--line", type=int, default=550, help="bytes of a line, as gsm8k's")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = "words and more words of a line " * (arguments.line // 31 + 1)
        with (folder / "lines.txt").open("w") as stream:
            for number in range(int(arguments.gb * 1e9) // arguments.line):
                stream.write(f"{number:012d} {words}"[: arguments.line - 1] + "\n")
        (folder / "catalog.toml").write_text(CATALOG)
        scale.prepare_here(str(folder / "catalog.toml"), str(folder / "out"))
        ours, theirs = [], []
        for _ in range(arguments.runs):
            ours.append(combining(folder / "out"))
            theirs.append(copying(folder / "out", folder / "copy"))
        size = sum((folder / "out" / key).stat().st_size for key in (CORPUS, CORPUS_INDEX)) / 1e6
    ratio = statistics.median(their / our for our, their in zip(ours, theirs, strict=True))
    print(
        f"combine: {size:,.0f} MB: {_measure.spread([size / s for s in ours])} MB/s; cp and sync "
        f"{_measure.spread([size / s for s in theirs])} MB/s"
    )
    _measure.ratio("combine / cp", ratio, 0.7)
    return 0


def combining(out: Path) -> float:
    storage = open_storage(str(out))
    request = status.load_request(storage, "text")
    asked = status.asked_of(request, storage)
    states = status.load_states(storage, "text", asked)
    selection = status.current_selection(request, asked, states)
    storage.delete(CORPUS)
    began = time.perf_counter()
    assert combine.write_production(storage, states, selection, lambda work, tasks: iter(()))
    return time.perf_counter() - began


def copying(out: Path, target: Path) -> float:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    began = time.perf_counter()
    subprocess.run(["cp", out / CORPUS, out / CORPUS_INDEX, target], check=True)
    subprocess.run(["sync", *target.iterdir()], check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main())
