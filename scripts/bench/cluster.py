"""What many workers are worth, and what the driver pays for each block that they finish.

    python scripts/bench/cluster.py --text ../shared/data/text/gsm8k-train.jsonl
    python scripts/bench/cluster.py --only waits

waits   blocks that sleep instead of computing, through the real run (tasks, Ray, receipts, ledger), on one node and on
        two and three nodes begun by `ray start`: what is lost is the engine's own cost. Efficiency is the time that the
        blocks sleep, shared evenly, over the time that the run takes.
real    real text blocks with one and with two workers, the whole command; efficiency of two against one.
costs   seconds of CPU of the driver for a block, for a message with receipts and for a group of blocks (a Ray task), in
        its Python threads, of which one runs at a time, and in Ray's own; of Ray's control processes for the same;
        bytes, memory and time of the ledger; how long real blocks take. `simulate.py` counts with them.
"""

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec
import numpy as np
import psutil
import ray.data

from omni_ray import blocks, runtime
from omni_ray.ledger import Ledger, Receipt, read_ledger
from omni_ray.prepare.work import Report, Task
from omni_ray.storage import open_storage
from scripts.bench import _measure, prepare_text, scale
from tests.cluster import nodes

SECONDS = 0.4  # that a block sleeps on average; each between half and one and a half of it
LAYOUTS = ((1,), (2,), (4,), (8,), (2, 2), (2, 1, 1))  # CPUs of each node
TARGET = 0.9
LARGE = 64  # blocks of a group, where groups are large
CONTROL = ("gcs_server", "raylet")
NAMES = {"python": "Python threads of the driver", "native": "Ray's own threads in the driver"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("waits", "real", "costs"))
    parser.add_argument("--text", type=Path, help="for real: JSON lines with the columns question and answer")
    parser.add_argument("--gb", type=float, default=0.6, help="for real: size of the input")
    parser.add_argument("--blocks", type=int, default=60, help="for waits: blocks for each CPU")
    parser.add_argument("--cost-blocks", type=int, default=2000, help="for costs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.only in (None, "waits"):
            waits(Path(folder), arguments.blocks)
        if arguments.only in (None, "real") and arguments.text:
            real(Path(folder), arguments.text, arguments.gb)
        if arguments.only in (None, "costs"):
            costs(Path(folder), arguments.cost_blocks)
            if arguments.text:
                block_times(Path(folder), arguments.text, arguments.gb)
    return 0


def waits(folder: Path, per_cpu: int) -> None:
    for layout in LAYOUTS:
        cpus, name = sum(layout), "+".join(map(str, layout))
        with nodes.cluster(cpus=layout[0]) as cluster:
            for more in layout[1:]:
                cluster.add(cpus=more)
            out = str(folder / f"waits-{name}")
            call = f"print(cluster.wait_here({out!r}, {per_cpu * cpus}, {cpus}))"
            efficiency = float(_in_a_process(call, **cluster.environment))
        what = f"{cpus} workers on {len(layout)} node{'s' * (len(layout) > 1)} ({name} CPUs)"
        _measure.ratio(f"blocks that wait, {what}: efficiency", efficiency, TARGET)


def wait_here(out: str, count: int, cpus: int) -> float:
    """The efficiency of a run on the cluster that RAY_ADDRESS names."""
    run = scale.simulated(open_storage(out), count)
    ideal = sum(sleep_of(block) for block in range(count)) / cpus
    with runtime.connected("auto", None):
        scale.complete(run, [(b"", 1)] * (4 * cpus), sleep)  # what the first task of a worker costs is not a block's
        began = time.perf_counter()
        scale.complete(run, None, sleep)
        seconds = time.perf_counter() - began
    print(f"waits: {count} blocks of {SECONDS} s: {seconds:.1f} s, ideally {ideal:.1f} s", file=sys.stderr)
    return ideal / seconds


def sleep_of(seed: object) -> float:
    """Seconds, the same for the same block, evenly between half and one and a half of the mean."""
    share = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4]) / 2**32
    return SECONDS * (0.5 + share)


def sleep(encoded: bytes) -> Iterator[bytes]:
    if not encoded:
        time.sleep(SECONDS)  # so that each worker gets some of them
        return
    task = msgspec.msgpack.decode(encoded, type=Task)
    time.sleep(sleep_of(task.cut.start // scale.BLOCK_BYTES + int(task.file.path[5:13])))  # part-00000000.txt
    yield from scale.nothing(encoded)


def real(folder: Path, text: Path, gigabytes: float) -> None:
    sizes = prepare_text.write_input(text, folder, int(gigabytes * 1e9))
    rates = []
    for workers in ("1", "2"):
        seconds = [
            _measure.run(
                _measure.prepare(
                    "text", folder / f"{part}.toml", folder / f"out-{part}-{workers}", "--workers", workers
                )
            ).seconds
            for part in ("quarter", "all")
        ]
        rates.append((sizes["all"] - sizes["quarter"]) / 1e6 / (seconds[1] - seconds[0]))
    print(f"real: {rates[0]:.1f} MB/s steady with one worker, {rates[1]:.1f} with two")
    _measure.ratio("real blocks, 2 workers on 2 cores: efficiency", rates[1] / 2 / rates[0], TARGET)


def costs(folder: Path, count: int) -> None:
    """Three ways of sending the same blocks give three equations for group, message and block."""
    ways = [(1, False, count), (LARGE, True, count), (LARGE, False, 10 * count)]
    found = []
    for group, flushing, number in ways:
        call = f"print(cluster.cost_here({str(folder / f'costs-{group}-{flushing}')!r}, {number}, {group}, {flushing}))"
        found.append(json.loads(_in_a_process(call)))
    # per block: group/size + messages + 1
    shares = [[1, 1, 1], [1 / LARGE, 1 + 1 / LARGE, 1], [1 / LARGE, 1 / LARGE, 1]]
    for who in ("python", "native", *CONTROL):
        group, message, block = np.linalg.solve(np.array(shares), np.array([one[who] for one in found])) * 1e3
        where = NAMES.get(who, who)
        print(f"costs: {where}: {group:.2f} ms of CPU a group, {message:.2f} ms a message, {block:.3f} ms a block")
    print(f"costs: before the first group of a round begins: {found[0]['before'] * 1e3:.2f} ms for each group")
    print(f"costs: memory of the driver: {found[2]['bytes'] / 1e3:.2f} kB a block")
    print(_in_a_process(f"print(cluster.ledger_here({str(folder / 'ledger')!r}, {10 * count}))"), end="")


def block_times(folder: Path, text: Path, gigabytes: float) -> None:
    """Deciles of the seconds that a real block of text takes, alone on a core."""
    prepare_text.write_input(text, folder, int(gigabytes * 1e9))
    call = f"cluster.time_here({str(folder / 'all.toml')!r}, {str(folder / 'timed')!r})"
    seconds = json.loads(_in_a_process(call).splitlines()[-1])
    deciles = ", ".join(f"{decile:.2f}" for decile in np.quantile(seconds, np.linspace(0, 1, 11)))
    print(f"costs: seconds of {len(seconds)} blocks of text, deciles: {deciles}")


def time_here(catalog: str, out: str) -> None:
    """Prepare without Ray; print the seconds of each task."""
    seconds = []

    def in_turn(work: blocks.Work, tasks: Sequence[tuple[bytes, int]], **_: object) -> Iterator[bytes]:
        for task, _weight in tasks:
            began = time.perf_counter()
            given = list(filter(None, work(task)))
            seconds.append(time.perf_counter() - began)
            yield from given

    scale.prepare_here(catalog, out, in_turn)
    print(json.dumps(seconds))


def cost_here(out: str, count: int, group: int, flushing: bool) -> str:
    """Seconds of CPU for each block; every block is a message with `flushing`."""
    run = scale.simulated(open_storage(out), count)
    grouped = mock.patch.object(blocks, "group_tasks", lambda tasks, cpus: _groups_of(tasks, group))
    with grouped, runtime.connected("local", 2):
        scale.complete(run, [(b"", 1)] * 4)
        children = psutil.Process().children(recursive=True)
        control = {name: [child for child in children if child.name() == name] for name in CONTROL}
        before = {name: _cpu(control[name]) for name in CONTROL}
        memory, cpu, native = psutil.Process().memory_info().rss, time.process_time(), _native_cpu()
        scale.complete(run, None, flush_each if flushing else None)
        native = _native_cpu() - native
        spent = {"python": time.process_time() - cpu - native, "native": native}
        spent |= {name: _cpu(control[name]) - before[name] for name in CONTROL}
        grown = psutil.Process().memory_info().rss - memory
        began = time.perf_counter()
        ray.data.from_items([{"tasks": [b"x" * 300], "numbers": [0]}] * count, override_num_blocks=count)
        spent |= {"before": time.perf_counter() - began, "bytes": grown}
    return json.dumps({name: value / count for name, value in spent.items()})


def flush_each(encoded: bytes) -> Iterator[bytes]:
    blocks.FLUSH_SECONDS = -1.0  # in the worker
    yield from scale.nothing(encoded)


def ledger_here(out: str, count: int) -> str:
    """What a ledger takes for `count` receipts, synced after every hundred, and what reading it takes."""
    storage = open_storage(out)
    ledger = Ledger(storage, "ledger", "run", 1)
    receipt = _a_receipt(f"{out}-of-one")
    synced = []
    cpu = time.process_time()
    for number in range(count):
        ledger.append(msgspec.structs.replace(receipt, block=f"{receipt.block[:-8]}{number:08d}"))
        if number % 100 == 99:
            began = time.perf_counter()
            ledger.sync()
            synced.append(time.perf_counter() - began)
    cpu = time.process_time() - cpu
    ledger.close()
    del ledger
    size = sum(len(storage.read_log(log, None)) for log in storage.logs("ledger"))
    memory, began = psutil.Process().memory_info().rss, time.perf_counter()
    state = read_ledger(storage, "ledger")
    seconds, grown = time.perf_counter() - began, psutil.Process().memory_info().rss - memory
    assert len(state.receipts) == count
    return (
        f"costs: ledger: {size / count:.0f} bytes a receipt, {cpu / count * 1e6:.0f} us of CPU, "
        f"{grown / count / 1e3:.2f} kB of memory; a sync {statistics.median(synced) * 1e3:.2f} ms; read at "
        f"{count / seconds:,.0f} receipts/s"
    )


def _a_receipt(out: str) -> Receipt:
    """The receipt of a block that does nothing."""
    given: list[bytes] = []

    def here(_work: object, tasks: Sequence[tuple[bytes, int]]) -> Iterator[bytes]:
        given.extend(receipt for task, _ in tasks for receipt in scale.nothing(task))
        return iter(given)

    scale.simulated(open_storage(out), 1).complete(10**18, True, here)
    receipt = msgspec.msgpack.decode(given[0], type=Report).what
    assert isinstance(receipt, Receipt)
    return receipt


def _groups_of(tasks: Sequence[tuple[bytes, int]], size: int) -> list[list[bytes]]:
    return [[task for task, _ in tasks[at : at + size]] for at in range(0, len(tasks), size)]


def _native_cpu() -> float:
    """Seconds of CPU of the threads that are not Python's: they run beside it, on other cores."""
    ours = {thread.native_id for thread in threading.enumerate()}
    return sum(one.user_time + one.system_time for one in psutil.Process().threads() if one.id not in ours)


def _cpu(processes: Sequence[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def _in_a_process(call: str, **environment: str) -> str:
    """Each measurement has a process of its own."""
    return _measure.run([sys.executable, "-c", f"from scripts.bench import cluster; {call}"], **environment).stdout


if __name__ == "__main__":
    raise SystemExit(main())
