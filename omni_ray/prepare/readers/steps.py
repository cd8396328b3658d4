"""What every format's reader is given and gives: records, and the place from which reading goes on after them."""

from typing import Any, NamedTuple

from omni_ray.catalog import Source
from omni_ray.prepare.readers.streams import CHUNK_BYTES, MAX_MEDIA_BYTES, MAX_RECORD_BYTES, MIB, STEP_RECORDS
from omni_ray.prepare.records import Bad, Raw

STEP_MEDIA = 256


class Task(NamedTuple):
    """One stream to be read: that of `member`, or of the file where it is "". A step holds about `step_bytes`."""

    source: Source
    member: str = ""
    step_bytes: int = CHUNK_BYTES

    @property
    def step_records(self) -> int:
        """Records of one step at most: those of a table may each name a sound or picture, which is made of them before
        the segment is asked whether it is full."""
        return STEP_RECORDS if self.source.modality == "text" else STEP_MEDIA

    @property
    def max_record_bytes(self) -> int:
        return MAX_RECORD_BYTES if self.source.modality == "text" else MAX_MEDIA_BYTES

    def raw(self, row: int, value: dict[str, Any]) -> Raw:
        return Raw(self.member, row, value)

    def bad(self, row: int, reason: str, error: str) -> Bad:
        return Bad(self.member, row, reason, error)

    def too_large(self, row: int) -> Bad:
        return self.bad(
            row,
            "record_too_large",
            f"a record may have {self.max_record_bytes // MIB} MiB and this one is larger; put its text in several",
        )


class Step(NamedTuple):
    """Records in order. `at` is where the next step begins, in the unit of the format (bytes, or rows of a group)."""

    records: list[Raw | Bad]
    read_bytes: int
    at: int
