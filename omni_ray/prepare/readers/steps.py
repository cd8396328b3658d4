"""What every format's reader is given and gives: records, and the place from which reading goes on after them."""

from typing import Any, NamedTuple

from omni_ray.catalog import Source
from omni_ray.prepare.readers.streams import CHUNK_BYTES, MAX_RECORD_BYTES, MIB, STEP_RECORDS
from omni_ray.prepare.records import Bad, Raw

STEP_MEDIA = 256  # records that may each become a sound or picture
LEAST_STEP_MEDIA = 16  # however large: as many are fetched at once
STEP_MADE_BYTES = 64 * MIB  # that the records of a step may become; where more, a step has fewer
_PIXEL_BYTES = 3  # of the worst picture that is written, noise
_SECOND_BYTES = 32_000  # of a written clip
_ORIGINAL_BYTES = 8 * MIB  # of a picture that is kept as it is, and large


def _made_bytes(source: Source) -> int:
    """What a sound or picture of a source may become."""
    if source.modality == "audio":
        return max(1, int(float(source.resolved_rules()["max_seconds"]) * _SECOND_BYTES))
    return _ORIGINAL_BYTES if source.media.keep_original else _PIXEL_BYTES * source.media.image_size**2


class Task(NamedTuple):
    """One stream to be read: that of `member`, or of the file where it is "". A step holds about `step_bytes`."""

    source: Source
    member: str = ""
    step_bytes: int = CHUNK_BYTES

    @property
    def step_records(self) -> int:
        """Records of one step at most: those of a table may each name a sound or picture, which is made of them before
        the segment is asked whether it is full."""
        if self.source.modality == "text":
            return STEP_RECORDS
        return max(LEAST_STEP_MEDIA, min(STEP_MEDIA, STEP_MADE_BYTES // _made_bytes(self.source)))

    def raw(self, row: int, value: dict[str, Any]) -> Raw:
        return Raw(self.member, row, value)

    def bad(self, row: int, reason: str, error: str) -> Bad:
        return Bad(self.member, row, reason, error)

    def too_large(self, row: int, most: int = MAX_RECORD_BYTES) -> Bad:
        """A record of more than `most` bytes."""
        what = f"a record may have {most // MIB} MiB and this one is larger"
        if self.source.modality == "text":
            what += "; put its text in several"
        elif most == MAX_RECORD_BYTES:
            what += "; name its sound or picture by a path, under which it may have more"
        return self.bad(row, "record_too_large", what)


class Step(NamedTuple):
    """Records in order. `at` is where the next step begins, in the unit of the format (bytes, or rows of a group)."""

    records: list[Raw | Bad]
    read_bytes: int
    at: int
