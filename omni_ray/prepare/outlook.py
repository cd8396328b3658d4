"""How many bytes of samples a source will give, as far as can be told before it is read."""

from collections.abc import Iterable
from dataclasses import dataclass

from omni_ray.catalog import Source
from omni_ray.ledger import Receipt
from omni_ray.prepare.readers.layout import TABLES
from omni_ray.prepare.readers.suffixes import suffix_of
from omni_ray.prepare.records import InputFile

# Bytes that readers see for each stored byte, typical of text; sounds and pictures are compressed already.
_UNPACKED = {".gz": 3.5, ".tgz": 3.5, ".zip": 3.0, ".parquet": 2.5}
# Bytes of a prepared file for each byte of a published one. Measured on photos of 110 kB, X-rays and speech; thumbnails
# and compressed speech give several times as much, and the first block says so.
_PHOTO, _CLIP = 0.3, 0.6
_ROW_BYTES = 100  # of a table that names a file
_PHOTO_BYTES, _CLIP_BYTES = 33_000, 100_000
_SIDE = 224  # pixels to which these figures belong


@dataclass
class Outlook:
    """What the blocks of a source gave so far, and what is to be expected of the rest.

    given: bytes of samples.
    read: bytes of input that they came from, unpacked.
    whole: bytes of input in all, unpacked; a guess where files are compressed.
    typical: bytes of samples for each byte of input, as long as nothing is read.
    """

    given: int
    read: int
    whole: int
    typical: float

    @classmethod
    def of(
        cls, source: Source, files: Iterable[tuple[InputFile, int | None]], receipts: Iterable[Receipt], complete: bool
    ) -> "Outlook":
        """`files` come with the bytes of their blocks, None where there is no index yet; `receipts` are those of
        decoded segments; `complete` where nothing is left to be read."""
        whole = expected = 0.0
        for file, known in files:
            unpacked = file.size * _unpacked(source, file) if known is None else known
            whole += unpacked
            expected += unpacked * _typical(source, file)
        made = cls(0, 0, int(whole), expected / whole if whole else 1.0)
        for receipt in receipts:
            made.add(receipt.bytes, receipt.read_bytes)
        if complete:
            made.whole = made.read
        return made

    def add(self, given: int, read: int) -> None:
        """What one more segment brought."""
        self.given += given
        self.read += read

    @property
    def left(self) -> int:
        """Bytes of samples that are still to come."""
        ratio = self.given / self.read if self.read else self.typical
        return int(max(self.whole - self.read, 0) * ratio)

    @property
    def expected(self) -> int:
        """Bytes of samples in all."""
        return self.given + self.left

    def goal(self, quota: int | None) -> int:
        """Bytes of samples to which a source is brought that is to give no more than `quota` (None: all)."""
        return self.expected if quota is None else min(quota, self.expected)


def _unpacked(source: Source, file: InputFile) -> float:
    if source.modality != "text":
        return 1.0
    return next((factor for suffix, factor in _UNPACKED.items() if file.path.lower().endswith(suffix)), 1.0)


def _typical(source: Source, file: InputFile) -> float:
    if source.modality == "text":
        return 1.0
    format_ = TABLES.get(suffix_of(file.path.lower().removesuffix(".gz")))
    names_files = format_ is not None and format_ != "parquet"  # no sound or picture lies in a table of text
    if source.modality == "audio":
        times = 2 if source.media.audio_format == "wav" else 1
        return times * (_CLIP_BYTES / _ROW_BYTES if names_files else _CLIP)
    if source.media.keep_original:
        return _PHOTO_BYTES / _PHOTO / _ROW_BYTES if names_files else 1.0
    area = (source.media.image_size / _SIDE) ** 2
    return area * (_PHOTO_BYTES / _ROW_BYTES if names_files else _PHOTO)
