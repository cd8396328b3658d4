"""Writing the production files from the committed blocks, as the selection says.

What they are made of is the modality's (`kinds`); here is what all have in common. The result appears by rename; until
then the old production file stays. `combined.json` notes what the files were made from, so that an unchanged selection
is not written again.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import msgspec
import pyarrow as pa

from omni_ray.catalog import Modality, Source
from omni_ray.faults import stop_here
from omni_ray.prepare import store
from omni_ray.prepare.assemble import RunTasks
from omni_ray.prepare.index_file import IndexWriter
from omni_ray.prepare.kinds import Kind, Product, kind_of
from omni_ray.prepare.pieces import Piece, pieces, placed
from omni_ray.prepare.plan import fingerprint
from omni_ray.prepare.select import Selection
from omni_ray.prepare.state import SourceState
from omni_ray.storage import Storage

THREADS = 1  # that reads and makes index rows while a corpus is copied; most of that leaves the interpreter alone
AHEAD = 1  # segments whose rows may wait to be written: one of many short lines takes much to make

Item = TypeVar("Item")
Result = TypeVar("Result")


class Written(msgspec.Struct, frozen=True):
    """An output file as it was left: to tell whether it is still the one that was made. `out` is what the output was
    called then, which lists of clips begin with."""

    size: int
    mtime_ns: int
    selection: str
    out: str = ""


class Combined(msgspec.Struct, frozen=True):
    """What the outputs of a modality were made from, by key."""

    outputs: dict[str, Written]


def read_combined(storage: Storage, modality: Modality) -> Combined:
    """Where it was not noted yet what the output was called, it is taken to be what it is called now."""
    noted = store.read_struct(storage, store.combined_key(modality), Combined) or Combined({})
    named = {key: msgspec.structs.replace(made, out=made.out or storage.uri) for key, made in noted.outputs.items()}
    return Combined(named)


def write_production(
    storage: Storage, states: Mapping[str, SourceState], selection: Selection, run_tasks: RunTasks
) -> bool:
    """Write the production files and their indexes; False where they already are what the selection says."""
    modality = next(iter(states.values())).source.modality
    written = False
    for product in kind_of(modality).products():
        written |= write_product(storage, modality, product, states, selection, run_tasks)
    return written


def write_product(
    storage: Storage,
    modality: Modality,
    product: Product,
    states: Mapping[str, SourceState],
    selection: Selection,
    run_tasks: RunTasks,
) -> bool:
    """Write one output file and its index; False where they already are what the selection says."""
    kind = kind_of(modality)
    states = product.of(states)
    mark = selection_fingerprint(kind, states, selection, storage.uri)
    marks = {key: mark for key in (product.key, product.index_key) if key}
    if _unchanged(storage, modality, marks):
        return False
    body = kind.body(storage, product, mark, states, selection, run_tasks)
    index = None
    try:
        if product.index_key:
            index = IndexWriter(storage, product.index_key, product.key, kind.schema)
        for rows in _index_rows(kind, states, selection) if index or body.takes_rows else ():
            if index:
                index.add(rows)
            body.add(rows)
        size = body.finish()
        if index:
            index.finish(size, mark)
        stop_here("combining")
        body.commit()
        if index:
            stop_here("publishing")
            index.commit()
    finally:
        body.abort()
        if index:
            index.abort()
    _note(storage, modality, marks)
    return True


def selection_fingerprint(kind: Kind, states: Mapping[str, SourceState], selection: Selection, out: str) -> str:
    """Changes whenever a byte of a product of these sources could; `out` is what the output is called."""
    parts: list[object] = [kind.index_version]
    for name, state in states.items():
        source, cut = state.source, selection.cuts[name]
        made = [piece.receipt.outputs["rows.parquet"].sha256 for piece in pieces(state, cut)]
        duplicates = fingerprint([int(number) for number in cut.duplicates])
        parts.append(
            [name, source.category, source.license, made, cut.position, duplicates, *kind.mark_of(source, out)]
        )
    return fingerprint(parts)


def is_current(
    kind: Kind, product: Product, states: Mapping[str, SourceState], selection: Selection, made: Written
) -> bool:
    """Whether a product was made from this selection, whatever the output was called then."""
    return selection_fingerprint(kind, product.of(states), selection, made.out) == made.selection


def forget_dataset(storage: Storage, modality: Modality, source: Source) -> None:
    """Delete a source's own files where they are those that we made."""
    keys = [product.key for product in kind_of(modality).dataset_products(source)]
    combined = read_combined(storage, modality)
    found = [key for key in keys if key in combined.outputs]
    if found:
        storage.delete_many([key for key in found if _is_as_made(storage, key, combined.outputs[key])])
        left = {name: made for name, made in combined.outputs.items() if name not in found}
        store.write_struct(storage, store.combined_key(modality), Combined(left))


def _index_rows(kind: Kind, states: Mapping[str, SourceState], selection: Selection) -> Iterator[pa.Table]:
    """The index rows of all chosen samples, a table a segment."""

    def rows_of(work: tuple[SourceState, Piece, int]) -> pa.Table:
        state, piece, offset = work
        (rows,) = store.read_rows(state.storage, [piece.receipt])
        return kind.index_rows(state.source, piece.receipt.path, rows.filter(pa.array(piece.mask)), offset)

    with ThreadPoolExecutor(THREADS) as pool:
        yield from _in_order(pool, rows_of, placed(states, selection))


def _in_order(pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Like `pool.map`, but no more than AHEAD results wait to be taken."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _unchanged(storage: Storage, modality: Modality, marks: Mapping[str, str]) -> bool:
    made = read_combined(storage, modality).outputs
    return all(
        key in made and made[key].selection == mark and _is_as_made(storage, key, made[key])
        for key, mark in marks.items()
    )


def _is_as_made(storage: Storage, key: str, made: Written) -> bool:
    stat = storage.stat(key)
    return stat is not None and (stat.size, stat.mtime_ns) == (made.size, made.mtime_ns)


def _note(storage: Storage, modality: Modality, marks: Mapping[str, str]) -> None:
    outputs = dict(read_combined(storage, modality).outputs)
    for key, mark in marks.items():
        stat = storage.stat(key)
        if stat is not None:
            outputs[key] = Written(stat.size, stat.mtime_ns, mark, storage.uri)
    store.write_struct(storage, store.combined_key(modality), Combined(outputs))
