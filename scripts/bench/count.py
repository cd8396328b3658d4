"""How fast samples are counted, on one core from the page cache, beside `wc -l` and plain Python.

    python scripts/bench/count.py [--mb 512] [--folder /tmp]

Writes files of lines, CSV records (some with quoted newlines) and JSON entries, and counts each: the best of three, by
the clock and by CPU time, which other programs on the machine disturb less. All counts must agree with how many were
written; exit code 1 where one does not.
"""

import argparse
import csv
import io
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from omni_ray.counting import count_csv_records, count_json_entries, count_lines
from scripts.bench import _measure

ITEMS = 20_000  # that are made; a file repeats them
WORDS = [
    "the",
    "of",
    "and",
    "a",
    "in",
    "is",
    "it",
    "to",
    "was",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "lazy",
    "dog",
    "naïve",
    "café",
    "42",
    "3.14",
]


class Format(NamedTuple):
    """A file format: how a file begins, what parts its blocks, how it ends, and who counts it."""

    name: str
    items: Callable[[random.Random], str]
    start: str
    between: str
    end: str
    counter: Callable[[BinaryIO, str], int]
    others: dict[str, Callable[[Path], int]]


def sentence(dice: random.Random, most: int) -> str:
    return " ".join(dice.choices(WORDS, k=dice.randint(3, most)))


def lines(dice: random.Random) -> str:
    return "".join(f"{sentence(dice, 80)}\n" for _ in range(ITEMS))


def records(dice: random.Random) -> str:
    """One in seven texts holds quotes and a comma, one in eleven a newline."""
    sink = io.StringIO(newline="")
    for number in range(ITEMS):
        text = sentence(dice, 30)
        text = f'she said "{text}", then left' if number % 7 == 0 else text
        text = f"{text}\n{text}" if number % 11 == 0 else text
        csv.writer(sink).writerow([f"data/audio/corpus/{number:06}.flac", text])
    return sink.getvalue()


def entries(dice: random.Random) -> str:
    """As prepare writes them: an object a line; one in seven captions holds quotes and brackets."""
    made = []
    for number in range(ITEMS):
        caption = sentence(dice, 20)
        caption = f'a sign that reads "[{caption}]"' if number % 7 == 0 else caption
        entry = {"image": f"corpus/{number // 100:03}/{number:06}.jpg", "caption": caption, "category": "general"}
        made.append(json.dumps(entry, ensure_ascii=False))
    return ",\n".join(made)


def wc(path: Path) -> int:
    return int(subprocess.run(["wc", "-l", path], capture_output=True, text=True, check=True).stdout.split()[0])


def loop_lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(1 for line in stream if line.rstrip(b"\r\n"))


def loop_records(path: Path) -> int:
    with path.open(encoding="utf-8", newline="") as stream:
        return sum(1 for row in csv.reader(stream) if row) - 1


def load_entries(path: Path) -> int:
    with path.open(encoding="utf-8") as stream:
        return len(json.load(stream))


FORMATS = [
    Format("lines", lines, "", "", "", count_lines, {"wc -l": wc, "Python loop": loop_lines}),
    Format(
        "CSV records", records, "wav,text\r\n", "", "", partial(count_csv_records, header="wav,text"),
        {"csv.reader loop": loop_records},
    ),
    Format("JSON entries", entries, "[\n", ",\n", "\n]\n", count_json_entries, {"json.load": load_entries}),
]  # fmt: skip


TARGETS = {"lines": 1000, "CSV records": 300, "JSON entries": 300}  # MB/s


def write(path: Path, form: Format, size: int) -> int:
    """Write about `size` bytes; the number of items in them."""
    block = form.items(random.Random(0))
    blocks = max(1, size // len(block.encode()))
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write(form.start)
        for number in range(blocks):
            stream.write(form.between * (number > 0) + block)
        stream.write(form.end)
    return blocks * ITEMS


def cpu_seconds() -> float:
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def best(action: Callable[[], int]) -> tuple[float, float, int]:
    """Seconds by the clock and of CPU, children's too, each the best of three; and the result."""
    clock, cpu = [], []
    for _ in range(3):
        began, spent = time.perf_counter(), cpu_seconds()
        found = action()
        clock.append(time.perf_counter() - began)
        cpu.append(cpu_seconds() - spent)
    return min(clock), min(cpu), found


def count_file(path: Path, form: Format) -> int:
    with path.open("rb") as stream:
        return form.counter(stream, path.name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=512, help="size of each file (default: 512)")
    parser.add_argument("--folder", help="where to write them (default: the system's temporary folder)")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    wrong = 0
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        paths = [Path(folder, form.name.replace(" ", "-")) for form in FORMATS]
        written = [write(path, form, arguments.mb * 10**6) for path, form in zip(paths, FORMATS, strict=True)]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        ours = [best(partial(count_file, path, form)) for path, form in zip(paths, FORMATS, strict=True)]
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for path, form, count, own in zip(paths, FORMATS, written, ours, strict=True):
            size = path.stat().st_size
            print(f"{form.name}: {count:,} in {size / 1e6:,.0f} MB")
            measured = {"omni_ray": own} | {name: best(partial(other, path)) for name, other in form.others.items()}
            for name, (clock, cpu, found) in measured.items():
                wrong += found != count
                agrees = "" if found == count else f"  WRONG: counts {found:,}"
                rates = f"{size / clock / 1e6:>8,.0f} MB/s by the clock  {size / cpu / 1e6:>8,.0f} MB per CPU second"
                print(f"  {name:<16} {rates}{agrees}", flush=True)
            target = TARGETS[form.name]
            _measure.ratio(f"counting {form.name} / {target} MB/s", size / own[0] / 1e6 / target, 1)
    print(f"peak memory {after / 1e3:,.0f} MB, of which counting added {(after - before) / 1e3:,.0f} MB")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
