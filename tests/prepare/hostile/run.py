"""Preparing one hostile file as a user would, and what must hold of any such file."""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from tests.prepare.hostile.client import Worker
from tests.prepare.media import world

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
    corpus: list[str]  # the lines of the production file; of sounds and pictures what is said of each
    quarantine: list[dict[str, Any]]
    peak_mb: float


def write_catalog(folder: Path, url: str, reader: str, more: str = "") -> Path:
    fields = '[source.fields]\ntext = "{words}"\n' if reader == "table" else ""
    catalog = folder / "catalog.toml"
    catalog.write_text(ENTRY.format(url=url, reader=reader, more=more, fields=fields))
    return catalog


def prepare(worker: Worker, folder: Path, name: str, reader: str, more: str = "", **job: int) -> Outcome:
    """Run the whole command on `folder / name`. It must end well, account for every record, verify, and stay small."""
    outcome = _outcome(worker, folder, write_catalog(folder, name, reader, more), name, **job)
    corpus = (folder / "out/text/production_corpus.txt").read_text(encoding="utf-8")
    assert "\r" not in corpus
    return outcome._replace(corpus=corpus.split("\n")[:-1])


def prepare_media(worker: Worker, folder: Path, modality: str, name: str, reader: str, more: str) -> Outcome:
    """The same for sounds and pictures; `name` may be that of a folder."""
    catalog = world.catalog(folder, world.entry("s", modality, name, reader, more))
    file = f"{name}/" if (folder / name).is_dir() else name
    outcome = _outcome(worker, folder, catalog, file, modality=modality)
    rows = world.index(folder / "out", "asr" if modality == "audio" else "annotations")
    return outcome._replace(corpus=[str(row["text"]) for row in rows])


def _outcome(worker: Worker, folder: Path, catalog: Path, name: str, **job: int | str) -> Outcome:
    answer = worker.ask(action="prepare", catalog=str(catalog), out=str(folder / "out"), arguments=[], **job)
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
    return Outcome(
        answer["rows_in"],
        answer["kept"],
        dropped,
        dict(reasons),
        [],
        answer["quarantine"],
        answer["peak_mb"],
    )
