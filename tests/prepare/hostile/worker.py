"""A process of its own that prepares files as a Ray worker does, for tests of what may kill it, hang it or fill it.

It takes one JSON object a line and answers with one. `prepare` runs the whole command, with tasks run here instead of
by Ray; the answer holds the counts of the ledger, what `verify` says and the peak of resident memory meanwhile.
"""

import contextlib
import functools
import io
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import omni_ray.blocks  # noqa: F401 - what a Ray worker has in memory too
from omni_ray.catalog import Modality
from omni_ray.ledger import read_ledger
from omni_ray.prepare import command, readers, verify
from omni_ray.prepare.readers import index
from omni_ray.storage import LocalStorage
from tests.prepare import inprocess
from tests.prepare.hostile import reading


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    command._tasks_runner = lambda *_: inprocess.run_here
    for line in sys.stdin:
        job = json.loads(line)
        _forget_peak()
        began = time.monotonic()
        answer = {"prepare": _prepare, "read": reading.compare_readings}[job.pop("action")](**job)
        answer = {"peak_mb": _peak_mb()} | answer | {"seconds": time.monotonic() - began}
        print(json.dumps(answer), file=answers, flush=True)


def _prepare(
    catalog: str,
    out: str,
    arguments: list[str],
    modality: Modality = "text",
    segment_bytes: int = index.INDEX_SEGMENT_BYTES,
) -> dict[str, Any]:
    errors = io.StringIO()
    segmented = functools.partial(index.index_file, segment_bytes=segment_bytes)
    with contextlib.redirect_stderr(errors), mock.patch.object(readers, "index_file", segmented):
        code = command.main([modality, "--catalog", catalog, "--out", out, *arguments])
    storage = LocalStorage(out)
    problems = verify.verify(storage, modality).problems if code == 0 else []
    peak_mb = _peak_mb()  # of the command and the proof; what follows is the test's own
    counts: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    quarantined: list[dict[str, Any]] = []
    for folder in sorted(Path(out).glob(f".omni_ray/{modality}/*/ledger")):
        for receipts in read_ledger(storage, folder.relative_to(out).as_posix()).receipts.values():
            for receipt in receipts:
                counts.update(rows_in=receipt.rows_in, kept=receipt.kept, samples=receipt.samples)
                dropped.update(receipt.dropped)
                if "quarantine.jsonl" in receipt.outputs:
                    lines = storage.read(receipt.outputs["quarantine.jsonl"].key).splitlines()
                    quarantined += [json.loads(one) for one in lines]
                    counts["quarantined"] += len(lines)
    return {
        "code": code,
        "errors": errors.getvalue(),
        "rows_in": counts["rows_in"],
        "kept": counts["kept"],
        "samples": counts["samples"],
        "dropped": dict(dropped),
        "quarantined": counts["quarantined"],
        "quarantine": quarantined,
        "problems": problems,
        "peak_mb": peak_mb,
    }


def _forget_peak() -> None:
    """Begin the measure of peak memory anew (proc(5): clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> float:
    """Peak resident memory in 10^6 bytes: VmHWM, for getrusage's figure takes in that of the process we come from."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


if __name__ == "__main__":
    main()
