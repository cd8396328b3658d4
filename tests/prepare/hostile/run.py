"""Preparing one hostile file as a user would, and what must hold of any such file."""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from tests.prepare.hostile.client import Worker

MEMORY_MB = 1000  # of the process that reads, decodes, commits, combines and verifies
ENTRY = """[[source]]
name = "s"
modality = "text"
category = "general"
url = "{url}"
reader = "{reader}"
license = "MIT"
{more}
{fields}"""


class Outcome(NamedTuple):
    """Counts of all records of the file."""

    rows_in: int
    kept: int
    dropped: dict[str, int]
    quarantined: dict[str, int]  # by reason
    corpus: list[str]  # the lines of the production file
    quarantine: list[dict[str, Any]]
    peak_mb: float


def write_catalog(folder: Path, url: str, reader: str, more: str = "") -> Path:
    fields = '[source.fields]\ntext = "{words}"\n' if reader == "table" else ""
    catalog = folder / "catalog.toml"
    catalog.write_text(ENTRY.format(url=url, reader=reader, more=more, fields=fields))
    return catalog


def prepare(worker: Worker, folder: Path, name: str, reader: str, more: str = "", **job: int) -> Outcome:
    """Run the whole command on `folder / name`. It must end well, account for every record, verify, and stay small."""
    catalog = write_catalog(folder, name, reader, more)
    out = folder / "out"
    answer = worker.ask(action="prepare", catalog=str(catalog), out=str(out), arguments=[], **job)
    assert answer["code"] == 0, answer["errors"]
    assert answer["problems"] == []
    dropped = answer["dropped"]
    assert answer["rows_in"] == answer["kept"] + sum(dropped.values()) + answer["quarantined"]
    reasons = Counter(entry["reason"] for entry in answer["quarantine"])
    assert answer["quarantined"] == reasons.total()
    for entry in answer["quarantine"]:
        assert entry["file"] == name
        assert entry["error"]
    assert answer["peak_mb"] < MEMORY_MB, answer["peak_mb"]
    corpus = (out / "text/production_corpus.txt").read_text(encoding="utf-8")
    assert "\r" not in corpus
    return Outcome(
        answer["rows_in"],
        answer["kept"],
        dropped,
        dict(reasons),
        corpus.split("\n")[:-1],
        answer["quarantine"],
        answer["peak_mb"],
    )
