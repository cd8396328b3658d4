"""Sounds and pictures that lie as files in a folder or an archive, and what the files beside them say of each.

A member gives its records when its turn comes: a sound or picture one for each entry that describes it, a list of
entries one bad record for each entry whose file is not there. So every file and every entry is accounted for once.
"""

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from omni_ray.catalog import Source
from omni_ray.prepare.readers import labels
from omni_ray.prepare.readers.layout import format_of
from omni_ray.prepare.readers.streams import MAX_MEDIA_BYTES, MIB, Damaged
from omni_ray.prepare.records import Bad, Member, Raw

Read = Callable[[Member], bytes]  # raises Damaged


class Shelf:
    """The members of one folder or archive.

    Args:
        read: gives the content of a member.
        name: tells this folder or archive, at its revision, from every other one.
    """

    def __init__(self, source: Source, members: Sequence[Member], read: Read, name: str) -> None:
        self._source = source
        self._members = members
        self._read = read
        self._name = name
        self._describe = {
            "imagefolder": self._of_class,
            "librispeech": self._of_chapter,
            "ljspeech": self._of_metadata,
            "files": self._of_manifest if source.manifest else self._of_pattern,
            "webdataset": self._of_group,
        }.get(source.reader, self._of_none)

    def records(self, position: int) -> list[Raw | Bad]:
        """What the member at `position` gives."""
        member = self._members[position]
        if member.refused:
            reason, _, words = member.refused.partition(": ")
            return [Bad(member.label, 0, reason, words)]
        return list(self._describe(position, member))

    def content(self, name: str) -> bytes:
        """The content of the member that a table names.

        Raises:
            KeyError: for one that is not there.
            Damaged: for one that cannot be read.
        """
        return self._read(self._members[self._places[name]])

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        """Positions by name, without a leading `./`; of twins the first."""
        return _places(self._name, self._members)

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
        path = PurePosixPath(_plain(member.name))
        value = {"name": path.stem, "path": str(path)}
        if path.parent.name:
            value["class"] = path.parent.name
        yield from self._media(member, [(0, value)])

    def _of_pattern(self, position: int, member: Member) -> Iterator[Raw | Bad]:
        found = re.fullmatch(f"(?:.*/)?{self._source.pattern}", _plain(member.name))
        if found is None:
            yield Bad(member.label, 0, "not_described", "the pattern does not match its name")
            return
        path = PurePosixPath(_plain(member.name))
        value = {"name": path.stem, "path": str(path)} | found.groupdict()
        yield from self._media(member, [(0, value)])

    def _of_chapter(self, position: int, member: Member) -> Iterator[Raw | Bad]:
        path = PurePosixPath(_plain(member.name))
        if path.name.endswith(".trans.txt"):
            yield from self._orphans(member, labels.transcripts, lambda entry: f"{path.parent}/{entry}")
            return
        speaker, _, rest = path.stem.partition("-")
        chapter = rest.rpartition("-")[0]
        label = str(path.parent / f"{speaker}-{chapter}.trans.txt")
        described = self._entry(member, label, labels.transcripts, path.stem)
        if isinstance(described, Bad):
            yield described
            return
        value = {**described[1], "speaker": speaker, "chapter": chapter}
        yield from self._media(member, [(described[0], value)])

    def _of_metadata(self, position: int, member: Member) -> Iterator[Raw | Bad]:
        path = PurePosixPath(_plain(member.name))
        if path.name == "metadata.csv":
            yield from self._orphans(member, labels.ljspeech, lambda entry: f"{path.parent}/wavs/{entry}")
            return
        described = self._entry(member, str(path.parent.parent / "metadata.csv"), labels.ljspeech, path.stem)
        if isinstance(described, Bad):
            yield described
        else:
            yield from self._media(member, [described])

    def _entry(
        self, member: Member, label: str, parse: labels.Parse, entry: str
    ) -> tuple[int, Mapping[str, Any]] | Bad:
        """What a file of labels says of one sound."""
        if label not in self._places:
            return Bad(member.label, 0, "not_described", f"there is no {label}")
        try:
            found = self._labels(label, parse).get(entry)
        except Damaged as damage:
            return Bad(member.label, 0, damage.reason, f"{label}: {damage.words}")
        if found is None:
            return Bad(member.label, 0, "not_described", f"{label} has no line for it")
        _, value = found[0]
        if isinstance(value, str):
            return Bad(member.label, 0, "undecodable", f"{label}: {value}")
        return 0, value

    def _orphans(self, member: Member, parse: labels.Parse, path_of: Callable[[str], str]) -> Iterator[Bad]:
        """Entries of a file of labels whose sound is not there; a label that is damaged is one bad record."""
        try:
            entries = self._labels(_plain(member.name), parse)
        except Damaged as damage:
            yield Bad(member.label, 0, damage.reason, damage.words)
            return
        for entry, rows in entries.items():
            if path_of(entry).removeprefix("./") not in self._stems:
                yield from (
                    Bad(member.label, row, "missing_file", f"{entry}: there is no such file") for row, _ in rows
                )

    @functools.cached_property
    def _stems(self) -> frozenset[str]:
        """Paths of the sounds without their endings."""
        media = (name for name in self._places if format_of(self._source, name) == "media")
        return frozenset(name.rpartition(".")[0] for name in media)

    def _labels(self, name: str, parse: labels.Parse) -> labels.Entries:
        return _parsed(_Cached((self._source.name, self._name, name), lambda: self._read_labels(name, parse)))

    def _read_labels(self, name: str, parse: labels.Parse) -> labels.Entries:
        return parse(self._source, self._read(self._members[self._places[name]]))

    @functools.cached_property
    def _manifest(self) -> str:
        """The member that is the manifest; "" where there is none. What lies before its path is the root."""
        wanted = self._source.manifest
        names = [name for name in self._places if name == wanted or name.endswith(f"/{wanted}")]
        return min(names, key=lambda name: (name.count("/"), name), default="")

    def _of_manifest(self, position: int, member: Member) -> Iterator[Raw | Bad]:
        name = _plain(member.name)
        media = format_of(self._source, name) == "media"
        if not self._manifest:
            if media:
                yield Bad(member.label, 0, "not_described", f"there is no {self._source.manifest}")
            return
        root = self._manifest.removesuffix(self._source.manifest)
        parse = labels.manifest_parser(self._source.manifest)
        try:
            entries = self._labels(self._manifest, parse)
        except Damaged as damage:
            if media or name == self._manifest:
                yield Bad(member.label, 0, damage.reason, f"{self._manifest}: {damage.words}")
            return
        if name == self._manifest:
            for path, rows in entries.items():
                for row, value in rows:
                    if isinstance(value, str):
                        reason, _, words = value.partition(": ")
                        yield Bad(member.label, row, reason, words)
                    elif root + path not in self._places:
                        yield Bad(member.label, row, "missing_file", f"{path}: there is no such file")
        elif name.startswith(root) and (found := entries.get(name.removeprefix(root))):
            yield from self._media(member, [(row, value) for row, value in found if not isinstance(value, str)])
        elif media:
            yield Bad(member.label, 0, "not_described", f"{self._source.manifest} has no row for it")

    def _of_group(self, position: int, member: Member) -> Iterator[Raw | Bad]:
        """A webdataset sample is what lies beside each other under one name up to its first dot; it belongs to where
        its first member lies."""
        key = labels.webdataset_name(member.name)[0]
        start = position
        while start and labels.webdataset_name(self._members[start - 1].name)[0] == key:
            start -= 1
        while start < position:  # the same key may come again at once, as another sample
            start += len(self._group(start, key))
        if start == position:
            yield from labels.webdataset_sample(
                self._source, member, self._group(position, key), self._read, self._media
            )

    def _group(self, position: int, key: str) -> dict[str, Member]:
        """The members from `position` on that are one sample, by ending."""
        group: dict[str, Member] = {}
        for number in range(position, len(self._members)):
            name, ending = labels.webdataset_name(self._members[number].name)
            if name != key or ending in group:
                break
            group[ending] = self._members[number]
        return group


def _plain(name: str) -> str:
    return name.removeprefix("./")


class _Cached:
    """A key for `lru_cache` that brings what makes the value."""

    def __init__(self, key: tuple[str, ...], make: Callable[[], labels.Entries]) -> None:
        self.key = key
        self.make = make

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Cached) and other.key == self.key


@functools.lru_cache(maxsize=16)
def _parsed(cached: _Cached) -> labels.Entries:
    return cached.make()


_places_cache: dict[str, tuple[Sequence[Member], dict[str, int]]] = {}


def _places(name: str, members: Sequence[Member]) -> dict[str, int]:
    """Positions by name; of the last archive they are kept, as many blocks of it follow each other."""
    known = _places_cache.get(name)
    if known is None or known[0] is not members:
        places: dict[str, int] = {}
        for position, member in enumerate(members):
            if not member.refused:
                places.setdefault(_plain(member.name), position)
        _places_cache.clear()
        known = _places_cache[name] = (members, places)
    return known[1]
