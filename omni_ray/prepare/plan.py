"""Planning, pure: which blocks a source has, what to do next, and whether what exists still fits what is asked.

A block's id is made of the file's path and the cut, and never changes while the source does not. Canonical order is
that of the files in the plan, then of the cuts in a file.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from omni_ray.prepare.records import Cut, Cuts, InputFile

FORMAT_VERSION = 2  # of what a decoded block is; raised whenever the same input would give other bytes

_INDEX = "index-"


class SourcePlan(msgspec.Struct, frozen=True):
    """What can change a block's bytes, and the source's files at their pinned revisions, in canonical order."""

    settings: dict[str, Any]
    files: list[InputFile]

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.settings)


class Place(NamedTuple):
    """Where a block stands in the canonical order: the number of its file, and of its cut in that file."""

    file: int
    cut: int


CutsOf = Callable[[InputFile], Cuts | None]  # None where a file's index pass is not finished


class IndexTask(NamedTuple):
    file: InputFile


class DecodeTask(NamedTuple):
    file: InputFile
    cut: Cut


def make_plan(settings: Mapping[str, Any], files: Iterable[InputFile]) -> SourcePlan:
    return SourcePlan({**settings, "format_version": FORMAT_VERSION}, list(files))


def fingerprint(value: Any) -> str:
    """32 hex digits of a JSON value; the order of keys does not matter, the order of lists does."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@lru_cache(maxsize=1 << 12)
def file_id(path: str) -> str:
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def index_id(path: str) -> str:
    """The id under which the index pass of a file keeps its receipts."""
    return f"{_INDEX}{file_id(path)}"


def is_index(block: str) -> bool:
    """Whether an id is that of an index pass."""
    return block.startswith(_INDEX)


def block_id(path: str, cut: Cut) -> str:
    member = f"-{file_id(cut.member)}" if cut.member else ""
    return f"{file_id(path)}{member}-{cut.unit}-{cut.start:x}"


def output_tag(settings: str, file: InputFile) -> str:
    """Part of an output's name that differs whenever settings or revision do."""
    return fingerprint([settings, file.size, file.revision])[:8]


def settings_differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Lines `key: old -> new` for every setting that differs."""
    lines: list[str] = []
    for key in sorted(old.keys() | new.keys()):
        name = f"{prefix}{key}"
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += settings_differences(before, after, f"{name}.")
        elif before != after:
            lines.append(f"{name}: {_shown(before)} -> {_shown(after)}")
    return lines


def file_differences(old: Iterable[InputFile], new: Iterable[InputFile]) -> dict[str, list[str]]:
    """For every file that was added, removed or changed: the lines that say how."""
    before = {file.path: file for file in old}
    after = {file.path: file for file in new}
    found: dict[str, list[str]] = {}
    for path in sorted(before.keys() | after.keys()):
        was, now = before.get(path), after.get(path)
        if was is None:
            found[path] = [f"file {path}: new"]
        elif now is None:
            found[path] = [f"file {path}: gone"]
        elif was != now:
            found[path] = [
                f"file {path}: {name}: {getattr(was, name)} -> {getattr(now, name)}"
                for name in ("size", "revision")
                if getattr(was, name) != getattr(now, name)
            ]
    return found


def blocks_of(file: InputFile, cuts: Iterable[Cut]) -> Iterator[tuple[str, Cut]]:
    return ((block_id(file.path, cut), cut) for cut in cuts)


def blocks_from(
    files: Sequence[InputFile], cuts_of: CutsOf, start: Place
) -> Iterator[tuple[Place, InputFile, Cut | None]]:
    """Every block from `start` on in canonical order; a None stands for those of a file whose cuts are not known."""
    for number in range(start.file, len(files)):
        file = files[number]
        cuts = cuts_of(file)
        if cuts is None:
            yield Place(number, 0), file, None
            continue
        for index in range(start.cut if number == start.file else 0, len(cuts)):
            yield Place(number, index), file, cuts[index]


def next_tasks(
    blocks: Iterable[tuple[Place, InputFile, Cut | None]],
    done: Callable[[str], bool],
    need_bytes: int | None,
    yield_ratio: float,
    least: int,
    most: int,
) -> Iterator[IndexTask | DecodeTask]:
    """The next things to do for a source that lacks `need_bytes` of samples (None: everything).

    Args:
        blocks: as `blocks_from` gives them; all before them are done.
        done: whether a block has its last receipt.
        yield_ratio: bytes of samples per byte of input, as seen so far.
        least: tasks to give whatever the estimate says, so that no CPU idles.
        most: tasks at the most; who has done them asks again.
    """
    expected, given = 0.0, 0
    for _, file, cut in blocks:
        if cut is None:
            yield IndexTask(file)
        elif not done(block_id(file.path, cut)):
            yield DecodeTask(file, cut)
        else:
            continue
        given += 1
        expected += (file.size if cut is None else cut.weight or file.size) * yield_ratio
        if given == most or (need_bytes is not None and expected >= need_bytes and given >= least):
            return


def _shown(value: object) -> str:
    return "(not set)" if value is None else json.dumps(value, ensure_ascii=False)
