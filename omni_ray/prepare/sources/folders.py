"""A folder of sounds or pictures as one input: what its listing says of it, on disk and in a bucket alike."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from omni_ray.catalog import Source
from omni_ray.errors import SourceFailed
from omni_ray.prepare.records import InputFile, Member


class Tally(NamedTuple):
    """What was listed so far: how many files, their bytes, and a hash of names, sizes and revisions, each chained to
    the one before, so that a listing can go on from anywhere."""

    files: int = 0
    size: int = 0
    digest: str = ""

    def plus(self, member: Member) -> "Tally":
        line = f"{self.digest}{member.name}\0{member.size}\0{member.offset}\0{member.revision}\0"
        digest = hashlib.sha256(line.encode()).hexdigest()[:32]
        return Tally(self.files + 1, self.size + member.size, digest)

    def file(self, path: str) -> InputFile:
        """The folder as an input at this state."""
        return InputFile(path, self.size, self.digest)


def tallied(source: Source, path: str, members: Iterator[Member]) -> InputFile:
    """The folder whose files are `members`.

    Raises:
        SourceFailed: for one without any that the source reads.
    """
    from omni_ray.prepare.readers.layout import is_table  # what is read is the reader's to say

    tally, read = Tally(), source.reader != "table"
    for member in members:
        tally = tally.plus(member)
        read = read or is_table(source, member.name)
    if not tally.files or not read:
        raise SourceFailed(
            f"{source.defined_in}: source {source.name!r}: url: {path}: no file in it is one that {source.reader} reads"
            + (f" and members = {source.members!r} lets in" if source.members else "")
            + "; put the files there or correct the url"
        )
    return tally.file(path)
