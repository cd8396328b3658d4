"""Sounds and pictures that lie as files in a folder or an archive, and what the files beside them say of each.

A member gives its records when its turn comes: a sound or picture one for each entry that describes it, a list of
entries one bad record for each entry whose file is not there. So every file and every entry is accounted for once.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import PurePosixPath
from typing import Any

from omni_ray.catalog import Source
from omni_ray.prepare.readers import labels
from omni_ray.prepare.readers.entries import Entries, Entry
from omni_ray.prepare.readers.layout import format_of
from omni_ray.prepare.readers.members import MemberTable, plain
from omni_ray.prepare.readers.streams import MAX_MEDIA_BYTES, MIB, Damaged, Stream
from omni_ray.prepare.records import Bad, Member, Raw

Read = Callable[[Member], bytes]  # raises Damaged
Open = Callable[[Member], AbstractContextManager[Stream]]


class Shelf:
    """The members of one folder or archive.

    Args:
        read: gives the content of a sound or picture.
        open_: opens a file of labels.
    """

    def __init__(self, source: Source, members: MemberTable, read: Read, open_: Open) -> None:
        self._source = source
        self._members = members
        self._read = read
        self._open = open_
        self._span = (0, 0)  # of the webdataset sample that was looked at last: walking back to its start takes time
        self._describe = {
            "imagefolder": self._of_class,
            "librispeech": self._of_chapter,
            "ljspeech": self._of_metadata,
            "files": self._of_manifest if source.manifest else self._of_pattern,
            "webdataset": self._of_group,
        }.get(source.reader, self._of_none)

    def records(self, position: int) -> Iterator[Raw | Bad]:
        """What the member at `position` gives."""
        member = self._members[position]
        if member.refused:
            yield Bad.of(member.label, 0, member.refused)
            if self._source.reader != "webdataset":  # there a sample may begin with it
                return
        yield from self._describe(position, member)

    def content(self, name: str) -> bytes:
        """The content of the member that a table names.

        Raises:
            KeyError: for one that is not there.
            Damaged: for one that cannot be read.
        """
        return self._read(self._members[self._members.find(name)])

    def _of_none(self, position: int, member: Member) -> Iterator[Raw | Bad]:
        yield from ()

    def _media(self, member: Member, entries: Sequence[tuple[int, Mapping[str, Any]]]) -> Iterator[Raw | Bad]:
        """A record for each entry: its row, and its columns."""
        if member.size > MAX_MEDIA_BYTES:
            words = f"{member.size} bytes; a sound or picture may have {MAX_MEDIA_BYTES // MIB} MiB"
            yield from (Bad(member.label, row, "record_too_large", words) for row, _ in entries)
            return
        try:
            data = self._read(member)
        except Damaged as damage:
            yield from (Bad(member.label, row, damage.reason, damage.words) for row, _ in entries)
            return
        yield from (Raw(member.label, row, value, data) for row, value in entries)

    def _of_class(self, position: int, member: Member) -> Iterator[Raw | Bad]:
        path = PurePosixPath(plain(member.name))
        value = {"name": path.stem, "path": str(path)}
        if path.parent.name:
            value["class"] = path.parent.name
        yield from self._media(member, [(0, value)])

    def _of_pattern(self, position: int, member: Member) -> Iterator[Raw | Bad]:
        found = re.fullmatch(f"(?:.*/)?{self._source.pattern}", plain(member.name))
        if found is None:
            yield Bad(member.label, 0, "not_described", "the pattern does not match its name")
            return
        path = PurePosixPath(plain(member.name))
        value = {"name": path.stem, "path": str(path)} | found.groupdict()
        yield from self._media(member, [(0, value)])

    def _of_chapter(self, position: int, member: Member) -> Iterator[Raw | Bad]:
        path = PurePosixPath(plain(member.name))
        if path.name.endswith(".trans.txt"):
            yield from self._orphans(member, labels.transcripts, lambda entry: f"{path.parent}/{entry}")
            return
        speaker, _, rest = path.stem.partition("-")
        chapter = rest.rpartition("-")[0]
        label = str(path.parent / f"{speaker}-{chapter}.trans.txt")
        more = {"speaker": speaker, "chapter": chapter}
        yield from self._labelled(member, label, labels.transcripts, path.stem, more)

    def _of_metadata(self, position: int, member: Member) -> Iterator[Raw | Bad]:
        path = PurePosixPath(plain(member.name))
        if path.name == "metadata.csv":
            yield from self._orphans(member, labels.ljspeech, lambda entry: f"{path.parent}/wavs/{entry}")
            return
        yield from self._labelled(member, str(path.parent.parent / "metadata.csv"), labels.ljspeech, path.stem, {})

    def _labelled(
        self, member: Member, label: str, parse: labels.Parse, entry: str, more: Mapping[str, str]
    ) -> Iterator[Raw | Bad]:
        """A record for each line that a file of labels has about one sound, with `more` columns."""
        try:
            found = self._labels(label, parse).of(entry)
        except KeyError:
            yield Bad(member.label, 0, "not_described", f"there is no {label}")
            return
        except Damaged as damage:
            yield Bad(member.label, 0, damage.reason, f"{label}: {damage.words}")
            return
        if not found:
            yield Bad(member.label, 0, "not_described", f"{label} has no line for it")
        described = []
        for number, one in enumerate(found):
            if isinstance(one.value, str):
                yield Bad.of(member.label, number, one.value, about=label)
            else:
                described.append((number, {**one.value, **more}))
        if described:
            yield from self._media(member, described)

    def _orphans(self, member: Member, parse: labels.Parse, path_of: Callable[[str], str]) -> Iterator[Bad]:
        """Entries of a file of labels whose sound is not there; a label that is damaged is one bad record."""
        try:
            entries = self._labels(plain(member.name), parse)
        except Damaged as damage:
            yield Bad(member.label, 0, damage.reason, damage.words)
            return
        for chunk in entries.chunks():
            stems = [path_of(entry.name).removeprefix("./") for entry in chunk]
            there = self._members.known_stems(stems, lambda name: format_of(self._source, name) == "media")
            for entry, known in zip(chunk, there, strict=True):
                if not known:
                    yield _lost(member, entry)

    def _labels(self, name: str, parse: labels.Parse) -> Entries:
        """Raises KeyError where there is no file of labels of this name."""

        def read() -> Entries:
            member = self._members[self._members.find(name)]
            with self._open(member) as stream:
                return Entries(parse(self._source, stream, member))

        made: Entries = self._members.label(name, read)
        return made

    def _of_manifest(self, position: int, member: Member) -> Iterator[Raw | Bad]:
        name, where = plain(member.name), self._members.named_as(self._source.manifest)
        media = format_of(self._source, name) == "media"
        if not where:
            if media:
                yield Bad(member.label, 0, "not_described", f"there is no {self._source.manifest}")
            return
        root = where.removesuffix(self._source.manifest)  # what lies before its path
        try:
            entries = self._labels(where, labels.manifest)
        except Damaged as damage:
            if media or name == where:
                yield Bad(member.label, 0, damage.reason, f"{where}: {damage.words}")
            return
        if name == where:
            yield from self._unfound(member, root, entries)
            return
        found = entries.of(name.removeprefix(root)) if name.startswith(root) else []
        if found:
            yield from self._media(member, [(one.row, one.value) for one in found if not isinstance(one.value, str)])
        elif media:
            yield Bad(member.label, 0, "not_described", f"{self._source.manifest} has no row for it")

    def _unfound(self, member: Member, root: str, entries: Entries) -> Iterator[Bad]:
        """Rows of the manifest that cannot be used, or whose file is not there."""
        for chunk in entries.chunks():
            there = self._members.known([root + entry.name for entry in chunk])
            for entry, known in zip(chunk, there, strict=True):
                if isinstance(entry.value, str) or not known:
                    yield _lost(member, entry)

    def _of_group(self, position: int, member: Member) -> Iterator[Raw | Bad]:
        """A webdataset sample is what lies beside each other under one name up to its first dot; it belongs to where
        its first member lies, also where that one is never read."""
        start, stop = self._span
        if not start <= position < stop:
            start, stop = self._span = self._span_of(position, stop)
        if start < position:
            return
        group = self._group(position, labels.webdataset_name(member.name)[0])
        first = next((one for one in group.values() if not one.refused), None)
        if first is not None:  # else each of them is a bad record already
            yield from labels.webdataset_sample(self._source, first, group, self._read, self._media)

    def _span_of(self, position: int, known: int) -> tuple[int, int]:
        """Where the sample begins and ends in which a member lies; `known` is where some sample begins."""
        key = labels.webdataset_name(self._members[position].name)[0]
        start = position
        while start != known and start and labels.webdataset_name(self._members[start - 1].name)[0] == key:
            start -= 1
        while (stop := start + len(self._group(start, key))) <= position:  # the same key may come again at once
            start = stop
        return start, stop

    def _group(self, position: int, key: str) -> dict[str, Member]:
        """The members from `position` on that are one sample, by ending."""
        group: dict[str, Member] = {}
        for number in range(position, len(self._members)):
            name, ending = labels.webdataset_name(self._members[number].name)
            if name != key or ending in group:
                break
            group[ending] = self._members[number]
        return group


def _lost(member: Member, entry: Entry) -> Bad:
    """An entry that describes no file: what is wrong with it, or that its file is not there."""
    if isinstance(entry.value, str):
        return Bad.of(member.label, entry.row, entry.value)
    return Bad(member.label, entry.row, "missing_file", f"{entry.name}: there is no such file")
