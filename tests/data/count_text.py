"""Count by hand what preparing a text catalog must give: `python tests/data/count_text.py tests/data/shared_text.toml`.

Written from the contract alone and shares nothing with omni_ray, so that agreement means something. Prints JSON: per
source what becomes of its records, and overall what is unique. How an over-long record is split is not counted here,
only how many there are and their characters other than spaces, which splitting keeps: `lines`, `bytes` and what is
unique speak of the records that fit on one line. A second argument names a file for the unique lines, in order.
"""

import json
import re
import sys
import tarfile
import tomllib
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet

MIN_CHARS, MAX_LINE_CHARS, MAX_SYMBOL_RATIO = 8, 4000, 0.5


def raw_records(path, reader):
    """Each record of a file: bytes of text, or a dict of columns; bytes of JSON for jsonl."""
    if path.endswith(".tar.gz"):
        with tarfile.open(path) as archive:
            yield from (archive.extractfile(member).read() for member in archive if member.isfile())
    elif path.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist() if not name.endswith("/"))
    elif path.endswith(".parquet"):
        yield from pyarrow.parquet.read_table(path).to_pylist()
    elif reader == "documents":
        yield Path(path).read_bytes()
    else:
        yield from (line for line in Path(path).read_bytes().split(b"\n") if line.strip())


def text_of(record, path, source):
    """The text of a record, its template filled in."""
    if isinstance(record, bytes):
        record = record.decode(source.get("encoding", "utf-8"))
        if not path.endswith(".jsonl"):
            return record
        record = json.loads(record)

    def column(match):
        value = record
        for name in match[1].split("."):
            value = value[name]
        return value

    return re.sub(r"\{([^{}]+)\}", column, source["fields"]["text"])


def clean(text):
    text = unicodedata.normalize("NFC", text)
    text = "".join(c for c in text if c.isspace() or unicodedata.category(c) != "Cc")
    return " ".join(text.split())


def main(catalog, lines_to=None):
    sources, seen, size = {}, {}, 0
    for source in tomllib.loads(catalog.read_text())["source"]:
        count = Counter(rows_in=0, kept=0, lines=0, bytes=0, duplicates=0, over_long=0, over_long_nonspace_chars=0)
        dropped, quarantined = Counter(), Counter()
        place = catalog.parent / source["url"]
        for path in sorted(str(path) for path in place.parent.glob(place.name)):
            for record in raw_records(path, source["reader"]):
                count["rows_in"] += 1
                try:
                    line = clean(text_of(record, path, source))
                except (UnicodeDecodeError, json.JSONDecodeError) as error:
                    quarantined[type(error).__name__] += 1
                    continue
                marks = [c for c in line if c != " "]
                symbols = sum(unicodedata.category(c)[0] not in "LMN" for c in marks)
                if len(line) < MIN_CHARS:
                    dropped["min_chars"] += 1
                    continue
                if symbols > MAX_SYMBOL_RATIO * len(marks):
                    dropped["max_symbol_ratio"] += 1
                    continue
                count["kept"] += 1
                if len(line) > MAX_LINE_CHARS:
                    count.update(over_long=1, over_long_nonspace_chars=len(marks))
                    continue
                count.update(lines=1, bytes=len(line.encode()) + 1, duplicates=int(line in seen))
                size += 0 if line in seen else len(line.encode()) + 1
                seen[line] = None
        assert count["rows_in"] == count["kept"] + dropped.total() + quarantined.total()
        sources[source["name"]] = {**count, "dropped": dict(dropped), "quarantined": dict(quarantined)}
    if lines_to:
        Path(lines_to).write_text("".join(f"{line}\n" for line in seen), encoding="utf-8", newline="\n")
    print(json.dumps({"sources": sources, "unique_lines": len(seen), "unique_bytes": size}, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
