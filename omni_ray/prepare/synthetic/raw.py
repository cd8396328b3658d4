"""The raw files of the synthetic text sources: four layouts, with the flaws that downloaded data has.

Each file holds repeated records, records that a rule drops and a few that cannot be decoded, so that a run over them
shows every outcome. `text_sources` describes them as any catalog would.
"""

import csv
import gzip
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omni_ray.catalog import Catalog, Modality, Reader, Source
from omni_ray.prepare.synthetic import text
from omni_ray.prepare.synthetic.dice import Dice
from omni_ray.prepare.synthetic.problems import problem, tool_call
from omni_ray.storage import Storage

BLOCK_BYTES = 256 << 10  # small, so that a run of a few seconds has many blocks
LICENSE = "CC0-1.0"
BUILT_IN = "built in"  # where the sources are defined, instead of a catalog file
DOCUMENTS, DIALOGUES, PROBLEMS, CALLS = 400, 3000, 4000, 3500  # records of the four sources
_REPEATED = 97  # every so many records one comes again
_SHORT = 211  # ... one is too short to be a sample
_SYMBOLS = 307  # ... one is hardly text
_BROKEN = 997  # ... one cannot be decoded
_NOT_UTF8 = b"caf\xe9 "  # Latin-1


def write_raw_text(storage: Storage, prefix: str, seed: int = 0) -> None:
    """Write the raw files below the folder `prefix`; those that are there already are left untouched.

    A file is complete as soon as it has its name, and its name tells its seed, so what is there is what is wanted.
    """
    for name, build in _FILES.items():
        key = f"{prefix}/{file_name(name, seed)}"
        if not storage.exists(key):
            storage.create(key, build(seed))


def text_keys(prefix: str, seed: int = 0) -> list[str]:
    """The raw files below the folder `prefix`."""
    return [f"{prefix}/{file_name(name, seed)}" for name in _FILES]


def text_sources(folder: str, seed: int = 0) -> Catalog:
    """The four sources over the raw files in `folder` (a path or s3://), one for each category of text."""
    dialogue, worked = "{dialogue}", "Question: {question} Answer: {answer}"
    return Catalog(
        sources=(
            built_in(folder, seed, "text", "general", "documents", "documents.tar.gz", {}),
            built_in(folder, seed, "text", "conversations", "table", "dialogues.csv", {"fields": {"text": dialogue}}),
            built_in(folder, seed, "text", "scientific", "table", "problems.jsonl", {"fields": {"text": worked}}),
            built_in(folder, seed, "text", "tools", "lines", "calls.txt", {}),
        )
    )


def built_in(
    folder: str,
    seed: int,
    modality: Modality,
    category: str,
    reader: Reader,
    file: str,
    more: Mapping[str, Any],
    block_bytes: int = BLOCK_BYTES,
) -> Source:
    """A source in the file `file` of the seed's, below `folder`; `more` are its other settings."""
    remote = "://" in folder
    return Source(
        name=f"synthetic_{category}",
        modality=modality,
        category=category,
        url=(f"{folder}/{file_name(file, seed)}" if remote else file_name(file, seed),),
        reader=reader,
        license=LICENSE,
        base=Path() if remote else Path(folder),
        defined_in=BUILT_IN,
        block_bytes=block_bytes,
        **more,
    )


def file_name(name: str, seed: int) -> str:
    """A file's name with the seed in it."""
    stem, dot, suffix = name.partition(".")
    return f"{stem}-{seed}{dot}{suffix}"


def _documents(seed: int) -> bytes:
    """A tar.gz of documents, one of ten longer than a line of the corpus may be."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for number in range(DOCUMENTS):
            dice = Dice(seed, 0, 1, number if number % _REPEATED else 0)
            content = text.document(dice, 24 if number % 10 == 0 else dice.number(2, 6)).encode()
            if number == 7:
                content = b"Soon.\n"
            if number in (11, DOCUMENTS - 3):
                content = _NOT_UTF8 + content
            member = tarfile.TarInfo(f"documents/{number // 100}/{number:04d}.txt")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(stream.getvalue(), compresslevel=6, mtime=0)


def _dialogues(seed: int) -> bytes:
    """A CSV whose dialogues are quoted and run over several lines."""
    rows = [_row(["id", "dialogue", "turns"])]
    for number in range(DIALOGUES):
        turns = text.dialogue(Dice(seed, 0, 2, _repeating(number)))
        words = "\n".join(f"{speaker}: {said}" for speaker, said in turns)
        row = _row([f"{number}", _flawed(number, words), f"{len(turns)}"])
        rows.append(row.replace(b'"', b'"' + _NOT_UTF8, 1) if _is_broken(number) else row)
    return b"".join(rows)


def _row(cells: list[str]) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerow(cells)
    return stream.getvalue().encode()


def _problems(seed: int) -> bytes:
    """JSON lines, a few of them cut short."""
    lines = []
    for number in range(PROBLEMS):
        question, answer = problem(Dice(seed, 0, 3, _repeating(number)))
        line = json.dumps({"question": question, "answer": answer}, ensure_ascii=False).encode()
        lines.append(line[: len(line) // 2] if _is_broken(number) else line)
    return b"\n".join([*lines, b""])


def _calls(seed: int) -> bytes:
    """Plain lines, with blank ones between."""
    lines = []
    for number in range(CALLS):
        line = _flawed(number, tool_call(Dice(seed, 0, 4, _repeating(number)))).encode()
        lines.append(_NOT_UTF8 + line if _is_broken(number) else line)
        if number % 50 == 49:
            lines.append(b"")
    return b"\n".join([*lines, b""])


def _repeating(number: int) -> int:
    """The number of the stream of a record: its own, or that of an earlier record which it repeats."""
    return number // 2 if number % _REPEATED == _REPEATED - 1 else number


def _flawed(number: int, record: str) -> str:
    if number % _SHORT == _SHORT - 1:
        return "ok"
    return "-=*=- " * 12 if number % _SYMBOLS == _SYMBOLS - 1 else record


def _is_broken(number: int) -> bool:
    return number % _BROKEN == _BROKEN - 1


_FILES: dict[str, Callable[[int], bytes]] = {
    "documents.tar.gz": _documents,
    "dialogues.csv": _dialogues,
    "problems.jsonl": _problems,
    "calls.txt": _calls,
}
