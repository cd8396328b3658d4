"""Planning, pure: which blocks a source has, what to do next, and whether what exists still fits what is asked.

A block's id is made of the file's path and the cut, and never changes while the source does not. Canonical order is
that of the files in the plan, then of the cuts in a file.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from omni_ray.prepare.records import Cut, InputFile

FORMAT_VERSION = 1  # of what a decoded block is; raised whenever the same input would give other bytes


class SourcePlan(msgspec.Struct, frozen=True):
    """What can change a block's bytes, and the source's files at their pinned revisions, in canonical order."""

    settings: dict[str, Any]
    files: list[InputFile]

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.settings)


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


def file_id(path: str) -> str:
    return hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def index_id(path: str) -> str:
    """The id under which the index pass of a file keeps its receipts."""
    return f"index-{file_id(path)}"


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


def next_tasks(
    files: Iterable[InputFile],
    cuts_of: Callable[[InputFile], Iterable[Cut] | None],
    done: Callable[[str], bool],
    need_bytes: int | None,
    yield_ratio: float,
    least: int,
) -> Iterator[IndexTask | DecodeTask]:
    """The next things to do for a source that lacks `need_bytes` of samples (None: everything).

    Args:
        cuts_of: a file's cuts in order; None where its index pass is not finished.
        done: whether a block has its last receipt.
        yield_ratio: bytes of samples per byte of input, as seen so far.
        least: tasks to give whatever the estimate says, so that no CPU idles.
    """
    expected, given = 0.0, 0
    for file in files:
        cuts = cuts_of(file)
        for task, weight in _tasks_of(file, cuts, done):
            yield task
            given += 1
            expected += weight * yield_ratio
            if need_bytes is not None and expected >= need_bytes and given >= least:
                return


def _tasks_of(
    file: InputFile, cuts: Iterable[Cut] | None, done: Callable[[str], bool]
) -> Iterator[tuple[IndexTask | DecodeTask, int]]:
    if cuts is None:
        yield IndexTask(file), file.size
        return
    for block, cut in blocks_of(file, cuts):
        if not done(block):
            yield DecodeTask(file, cut), cut.weight or file.size


def _shown(value: object) -> str:
    return "(not set)" if value is None else json.dumps(value, ensure_ascii=False)
