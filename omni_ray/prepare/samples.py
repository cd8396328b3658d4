"""Sizes and hashes of a source's committed samples, in canonical order: what the selection works on.

They are read from the table beside each block once, and then kept together in files of their own, so that a restart
opens a few files instead of one for each block, and 10^8 hashes need not be in memory. The files are derived: each
name says which receipts it covers, how many samples they have, and a chain of the hashes of all tables up to there;
a file whose chain is not that of the ledger is not used.

    <source>/samples/<first>-<last>-<samples>.<chain>.bin    sizes, uint32 [n]; hashes, uint64 [n, 2]; sha256 of both
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from omni_ray.ledger import Receipt
from omni_ray.prepare import store
from omni_ray.storage import Storage

FILE_SAMPLES = 1 << 22  # of a file that is not made larger any more: 84 MB
CHUNK_SAMPLES = 1 << 20
_SIZE, _HASH, _DIGEST = 4, 16, 32  # bytes of each
_NAME = re.compile(r"(\d{10})-(\d{10})-(\d+)\.([0-9a-f]{16})\.bin")

Sizes = npt.NDArray[np.uint32]
Hashes = npt.NDArray[np.uint64]


class _File(NamedTuple):
    """Covers receipts [first, last) of a source's prefix."""

    key: str
    first: int
    last: int
    samples: int
    chain: str


class CommittedSamples:
    """The samples of a growing sequence of receipts.

    Args:
        folder: where the files are.
        trusting: False reads every block's table, whatever files there are.
    """

    def __init__(self, storage: Storage, folder: str, trusting: bool = True) -> None:
        self._storage = storage
        self._folder = folder
        self._files: list[_File] | None = None if trusting else []
        self._receipts = 0
        self._chain = hashlib.sha256()
        self._filed: list[Sizes] = []  # of the files
        self._fresh: list[tuple[Sizes, Hashes]] = []  # of receipts that no file covers yet
        self._fresh_from = 0

    def extend(self, receipts: Sequence[Receipt]) -> None:
        """Take in what is new of `receipts`, which begin with those of the calls before."""
        if self._files is None:
            self._files = self._open_files(receipts)
        fresh = receipts[self._receipts :]
        kept = (receipt for receipt in fresh if receipt.samples)
        self._fresh += map(store.sizes_and_hashes, store.read_rows(self._storage, kept, ["bytes", "sha256"]))
        self._receipts += len(fresh)
        for receipt in fresh:
            self._chain.update(_link(receipt))

    def sizes(self) -> Sizes:
        joined = np.concatenate([*self._filed, *(sizes for sizes, _ in self._fresh), np.empty(0, np.uint32)])
        ends = np.cumsum([len(sizes) for sizes in self._filed])
        self._filed = np.split(joined, ends)[:-1]  # views, so that the same sizes are not in memory twice
        return joined

    def hashes(self) -> Iterator[Hashes]:
        """All hashes, in chunks `[m, 2]`."""
        for file in self._files or ():
            yield from self._hashes_of(file)
        yield from (hashes for _, hashes in self._fresh)

    def save(self) -> None:
        """Put what no file covers into one, if there is anything; small files before it are taken in."""
        samples = sum(len(sizes) for sizes, _ in self._fresh)
        if not samples or self._files is None:
            return
        while self._files and self._files[-1].samples <= min(samples, FILE_SAMPLES - samples):
            last, sizes = self._files.pop(), self._filed.pop()
            self._fresh.insert(0, (sizes, np.concatenate(list(self._hashes_of(last)))))
            self._fresh_from = last.first
            samples += last.samples
        data = b"".join(
            [*(sizes.tobytes() for sizes, _ in self._fresh), *(hashes.tobytes() for _, hashes in self._fresh)]
        )
        chain = self._chain.hexdigest()[:16]
        name = f"{self._fresh_from:010d}-{self._receipts:010d}-{samples}.{chain}.bin"
        file = _File(f"{self._folder}/{name}", self._fresh_from, self._receipts, samples, chain)
        self._storage.put(file.key, data + hashlib.sha256(data).digest())
        self._files.append(file)
        self._filed.append(np.concatenate([sizes for sizes, _ in self._fresh]))
        self._fresh, self._fresh_from = [], self._receipts
        used = {file.key for file in self._files}
        for stat in list(self._storage.list(self._folder)):
            if stat.key not in used:
                self._storage.delete(stat.key)

    def _hashes_of(self, file: _File) -> Iterator[Hashes]:
        for at in range(0, file.samples, CHUNK_SAMPLES):
            count = min(CHUNK_SAMPLES, file.samples - at)
            data = self._storage.read(file.key, file.samples * _SIZE + at * _HASH, count * _HASH)
            yield np.frombuffer(data, np.uint64).reshape(-1, 2)

    def _open_files(self, receipts: Sequence[Receipt]) -> list[_File]:
        """The files that fit the first of `receipts`."""
        fitting: list[_File] = []
        for file in sorted(self._listed(), key=lambda file: (file.first, -file.last)):
            if file.first != self._receipts or file.last > len(receipts):
                continue
            chain = self._chain.copy()
            for receipt in receipts[file.first : file.last]:
                chain.update(_link(receipt))
            data = self._storage.read(file.key) if chain.hexdigest()[:16] == file.chain else b""
            if hashlib.sha256(data[:-_DIGEST]).digest() == data[-_DIGEST:]:
                fitting.append(file)
                self._filed.append(np.frombuffer(data, np.uint32, file.samples).copy())  # without the hashes behind it
                self._receipts, self._chain = file.last, chain
        self._fresh_from = self._receipts
        return fitting

    def _listed(self) -> Iterator[_File]:
        for stat in self._storage.list(self._folder):
            found = _NAME.fullmatch(stat.key.rpartition("/")[2])
            if found and stat.size == int(found[3]) * (_SIZE + _HASH) + _DIGEST:
                yield _File(stat.key, int(found[1]), int(found[2]), int(found[3]), found[4])


def _link(receipt: Receipt) -> bytes:
    return receipt.outputs["rows.parquet"].sha256.encode() if receipt.samples else b"-"
