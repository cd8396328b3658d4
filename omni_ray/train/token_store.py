"""The token store: a corpus tokenised and packed once, through the Ray Data door, then read in place.

A store is a folder named after the fingerprint of what it is made of (corpus, tokenizer, context length, split), so it
is made again exactly when one of these changes. Blocks are made in any order on any worker, each with its receipt
written last; a build that was killed goes on with those that have none. `store.json` says that the store is whole.

A block's rows are files of fixed-size records, little-endian: `[rows, ctx_len + 1]` tokens of 2 or 4 bytes.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from omni_ray.errors import DataError
from omni_ray.storage import LocalStorage, Storage, open_storage
from omni_ray.train import corpus as corpora
from omni_ray.train import tokenizer as tokenizers
from omni_ray.train.corpus import Block, Corpus
from omni_ray.train.packing import pack, valid_targets

VERSION = 1
SPLITS = ("train", "validation")
MANIFEST = "store.json"
TOKENIZER = "tokenizer.json"
COPY_BYTES = 8 << 20
ENCODE_LINES = 1024  # at once, so that the strings of a block are never all in memory


class Part(msgspec.Struct, frozen=True):
    """The rows of one split of one block."""

    rows: int
    targets: int
    most_pieces: int


class Receipt(msgspec.Struct, frozen=True):
    """One finished block."""

    number: int
    lines: int
    bytes: int
    train: Part
    validation: Part


class Recipe(msgspec.Struct, frozen=True):
    """All that decides what is in a store."""

    corpus: str
    tokenizer: str  # sha256 of its JSON
    vocab_size: int
    ctx_len: int
    val_split: float
    version: int = VERSION

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


class Manifest(msgspec.Struct, frozen=True):
    recipe: Recipe
    blocks: list[Receipt]


class Work(msgspec.Struct, frozen=True):
    """What a worker is told beside its block."""

    corpus: Corpus
    recipe: Recipe
    root: str
    folder: str


class Ready(msgspec.Struct, frozen=True):
    """Where a finished store lies; small enough to be sent to every rank."""

    root: str
    folder: str


RunTasks = Callable[[Callable[[bytes], Iterator[bytes]], Sequence[tuple[bytes, int]]], Iterator[bytes]]


def build(
    storage: Storage, corpus: Corpus, vocab_size: int, ctx_len: int, val_split: float, run_tasks: RunTasks
) -> Ready:
    """Make the store of `corpus` below `stores/`, or find it there. `run_tasks` brings work to workers.

    Raises:
        DataError: where the corpus cannot be used.
    """
    text = _tokenizer(storage, corpus, vocab_size)
    recipe = Recipe(corpus.fingerprint, hashlib.sha256(text).hexdigest(), vocab_size, ctx_len, val_split)
    folder = f"stores/text-{recipe.fingerprint}"
    ready = Ready(storage.location, folder)
    if storage.exists(f"{folder}/{MANIFEST}"):
        return ready
    storage.put(f"{folder}/{TOKENIZER}", text)
    blocks = corpora.blocks(corpus)
    tasks = [
        (msgspec.json.encode(block), block.stop - block.start)
        for block in blocks
        if not storage.exists(_receipt_key(folder, block.number))
    ]
    if tasks:
        work = partial(_tokenise, msgspec.json.encode(Work(corpus, recipe, storage.location, folder)))
        for _ in run_tasks(work, tasks):
            pass
    receipts = [msgspec.json.decode(storage.read(_receipt_key(folder, block.number)), type=Receipt) for block in blocks]
    if not sum(receipt.train.rows for receipt in receipts):
        raise DataError(f"{corpus.root}/{corpus.key}: no text is left to train on; prepare more, or lower val_split")
    storage.put(f"{folder}/{MANIFEST}", msgspec.json.encode(Manifest(recipe, receipts)))
    return ready


class TokenStore:
    """A finished store, memory-mapped: a row costs the bytes that it has, whatever the size of the store."""

    def __init__(self, ready: Ready) -> None:
        storage = open_storage(ready.root)
        self.manifest = msgspec.json.decode(storage.read(f"{ready.folder}/{MANIFEST}"), type=Manifest)
        self.tokenizer = storage.read(f"{ready.folder}/{TOKENIZER}").decode()
        self._splits = {split: _Rows(storage, ready.folder, self.manifest, split) for split in SPLITS}

    def count(self, split: str) -> int:
        return self._splits[split].count

    def most_pieces(self, split: str) -> int:
        """The most pieces of documents in one row."""
        return max((getattr(block, split).most_pieces for block in self.manifest.blocks), default=0)

    def rows(self, split: str, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.integer]:
        """Stored rows `[len(numbers), ctx_len + 1]`; all PAD where a number is negative."""
        return self._splits[split].read(numbers)

    @property
    def bytes(self) -> int:
        return sum(block.bytes for block in self.manifest.blocks)


class _Rows:
    def __init__(self, storage: Storage, folder: str, manifest: Manifest, split: str) -> None:
        self._width = manifest.recipe.ctx_len + 1
        self._dtype = token_dtype(manifest.recipe.vocab_size)
        self._files: list[npt.NDArray[np.integer]] = []
        counts = []
        for block in manifest.blocks:
            rows = getattr(block, split).rows
            if rows:
                self._files.append(self._map(storage, _rows_key(folder, split, block.number), rows))
                counts.append(rows)
        self._starts = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
        self.count = int(self._starts[-1])

    def read(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.integer]:
        found = np.ones((len(numbers), self._width), self._dtype)  # PAD is 1
        files = np.searchsorted(self._starts, numbers, side="right") - 1
        for place, (number, file) in enumerate(zip(numbers, files, strict=True)):
            if number >= 0:
                found[place] = self._files[file][number - self._starts[file]]
        return found

    def _map(self, storage: Storage, key: str, rows: int) -> npt.NDArray[np.integer]:
        path = storage.path(key) if isinstance(storage, LocalStorage) else _local_copy(storage, key)
        return np.memmap(path, self._dtype, "r", shape=(rows, self._width))


def _local_copy(storage: Storage, key: str) -> Path:
    """A copy of a finished file on this node's disk, which its ranks share; the key has the store's fingerprint."""
    mark = hashlib.sha256(storage.location.encode()).hexdigest()[:16]
    cache = LocalStorage(Path(tempfile.gettempdir()) / f"omni_ray-rows-{os.getuid()}" / mark)
    if not cache.exists(key):
        with storage.open(key) as stream:
            writer = cache.writer(key)
            try:
                while chunk := stream.read(COPY_BYTES):
                    writer.write(chunk)
                writer.commit()
            finally:
                writer.abort()
    return cache.path(key)


def token_dtype(vocab_size: int) -> np.dtype[np.integer]:
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def _tokenizer(storage: Storage, corpus: Corpus, vocab_size: int) -> bytes:
    """The tokenizer of a corpus, trained once."""
    mark = hashlib.sha256(f"{VERSION} {corpus.fingerprint} {vocab_size}".encode()).hexdigest()[:16]
    key = f"stores/tokenizer-{mark}.json"
    if not storage.exists(key):
        storage.put(key, tokenizers.train(corpora.sample(corpus), vocab_size).encode())
    return storage.read(key)


def _tokenise(work: bytes, task: bytes) -> Iterator[bytes]:
    """Runs in a worker: one block to its two files of rows, then its receipt."""
    tokenizers.single_threaded()
    told = msgspec.json.decode(work, type=Work)
    block = msgspec.json.decode(task, type=Block)
    storage = open_storage(told.root)
    encoder = tokenizers.load(storage.read(f"{told.folder}/{TOKENIZER}").decode())
    dtype = token_dtype(told.recipe.vocab_size)
    documents: dict[str, list[npt.NDArray[np.integer]]] = {split: [] for split in SPLITS}
    count = size = 0
    pending: list[corpora.Line] = []

    def encode() -> None:
        texts = [corpora.decode(line.text, told.corpus) for line in pending]
        for line, encoding in zip(pending, encoder.encode_batch_fast(texts, add_special_tokens=False), strict=True):
            split = SPLITS[corpora.held_out(line.group, told.recipe.val_split)]
            documents[split].append(np.array(encoding.ids, dtype))
        pending.clear()

    for line in corpora.lines(told.corpus, block):
        count, size = count + 1, size + len(line.text) + 1
        pending.append(line)
        if len(pending) == ENCODE_LINES:
            encode()
    encode()
    parts = {}
    for split in SPLITS:
        rows, most_pieces = pack(documents.pop(split), told.recipe.ctx_len, dtype)
        storage.put(_rows_key(told.folder, split, block.number), rows.tobytes())
        parts[split] = Part(len(rows), valid_targets(rows), most_pieces)
    receipt = msgspec.json.encode(Receipt(block.number, count, size, parts["train"], parts["validation"]))
    storage.put(_receipt_key(told.folder, block.number), receipt)
    yield receipt


def _rows_key(folder: str, split: str, number: int) -> str:
    return f"{folder}/{split}-{number:06d}.bin"


def _receipt_key(folder: str, number: int) -> str:
    return f"{folder}/block-{number:06d}.json"
