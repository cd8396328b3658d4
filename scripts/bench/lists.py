"""Memory of writing, proving and reading the lists of sounds and pictures with ten million entries.

    python scripts/bench/lists.py --entries 10000000

The tables beside 1,000 blocks are made up, with receipts in a real ledger, and no sound or picture behind them. From
there on everything is the product's: the lists and their indexes are written by what ends a run, compared entry by
entry by what `verify` does with them, and then read back as a source of text by the whole command, which indexes the
JSON array and the CSV and decodes every entry. Each step has its own process; shown is the largest one's memory.
"""

import argparse
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa

from omni_ray.catalog import Modality, Source
from omni_ray.lease import Lease
from omni_ray.ledger import Receipt
from omni_ray.prepare import pipeline, store, verify
from omni_ray.prepare.asking import Asked, Checked
from omni_ray.prepare.combine import read_combined, write_production
from omni_ray.prepare.kinds import kind_of
from omni_ray.prepare.media_segment import MEDIA_SCHEMA
from omni_ray.prepare.plan import SourcePlan, block_id, make_plan
from omni_ray.prepare.records import InputFile
from omni_ray.prepare.select import Selection, select
from omni_ray.prepare.state import SourceState
from omni_ray.storage import open_storage
from scripts.bench import _measure

BLOCKS = 1000
BLOCK_BYTES = 1 << 20  # of the input that nobody reads
BOUND_BYTES = 1.5e9
SUFFIX: dict[str, str] = {"image": "jpg", "audio": "flac"}
READ_BACK = """
[[source]]
name = "again"
modality = "text"
category = "general"
url = "{url}"
reader = "table"
license = "MIT"
[source.fields]
text = "{{{column}}}"
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=10_000_000)
    parser.add_argument("--modality", nargs="+", choices=list(SUFFIX), default=list(SUFFIX))
    arguments = parser.parse_args()
    print("| what | entries | MB | seconds | peak MB of a process |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for modality in arguments.modality:
            out = Path(folder) / modality
            peaks = [in_a_process(step, modality, out, arguments.entries) for step in ("make", "write", "prove")]
            lists = sorted(path for path in out.glob("*/production_*") if path.suffix != ".parquet")
            peaks += [read_back(path, arguments.entries, Path(folder)) for path in lists]
            largest = max(peaks)
            _measure.ratio(f"1.5 GB / the largest process for lists of {modality}", BOUND_BYTES / largest, 1.0)
    return 0


def in_a_process(step: str, modality: str, out: Path, entries: int) -> int:
    """Run one of the steps below; bytes of its process at its largest."""
    code = f"from scripts.bench import lists; lists.{step}({modality!r}, {str(out)!r}, {entries})"
    done = _measure.run([sys.executable, "-c", f"{code}; lists.print_peak()"])
    size = sum(path.stat().st_size for path in out.glob("*/production_*"))
    peak = int(done.stdout.split()[-1])
    show(f"{modality}: {step}", entries, size, done.seconds, peak)
    return peak


def show(what: str, entries: int, size: int, seconds: float, peak: int) -> None:
    print(f"| {what} | {entries:,} | {size / 1e6:,.0f} | {seconds:.1f} | {peak / 1e6:.0f} |", flush=True)


def print_peak() -> None:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10)


def read_back(path: Path, entries: int, folder: Path) -> int:
    catalog, again = folder / f"{path.stem}.toml", folder / f"again-{path.stem}"
    column = "caption" if path.suffix == ".json" else "text"
    catalog.write_text(READ_BACK.format(url=path, column=column))
    done = _measure.run(_measure.prepare("text", catalog, again, "--dedup", "none"))
    with (again / "text/production_corpus.txt").open("rb") as stream:
        found = sum(chunk.count(b"\n") for chunk in iter(lambda: stream.read(1 << 24), b""))
    if found != entries:
        sys.exit(f"{path.name}: {found} of {entries} entries were read")
    show(f"{path.name}: read as a source", entries, path.stat().st_size, done.seconds, done.peak_bytes)
    return done.peak_bytes


def source_of(modality: Modality) -> Source:
    entry = {
        "name": "simulated", "modality": modality, "category": "general", "url": ("x",), "reader": "table",
        "license": "MIT", "block_bytes": BLOCK_BYTES,
        "fields": {modality: modality, "text" if modality == "audio" else "caption": "{words}"},
    }  # fmt: skip
    return Source.model_validate(entry)


def make(modality: Modality, out: str, entries: int) -> None:
    """Tables and receipts of BLOCKS blocks."""
    storage = open_storage(out)
    source = source_of(modality)
    file = InputFile("x.jsonl", BLOCKS * BLOCK_BYTES, "1")
    plan = make_plan(kind_of(modality).settings(source), [file])
    checked = [Checked(source, None, plan, "")]
    lease = Lease.acquire(storage, "lists")
    (state,) = pipeline.states_of(storage, modality, checked)
    pipeline.open_sources([state], checked, lease)
    assert state.ledger is not None
    cuts = state.cuts_of(file)
    assert cuts is not None
    for number, cut in enumerate(cuts):
        block = block_id(file.path, cut)
        count = entries * (number + 1) // BLOCKS - entries * number // BLOCKS
        table = table_of(modality, block, number, count)
        data = {"rows.parquet": store.encode_parquet(table)}
        objects, outputs = store.arrange(storage, state.folder.block(block, 0, state.tag(file)), data)
        for key, content in objects.items():
            path = Path(out) / key  # not synced: it is not what is measured
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        state.ledger.append(
            Receipt(
                block, 0, None, plan.fingerprint, file.path, file.size, file.revision, cut.unit, cut.start, cut.stop,
                "", cut.weight, "0" * 64, outputs, count, count, count, sum(table.column("bytes").to_pylist()),
            )
        )  # fmt: skip
    state.ledger.sync()
    state.file_samples()
    state.ledger.close()
    lease.release()


def table_of(modality: Modality, block: str, number: int, count: int) -> pa.Table:
    """Rows as a decoded block has them: every hash and every text differs from all others."""
    dice = np.random.default_rng(number)
    digests = dice.bytes(32 * count)
    hexed = digests.hex()
    folder = f"{kind_of(modality).folder}/simulated/{block}.00000000"
    picture = modality == "image"
    columns: dict[str, object] = {
        "member": pa.array([""] * count).dictionary_encode(),
        "row": np.arange(count),
        "bytes": dice.integers(20_000, 60_000, count, np.uint32),
        "sha256": [digests[at : at + 32] for at in range(0, 32 * count, 32)],
        "path": [f"{folder}/{hexed[at : at + 32]}.{SUFFIX[modality]}" for at in range(0, 64 * count, 64)],
        "offset": np.zeros(count, np.int64),
        "text": [f"entry {row} of block {number}, as somebody might have said or described it" for row in range(count)],
        "group": pa.nulls(count, pa.string()),
        "category": pa.nulls(count, pa.string()),
        "seconds": pa.nulls(count, pa.float64()) if picture else np.full(count, 3.5),
        "width": np.full(count, 224, np.int32) if picture else pa.nulls(count, pa.int32()),
        "height": np.full(count, 224, np.int32) if picture else pa.nulls(count, pa.int32()),
    }
    return pa.table({name: columns[name] for name in MEDIA_SCHEMA.names}, schema=MEDIA_SCHEMA)


def committed(modality: Modality, out: str) -> tuple[SourceState, Selection]:
    """What a command finds that looks at the output, and what it selects of it."""
    storage = open_storage(out)
    source = source_of(modality)
    plan = store.read_struct(storage, store.SourceFolder(modality, source.name).plan, SourcePlan)
    assert plan is not None
    state = SourceState(storage, modality, source, plan)
    asked = Asked([source], frozenset({source.name}), {}, [source])
    return state, select(10**18, asked.shares(), {source.name: state.samples()}, True)


def write(modality: Modality, out: str, entries: int) -> None:
    state, selection = committed(modality, out)
    assert sum(selection.cuts["simulated"].counts) == entries
    write_production(state.storage, {"simulated": state}, selection, nothing)


def nothing(*_: object) -> Iterator[bytes]:
    return iter(())


def prove(modality: Modality, out: str, entries: int) -> None:
    state, selection = committed(modality, out)
    kind, made = kind_of(modality), read_combined(state.storage, modality)
    for product in kind.products():
        problems = verify.product_problems(state.storage, kind, product, {"simulated": state}, selection, made)
        if problem := next(iter(problems), None):
            sys.exit(problem)


if __name__ == "__main__":
    raise SystemExit(main())
