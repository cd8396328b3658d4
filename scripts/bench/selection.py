"""Selection and exact deduplication of many simulated samples, from files of committed samples as a real run has them.

    python scripts/bench/selection.py --samples 100000000 --duplicates 0.05

Half of the samples fit the budget. The files are written first and are not part of the figure; the page cache is not
part of the memory.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import pyarrow as pa

from omni_ray.ledger import Output, Receipt
from omni_ray.prepare import store
from omni_ray.prepare.budget import Share
from omni_ray.prepare.samples import CommittedSamples
from omni_ray.prepare.select import Samples, select
from omni_ray.storage import Storage, open_storage
from scripts.bench import _measure

SOURCES = 10
BLOCK_SAMPLES = 1_000_000
MEAN_BYTES = 500


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=100_000_000)
    parser.add_argument("--duplicates", type=float, default=0.05)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for step in ("write", "measure"):
            code = (
                f"from scripts.bench import selection; "
                f"selection.{step}({folder!r}, {arguments.samples}, {arguments.duplicates})"
            )
            print(_measure.run([sys.executable, "-c", code]).stdout, end="", flush=True)
    return 0


def write(folder: str, samples: int, duplicates: float) -> None:
    def read_rows(
        storage: Storage, receipts: Iterable[Receipt], columns: list[str] | None = None
    ) -> Iterator[pa.Table]:
        for receipt in receipts:
            yield simulated_rows(receipt, samples, duplicates)

    store.read_rows = read_rows
    storage = open_storage(folder)
    for source in range(SOURCES):
        committed = CommittedSamples(storage, f"{source}/samples")
        receipts = receipts_of(source, samples)
        for end in range(1, len(receipts) + 1):
            committed.extend(receipts[:end])
            committed.save()
        committed.save()


def measure(folder: str, samples: int, duplicates: float) -> None:
    storage = open_storage(folder)
    began = time.perf_counter()
    given = {}
    for source in range(SOURCES):
        committed = CommittedSamples(storage, f"{source}/samples")
        committed.extend(receipts_of(source, samples))
        given[str(source)] = Samples(committed.sizes(), committed.hashes, True)
    opened = time.perf_counter() - began
    shares = [Share(str(source), "general", Fraction(1), Fraction(1)) for source in range(SOURCES)]
    selection = select(samples * MEAN_BYTES // 2, shares, given, True)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    found = sum(cut.counts.duplicate for cut in selection.cuts.values())
    print(
        f"select: {samples:,} samples, {duplicates:.0%} repeated: {seconds:.1f} s, of which {opened:.1f} s to open and "
        f"check the files; {samples / seconds / 1e6:.2f} million samples/s, {peak:.2f} GB; {found:,} duplicates passed"
    )
    _measure.ratio("selection: 1.5 GB / its memory", 1.5 / peak, 1)


def receipts_of(source: int, samples: int) -> list[Receipt]:
    count = -(-samples // SOURCES // BLOCK_SAMPLES)
    each = samples // SOURCES // count
    return [
        Receipt(
            f"{source}-{number}", 0, None, "", "f", 1, "", "bytes", number, number + 1, "", 0, "",
            {"rows.parquet": Output("", 0, f"{source}-{number}")}, samples=each,
        )
        for number in range(count)
    ]  # fmt: skip


def simulated_rows(receipt: Receipt, samples: int, duplicates: float) -> pa.Table:
    """Random sizes and digests; a share of the digests come from a pool that all blocks have in common."""
    source, number = map(int, receipt.block.split("-"))
    dice = np.random.default_rng([source, number])
    digests = dice.integers(0, 1 << 63, (receipt.samples, 4), np.int64)
    repeated = dice.random(receipt.samples) < duplicates
    pool = dice.integers(0, max(1, int(samples * duplicates / 2)), int(repeated.sum()), np.int64)
    digests[repeated] = pool[:, None] * np.array([0x9E3779B97F4A7C1, 0x2545F4914F6CDD1, 1, 1]) + 1
    sizes = dice.integers(MEAN_BYTES // 2, MEAN_BYTES * 3 // 2, receipt.samples, np.uint32)
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), receipt.samples, [None, pa.py_buffer(digests)])
    return pa.table({"bytes": sizes, "sha256": column})


if __name__ == "__main__":
    raise SystemExit(main())
