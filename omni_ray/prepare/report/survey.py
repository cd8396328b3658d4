"""What a report tells of one modality, read from receipts, sample tables and the selection.

Sizes come from the files of committed samples, everything else from the table beside each block, one at a time; so
memory does not grow with the samples of an output beyond what the selection itself takes.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from omni_ray.catalog import Modality
from omni_ray.prepare import combine
from omni_ray.prepare.asking import Asked
from omni_ray.prepare.budget import quotas
from omni_ray.prepare.kinds import kind_of
from omni_ray.prepare.pieces import Piece, pieces, pieces_with_rows
from omni_ray.prepare.report.distribution import LENGTHS, SECONDS, Distribution, Scale
from omni_ray.prepare.report.samples import Place, Shown, choose, show
from omni_ray.prepare.select import Counts, Cut, Selection
from omni_ray.prepare.state import SourceState
from omni_ray.prepare.status import asked_of, current_selection, load_request, load_states
from omni_ray.storage import Storage

RECOMMENDED_SECONDS = (1, 10)  # clips of which training makes the most
MEASURES: dict[Modality, dict[str, Scale]] = {
    "text": {"line_bytes": LENGTHS},
    "audio": {"seconds": SECONDS, "text_chars": LENGTHS},
    "image": {"width": LENGTHS, "height": LENGTHS, "file_bytes": LENGTHS, "text_chars": LENGTHS},
}
_COLUMNS: dict[Modality, list[str]] = {"audio": ["seconds", "text"], "image": ["width", "height", "text"]}


@dataclass(frozen=True)
class SourceFigures:
    """One source. `share` and `quota` are bytes: what it had if no source ran dry, and what it may use now."""

    name: str
    category: str
    license: str
    homepage: str
    failures: list[str]
    blocks: tuple[int, int | None]
    rows_in: int
    kept: int
    dropped: Counter[str]
    quarantined: Counter[str]
    committed: int  # bytes
    counts: Counts
    size: int  # bytes in the output
    share: int
    quota: int
    state: str
    measured: dict[str, Distribution]
    outside: tuple[int, int]  # clips that are shorter and longer than recommended
    samples: list[Shown]


@dataclass(frozen=True)
class File:
    """A production file. `state`: "current", "outdated" (made from other samples than are committed now), "missing"."""

    key: str
    size: int
    state: str


@dataclass(frozen=True)
class Figures:
    """One modality."""

    modality: Modality
    max_bytes: int
    min_bytes: int
    dedup: str
    license: str | None
    left_out: list[str]  # sources that only the licence expression leaves out
    sources: list[SourceFigures]
    files: list[File]

    @property
    def size(self) -> int:
        """Bytes in the output."""
        return sum(source.size for source in self.sources)


def survey(storage: Storage, modality: Modality) -> Figures:
    """Look at a modality of an output.

    Raises:
        UsageError: where it was never prepared.
    """
    request = load_request(storage, modality)
    asked = asked_of(request, storage)
    states = load_states(storage, modality, asked)
    selection = current_selection(request, asked, states)
    shares = quotas(request.max_bytes, asked.shares(), {})
    names = {source.name for source in asked.sources}
    return Figures(
        modality=modality,
        max_bytes=request.max_bytes,
        min_bytes=request.min_bytes,
        dedup=request.dedup,
        license=request.license,
        left_out=[source.name for source in asked.remembered if source.name not in names],
        sources=[_source(state, selection.cuts[name], shares[name]) for name, state in states.items()],
        files=list(_files(storage, modality, asked, states, selection)),
    )


def _source(state: SourceState, cut: Cut, share: int) -> SourceFigures:
    source = state.source
    receipts = list(state.decoded())
    dropped: Counter[str] = Counter()
    quarantined: Counter[str] = Counter()
    for receipt in receipts:
        dropped.update(receipt.dropped)
        quarantined.update(receipt.quarantined)
    measured, outside, places = _measure(state, cut)
    return SourceFigures(
        name=source.name,
        category=source.category,
        license=source.license,
        homepage=source.homepage,
        failures=list(state.failures),
        blocks=state.count_blocks(),
        rows_in=sum(receipt.rows_in for receipt in receipts),
        kept=sum(receipt.kept for receipt in receipts),
        dropped=dropped,
        quarantined=quarantined,
        committed=sum(receipt.bytes for receipt in receipts),
        counts=cut.counts,
        size=cut.size,
        share=share,
        quota=share if cut.quota is None else cut.quota,
        state=cut.state,
        measured=measured,
        outside=outside,
        samples=list(show(state.storage, source, places)),
    )


def _measure(state: SourceState, cut: Cut) -> tuple[dict[str, Distribution], tuple[int, int], list[Place]]:
    """One pass over the samples in the output: how they are distributed, how many are outside the recommended seconds,
    and where those lie that are shown."""
    modality = state.source.modality
    measured = {name: Distribution(scale) for name, scale in MEASURES[modality].items()}
    wanted = choose(state.source.name, cut.counts.in_output)
    places: list[Place] = []
    begun = shorter = longer = 0
    for piece, table in _with_columns(state, cut):
        rows = np.flatnonzero(piece.mask)
        while len(places) < len(wanted) and wanted[len(places)] < begun + len(rows):
            row = int(rows[wanted[len(places)] - begun])
            places.append(Place(piece.receipt, row, int(piece.sizes[:row].sum(dtype=np.int64))))
        begun += len(rows)
        chosen = table.filter(pa.array(piece.mask)) if table is not None else None
        for name, distribution in measured.items():
            values = _values(name, piece, chosen)
            distribution.add(values)
            if name == "seconds":
                low, high = (seconds * SECONDS.unit for seconds in RECOMMENDED_SECONDS)
                shorter += int((values < low).sum())
                longer += int((values > high).sum())
    return measured, (shorter, longer), places


def _with_columns(state: SourceState, cut: Cut) -> Iterator[tuple[Piece, pa.Table | None]]:
    columns = _COLUMNS.get(state.source.modality)
    if columns is None:
        return ((piece, None) for piece in pieces(state, cut))
    return pieces_with_rows(state, cut, columns)


def _values(name: str, piece: Piece, chosen: pa.Table | None) -> np.typing.NDArray[np.int64]:
    if chosen is None or name == "file_bytes":
        newline = 1 if chosen is None else 0
        return piece.sizes[piece.mask].astype(np.int64) - newline
    if name == "text_chars":
        return np.asarray(pc.utf8_length(chosen.column("text")).to_numpy(), np.int64)
    values = np.asarray(chosen.column(name).to_numpy())
    return np.rint(values * SECONDS.unit).astype(np.int64) if name == "seconds" else values.astype(np.int64)


def _files(
    storage: Storage, modality: Modality, asked: Asked, states: dict[str, SourceState], selection: Selection
) -> Iterator[File]:
    """The production files, and those of single datasets, that were ever written."""
    kind, made = kind_of(modality), combine.read_combined(storage, modality).outputs
    products = [(product, states) for product in kind.products()]
    products += [
        (product, {source.name: states[source.name]})
        for source in asked.sources
        for product in kind.dataset_products(source)
    ]
    for product, of in products:
        if product.key not in made:
            continue
        stat = storage.stat(product.key)
        if stat is None:
            yield File(product.key, 0, "missing")
            continue
        current = combine.is_current(kind, product, of, selection, made[product.key])
        yield File(product.key, stat.size, "current" if current else "outdated")
