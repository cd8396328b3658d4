"""`omni-ray verify`: proof that nothing was lost, nothing came in twice, and the files are what they should be.

Three things are recomputed from the bytes on disk: that every block of every source was read as one gapless sequence
of segments, each record kept, dropped or quarantined exactly once; that every stored sample has the size and sha256
its table says; and that the production file and its index are exactly the selection over those samples.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from omni_ray.catalog import Modality
from omni_ray.errors import NotStored, OmniRayError
from omni_ray.ledger import Output, Receipt
from omni_ray.prepare import combine, store
from omni_ray.prepare.kinds import Kind, Product, kind_of
from omni_ray.prepare.pieces import pieces_with_rows
from omni_ray.prepare.plan import block_id, blocks_of, index_id, is_index
from omni_ray.prepare.records import Cut, InputFile
from omni_ray.prepare.select import Selection
from omni_ray.prepare.state import SourceState
from omni_ray.prepare.status import asked_of, current_selection, load_request, load_states
from omni_ray.storage import Storage, open_storage

MOST_PROBLEMS = 100  # shown of one output; the count says how many there are


class Proof(NamedTuple):
    """What was looked at, and everything that is wrong with it, in words; `selection` is None where the blocks that it
    would be made of are not sound."""

    states: dict[str, SourceState]
    selection: Selection | None
    problems: list[str]


def verify(storage: Storage, modality: Modality) -> Proof:
    """Prove an output.

    Raises:
        UsageError: where nothing was prepared.
    """
    request = load_request(storage, modality)
    asked = asked_of(request, storage)
    states = load_states(storage, modality, asked, trusting_files=False)
    problems = [problem for state in states.values() for problem in _source_problems(state)]
    if problems:
        return Proof(states, None, problems)
    selection = current_selection(request, asked, states)
    problems += _unfinished(states, selection)
    kind, combined = kind_of(modality), combine.read_combined(storage, modality)
    if kind.products()[0].key in combined.outputs:
        for product in kind.products():
            problems += product_problems(storage, kind, product, states, selection, combined)
    for name, state in states.items():
        for product in kind.dataset_products(state.source):
            if product.key in combined.outputs:
                problems += product_problems(storage, kind, product, {name: state}, selection, combined)
    if not combined.outputs:
        problems.append(f"{storage.uri}: nothing was combined yet; run prepare again without stopping it")
    return Proof(states, selection, problems)


def report(storage: Storage, modality: Modality) -> int:
    """Print what was proven or what is wrong; the exit code."""
    states, selection, problems = verify(storage, modality)
    for problem in problems[:MOST_PROBLEMS]:
        print(problem)
    if problems or selection is None:
        print(f"{len(problems)} problems" if len(problems) > 1 else "1 problem")
        return OmniRayError.exit_code
    for state in states.values():
        print(_proven(state, selection))
    print(f"verified: {len(states)} sources, {selection.size:,} bytes of samples; nothing lost, nothing twice")
    return 0


def _unfinished(states: dict[str, SourceState], selection: Selection) -> Iterator[str]:
    for name, state in states.items():
        if state.failures:
            yield f"{name}: {state.failures[0]}; nothing of it is in the output"
        elif selection.cuts[name].state == "needs_more":
            yield f"{name}: has not given its share yet; run prepare again"


def _proven(state: SourceState, selection: Selection) -> str:
    receipts = state.prefix()
    rows, kept = sum(r.rows_in for r in receipts), sum(r.kept for r in receipts)
    dropped = sum(sum(r.dropped.values()) for r in receipts)
    quarantined = sum(sum(r.quarantined.values()) for r in receipts)
    counts = selection.cuts[state.source.name].counts
    samples = sum(counts)
    return (
        f"{state.source.name}: {rows:,} records in = {kept:,} kept + {dropped:,} dropped + "
        f"{quarantined:,} quarantined; "
        f"{samples:,} samples = {counts.in_output:,} in the output + {counts.duplicate:,} duplicates "
        f"+ {counts.beyond:,} beyond the cut"
    )


def _source_problems(state: SourceState) -> Iterator[str]:
    name = state.source.name
    known: set[str] = set()
    for file in state.plan.files:
        damage = list(_index_problems(state, file))
        yield from damage
        if damage:
            return  # which blocks there are is not known then
        cuts = state.cuts_of(file)
        if cuts is None:
            continue
        previous: Cut | None = None
        for block, cut in blocks_of(file, cuts):
            known.add(block)
            if previous is not None and not _follows(previous, cut):
                yield f"{name}: {file.path}: block {block} does not begin where the one before it ends"
            previous = cut
            yield from _block_problems(state, file, cut)
    for block in state.committed.receipts:
        if not is_index(block) and block not in known:
            yield f"{name}: block {block} has a receipt, but its source has no such block"


def _index_problems(state: SourceState, file: InputFile) -> Iterator[str]:
    """Whether the files of an index pass are those of its receipts. Of the seek points only the newest are kept: each
    segment's hold all those before."""
    receipts = state.committed.receipts.get(index_id(file.path), [])
    for receipt in receipts:
        last = receipt is receipts[-1]
        kept = {kind: o for kind, o in receipt.outputs.items() if last or kind != store.SEEK_POINTS}
        for problem in _stored(state.storage, kept)[1]:
            yield f"{state.source.name}: {file.path}: index: {problem}; --reset --dataset {state.source.name}"


def _follows(before: Cut, after: Cut) -> bool:
    if before.member != after.member:
        return after.start == 0 or after.unit == "members"
    return before.stop == after.start


def _block_problems(state: SourceState, file: InputFile, cut: Cut) -> Iterator[str]:
    where = f"{state.source.name}: {file.path}: block {block_id(file.path, cut)}"
    for number, receipt in enumerate(state.committed.receipts.get(block_id(file.path, cut), ())):
        if receipt.segment != number:
            yield f"{where}: segment {receipt.segment} where {number} should be"
        if receipt.settings != state.plan.fingerprint:
            yield f"{where}: made with other settings than the plan's"
        if (receipt.size, receipt.revision) != (file.size, file.revision):
            yield f"{where}: made from another revision of the file than the plan's"
        accounted = receipt.kept + sum(receipt.dropped.values()) + sum(receipt.quarantined.values())
        if receipt.rows_in != accounted:
            yield f"{where}: {receipt.rows_in} records in, {accounted} accounted for"
        yield from (f"{where}: {problem}" for problem in _output_problems(state, receipt))


def _output_problems(state: SourceState, receipt: Receipt) -> Iterator[str]:
    data, problems = _stored(state.storage, receipt.outputs)
    if problems:
        yield from problems
        return
    kind = kind_of(state.source.modality)
    yield from kind.segment_problems(state.storage, state.source, receipt, data)
    reasons = Counter(
        entry["reason"] for entry in map(msgspec.json.decode, data.get("quarantine.jsonl", b"").splitlines())
    )
    if dict(reasons) != receipt.quarantined:
        yield f"quarantined records {dict(reasons)}, the receipt says {receipt.quarantined}"


def _stored(storage: Storage, outputs: Mapping[str, Output]) -> tuple[dict[str, bytes], list[str]]:
    """What is stored of outputs, by kind, and what is wrong with it."""
    try:
        data = store.read_outputs(storage, outputs)
    except NotStored:
        keys = sorted({output.key for output in outputs.values()})
        return {}, [f"{key} is missing" for key in keys if not storage.exists(key)]
    damaged = [outputs[kind] for kind in sorted(outputs) if _sha256(data[kind]) != outputs[kind].sha256]
    return data, [f"{output.key} is damaged: its sha256 is not the receipt's" for output in damaged]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def product_problems(
    storage: Storage,
    kind: Kind,
    product: Product,
    states: Mapping[str, SourceState],
    selection: Selection,
    combined: combine.Combined,
) -> Iterator[str]:
    """Whether a product and its index are the selection's."""
    states = product.of(states)
    for key in filter(None, (product.key, product.index_key)):
        made = combined.outputs.get(key)
        if not storage.exists(key):
            yield f"{key} is missing; run prepare again"
            return
        if made is None or not combine.is_current(kind, product, states, selection, made):
            yield f"{key} was made from other samples than are committed now; run prepare again"
            return
    out = combined.outputs[product.key].out
    if kind.names_output and open_storage(out).location != storage.location:
        yield f"{product.key} names its files below {out}, but this output is {storage.uri}; run prepare again"
    with ExitStack() as stack:
        actual = None
        if product.index_key:
            actual = _IndexCursor(pq.ParquetFile(stack.enter_context(storage.open(product.index_key))))
        check = kind.check(storage, product, out)
        offset = 0
        for name, state in states.items():
            for piece, stored in pieces_with_rows(state, selection.cuts[name]):
                chosen = stored.filter(pa.array(piece.mask))
                expected = kind.index_rows(state.source, piece.receipt.path, chosen, offset)
                if actual is not None and not _same(actual.take(len(expected)), expected):
                    yield f"{product.index_key}: {name}, block {piece.receipt.block}: not the selection's rows"
                    return
                yield from check.piece(expected)
                offset += piece.size
        yield from check.end()
        if actual is not None and actual.take(1) is not None:
            yield f"{product.index_key}: has more rows than the selection"


class _IndexCursor:
    """Rows of a Parquet file, as many at a time as asked for."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._batches = file.iter_batches(batch_size=1 << 16, use_threads=False)  # see `store.read_table`
        self._rest = file.schema_arrow.empty_table()

    def take(self, count: int) -> pa.Table | None:
        """The next `count` rows; None where fewer are left."""
        parts: Sequence[pa.Table] = [self._rest]
        while sum(map(len, parts)) < count:
            batch = next(self._batches, None)
            if batch is None:
                return None
            parts = [*parts, pa.Table.from_batches([batch])]
        table = pa.concat_tables(parts)
        self._rest = table.slice(count)
        return table.slice(0, count)


def _same(found: pa.Table | None, expected: pa.Table) -> bool:
    if found is None:
        return False
    types = [(f.name, f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in expected.schema]
    return bool(found.cast(pa.schema(types)).equals(expected.cast(pa.schema(types))))
