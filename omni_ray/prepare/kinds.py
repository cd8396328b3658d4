"""What is particular to a modality: what a segment becomes, and what the production files are made of.

Planning, receipts, budgets, rounds and commits know nothing of it. `kind_of` is the only place that lists them.
"""

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from omni_ray.catalog import Modality, Source
from omni_ray.ledger import Output, Receipt
from omni_ray.prepare.assemble import RunTasks
from omni_ray.prepare.records import Bad, RawBatch
from omni_ray.prepare.select import Selection
from omni_ray.prepare.state import SourceState
from omni_ray.storage import Storage


class Product(NamedTuple):
    """An output file and the index beside it ("" for none); `speech`: only sources of speech have a part in it."""

    key: str
    index_key: str = ""
    speech: bool = False

    def of(self, states: Mapping[str, SourceState]) -> dict[str, SourceState]:
        """The sources that have a part in it."""
        return {name: state for name, state in states.items() if state.source.speech or not self.speech}


class Made(NamedTuple):
    """What a segment became.

    tables: its outputs beside each other in the source's folder, by kind; `rows.parquet` is one of them.
    media: files of their own, by key.
    named: those of `media` that the receipt names, by kind; what the rows name needs no name there.
    """

    tables: dict[str, bytes]
    samples: int
    size: int  # bytes of the samples
    media: Mapping[str, bytes] = {}
    named: Mapping[str, Output] = {}


class Segment(ABC):
    """Samples of one segment in the making, with the counts that its receipt will hold."""

    def __init__(self) -> None:
        self.read_bytes = 0
        self.digest = hashlib.sha256()  # of what was read
        self.rows_in = 0
        self.kept = 0
        self.dropped: Counter[str] = Counter()
        self.bad: list[Bad] = []
        self.held_bytes = 0  # of samples that wait in memory to be written

    @abstractmethod
    def add(self, batch: RawBatch) -> None:
        """Take in records."""

    @abstractmethod
    def made(self, block: str, segment: int, tag: str) -> Made:
        """What all of them became; quarantined records are in `bad`. `tag` is of the block's settings and revision."""


class Body(Protocol):
    """A production file in the making. `takes_rows`: it is made of the index rows, not of the block files."""

    takes_rows: bool

    def add(self, rows: pa.Table) -> None:
        """Take the next index rows."""

    def finish(self) -> int:
        """Have everything in place but its name; the size in bytes."""

    def commit(self) -> None: ...

    def abort(self) -> None: ...


class Check(Protocol):
    """A production file that is compared with what it should be, a piece after the other."""

    def piece(self, rows: pa.Table) -> Iterator[str]:
        """What is wrong with the part of these index rows."""

    def end(self) -> Iterator[str]:
        """What is wrong behind them."""


class Kind(ABC):
    """One modality."""

    folder: str  # below the output, where users find it
    schema: pa.Schema  # of the index
    names_output = False  # whether paths in its lists begin with what the output is called
    index_version: int  # raised whenever the same samples would give another index or list

    @abstractmethod
    def segment(self, source: Source) -> Segment: ...

    def settings(self, source: Source) -> dict[str, Any]:
        """What can change the bytes of a decoded block, and nothing else; the input of the settings fingerprint."""
        return source.settings()

    def owns(self, source: Source, name: str) -> bool:
        """Whether a file of this name (below the source's folder in `folder`) is one that we made."""
        return False

    @abstractmethod
    def products(self) -> Sequence[Product]:
        """The production files; the first one says by being there that combining was asked for."""

    @abstractmethod
    def dataset_products(self, source: Source) -> Sequence[Product]:
        """A source's own files."""

    @abstractmethod
    def index_rows(self, source: Source, path: str, rows: pa.Table, offset: int) -> pa.Table:
        """Index rows of the chosen samples of one segment of the file `path`; `offset` bytes of samples lie before
        them in the production file."""

    @abstractmethod
    def body(
        self,
        storage: Storage,
        product: Product,
        mark: str,
        states: Mapping[str, SourceState],
        selection: Selection,
        run_tasks: RunTasks,
    ) -> Body:
        """Begin to write a product for these sources."""

    @abstractmethod
    def check(self, storage: Storage, product: Product, out: str) -> Check:
        """Compare a product with what it should be, where the output was called `out` when it was made."""

    @abstractmethod
    def segment_problems(
        self, storage: Storage, source: Source, receipt: Receipt, data: Mapping[str, bytes]
    ) -> Iterator[str]:
        """What is wrong with the outputs of a segment, whose bytes are those of the receipt."""

    def mark_of(self, source: Source, out: str) -> list[object]:
        """What of a source, beyond its samples, category and licence, can change a byte of the products."""
        return []

    def output_keys(self, sources: Sequence[Source]) -> list[str]:
        """Every file that may be written for these sources outside the working folder, but for media."""
        products = [*self.products(), *(product for source in sources for product in self.dataset_products(source))]
        return [key for product in products for key in (product.key, product.index_key) if key]


@cache
def kind_of(modality: Modality) -> Kind:
    from omni_ray.prepare import text_kind  # here, so that a worker loads only what its modality needs

    if modality == "text":
        return text_kind.TextKind()
    from omni_ray.prepare import media_kind

    return media_kind.AudioKind() if modality == "audio" else media_kind.ImageKind()
