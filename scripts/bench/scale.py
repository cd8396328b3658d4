"""What preparation costs as blocks become many: planning, the driver's share of every block, a restart.

    python scripts/bench/scale.py                    # all three
    python scripts/bench/scale.py --only control --blocks 1000,10000,100000

plan     10 million blocks of a simulated source, each turned into the task that a worker would get.
control  blocks that do nothing, through the real run: tasks, Ray, receipts, ledger. Seconds of CPU of the driver, of
         all its threads, a block; the machine's other work does not count.
restart  real blocks of 1 KiB of input, prepared once; then what a second run does before it would give out work.
"""

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec

from omni_ray import blocks, runtime
from omni_ray.catalog import Source
from omni_ray.lease import Lease
from omni_ray.ledger import Output, Receipt
from omni_ray.prepare import command, pipeline, status
from omni_ray.prepare.asking import Asked, Checked
from omni_ray.prepare.plan import make_plan, next_tasks
from omni_ray.prepare.records import InputFile
from omni_ray.prepare.work import Report, Task
from omni_ray.storage import Storage, open_storage
from scripts.bench import _measure

BLOCK_BYTES = 16 << 20
FILE_BLOCKS = 1000  # of a simulated file


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("plan", "control", "restart"))
    parser.add_argument("--blocks", default="1000,10000,100000", help="for control")
    parser.add_argument("--plan-blocks", type=int, default=10_000_000)
    parser.add_argument("--restart-blocks", type=int, default=100_000)
    parser.add_argument("--prepared", type=Path, help="keep what restart prepares here, and use it again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.only in (None, "plan"):
            in_a_process("plan", folder, arguments.plan_blocks)
        if arguments.only in (None, "control"):
            for count in map(int, arguments.blocks.split(",")):
                in_a_process("control", folder, count)
        if arguments.only in (None, "restart"):
            restart(arguments.prepared or Path(folder) / "restart", arguments.restart_blocks)
    return 0


def in_a_process(what: str, folder: str, count: int) -> None:
    """Each measurement has a process of its own, so that its memory is its own too."""
    code = f"from scripts.bench import scale; scale.{what}({str(Path(folder) / f'{what}-{count}')!r}, {count})"
    print(_measure.run([sys.executable, "-c", code]).stdout, end="", flush=True)


def plan(folder: str, count: int) -> None:
    run = simulated(open_storage(folder), count)
    (state,) = run.states.values()
    began, cpu = time.perf_counter(), time.process_time()
    size = 0
    for task in next_tasks(state.missing(), state.committed.done, None, 1.0, 8, count):
        size += len(msgspec.msgpack.encode(run._to_task(state, task)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"plan: {count:,} blocks into tasks of {size / count:.0f} bytes in {time.perf_counter() - began:.1f} s "
        f"({time.process_time() - cpu:.1f} s of CPU), peak memory {peak:.2f} GB"
    )
    _measure.ratio("planning 10 million blocks: 60 s / it", 60 * count / 1e7 / (time.perf_counter() - began), 1)
    _measure.ratio("planning: 2 GB / its memory", 2 / peak, 1)


def control(folder: str, count: int) -> None:
    run = simulated(open_storage(folder), count)
    with runtime.connected("local", 2):
        complete(run, [(b"", 1)])  # what the first use of Ray Data costs is not a block's
        began, cpu = time.perf_counter(), time.process_time()
        complete(run, None)
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(
        f"control: {count:,} blocks that do nothing: driver {cpu / count * 1e3:.3f} ms of CPU a block, "
        f"{wall / count * 1e3:.3f} ms of wall time"
    )
    _measure.ratio(f"control plane, {count:,} blocks: 2 ms / its CPU a block", 2e-3 * count / cpu, 1)


def complete(
    run: pipeline.Run,
    instead: Sequence[tuple[bytes, int]] | None,
    work: Callable[[bytes], Iterator[bytes]] | None = None,
) -> None:
    """A run with other work than its own; with `instead`, only these tasks, whose receipts are for nobody."""

    def run_tasks(_work: Callable[[bytes], Iterator[bytes]], tasks: Sequence[tuple[bytes, int]]) -> Iterator[bytes]:
        return blocks.run_blocks(work or nothing, instead or tasks, address="local", workers=2)

    if instead:
        list(run_tasks(run._work, instead))
    else:
        run.complete(10**18, True, run_tasks)
        run.close()


def nothing(encoded: bytes) -> Iterator[bytes]:
    """A receipt like a real one, of no samples."""
    if not encoded:
        return
    task = msgspec.msgpack.decode(encoded, type=Task)
    outputs = {
        kind: Output(f".omni_ray/text/{task.source}/blocks/{task.block}.0000.00000000.{kind}", 0, "0" * 64)
        for kind in ("txt", "rows.parquet")
    }
    receipt = Receipt(
        task.block, 0, None, "0" * 32, task.file.path, task.file.size, task.file.revision, task.cut.unit,
        task.cut.start, task.cut.stop, task.cut.member, task.cut.weight, "0" * 64, outputs,
    )  # fmt: skip
    yield msgspec.msgpack.encode(Report(task.source, receipt))


def simulated(storage: Storage, count: int) -> pipeline.Run:
    """A run over one source of `count` blocks, of which only the plan exists."""
    entry = {
        "name": "simulated", "modality": "text", "category": "general", "url": ("x",), "reader": "lines",
        "license": "MIT", "block_bytes": BLOCK_BYTES,
    }  # fmt: skip
    source = Source.model_validate(entry)
    files = [
        InputFile(f"part-{at:08d}.txt", min(FILE_BLOCKS, count - at) * BLOCK_BYTES, "1")
        for at in range(0, count, FILE_BLOCKS)
    ]
    checked = [Checked(source, None, make_plan(source.settings(), files), "")]
    asked = Asked([source], frozenset({source.name}), {}, [source])
    assert asked.shares()[0].weight == Fraction(1)
    lease = Lease.acquire(storage, "scale")
    states = pipeline.states_of(storage, "text", checked)
    pipeline.open_sources(states, checked, lease)
    return pipeline.Run(storage, "text", asked, states, lease)


def restart(folder: Path, count: int) -> None:
    out = folder / "out"
    if not out.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lines.txt").open("w") as stream:
            for number in range(count * 4):
                stream.write(f"{number:09d} " + "words and more words of a line " * 8 + "\n")
        (folder / "catalog.toml").write_text(
            '[[source]]\nname = "lines"\nmodality = "text"\ncategory = "general"\nurl = "lines.txt"\nreader = "lines"\n'
            f'license = "MIT"\nblock_bytes = {4 * 259}\n'
        )
        began = time.perf_counter()
        code = f"from scripts.bench import scale; scale.prepare_here({str(folder / 'catalog.toml')!r}, {str(out)!r})"
        _measure.run([sys.executable, "-c", code])
        print(f"restart: {count:,} real blocks prepared in {time.perf_counter() - began:.0f} s", flush=True)
    seconds = [planning(out) for _ in range(5)]
    again = [_measure.run(_measure.prepare("text", folder / "catalog.toml", out, "--min-gb", "0")) for _ in range(3)]
    print(
        f"restart: {count:,} committed blocks: planning {_measure.spread(seconds)} s; the whole command, which finds "
        f"everything done, {_measure.spread([run.seconds for run in again])} s and "
        f"{max(run.peak_bytes for run in again) / 1e9:.2f} GB"
    )
    _measure.ratio("restart: 3 s / planning", 3 / statistics.median(seconds), 1)


def in_turn(
    work: Callable[[bytes], Iterator[bytes]], tasks: Sequence[tuple[bytes, int]], **_: object
) -> Iterator[bytes]:
    for task, _weight in tasks:
        yield from filter(None, work(task))


def prepare_here(catalog: str, out: str, run_blocks: Callable[..., Iterator[bytes]] = in_turn) -> None:
    """The run that makes the blocks, in this process and without waiting for the disk: it is not what is measured."""

    @contextmanager
    def not_connected(address: str, workers: int | None) -> Iterator[int]:
        yield 1

    with (
        mock.patch.object(os, "fsync"),
        mock.patch.object(runtime, "connected", not_connected),
        mock.patch.object(blocks, "run_blocks", run_blocks),
    ):
        if code := command.main(["text", "--catalog", catalog, "--out", out, "--min-gb", "0"]):
            sys.exit(code)


def planning(out: Path) -> float:
    """Seconds from nothing to the first task that a run would give out, in a fresh process."""
    code = f"from scripts.bench import scale; scale.plan_again({str(out)!r})"
    return float(_measure.run([sys.executable, "-c", code]).stdout)


def plan_again(out: str) -> None:
    storage = open_storage(out)
    began = time.perf_counter()
    request = status.load_request(storage, "text")
    asked = status.asked_of(request, storage)
    states = status.load_states(storage, "text", asked)
    status.current_selection(request, asked, states)
    for state in states.values():
        next(next_tasks(state.missing(), state.committed.done, None, 1.0, 8, 1), None)
    print(time.perf_counter() - began)


if __name__ == "__main__":
    raise SystemExit(main())
