"""The Ray Data door: run one function over many tasks anywhere in the cluster, and yield receipts as they come.

Only task descriptions and receipts pass through here; payload is written where it is made.

On small machines Ray Data's default keeps part of the CPUs in reserve for each operator, which halves the throughput
of two cores; with one operator the reserve serves nobody, so it is off. `target_max_block_size` of one byte makes
every yielded batch of receipts an object of its own, which the driver sees at once instead of at the task's end.
"""

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import pyarrow as pa
import ray.data

from omni_ray.runtime import connected

FLUSH_SECONDS = 0.5
GROUP_WEIGHT = (
    128 << 20
)  # input bytes, some seconds of work; a Ray task costs the driver some 5 ms, so blocks share one
GROUP_BLOCKS = 64
GROUPS_PER_CPU = 4  # into which what is left is divided, so that groups become small towards the end and no CPU idles
BACKGROUND = ("StreamingExecutor-", "iter_threaded")  # threads that Ray Data schedules and reads in
END_SECONDS = 30.0  # for them to end; they stop between two steps

Work = Callable[[bytes], Iterator[bytes]]


def run_blocks(
    work: Work, tasks: Sequence[tuple[bytes, int]], *, address: str, workers: int | None
) -> Generator[bytes, None, None]:
    """Run `work` over every task, in no particular order, and yield what it yields soon after.

    Closed early, it ends what is running; that has to come before `connected` ends.

    Args:
        work: picklable; called in a worker process with one encoded task. An exception ends the whole run.
        tasks: encoded task, weight in input bytes.
    """
    with connected(address, workers) as cpus:
        groups = group_tasks(tasks, cpus)
        rows = [{"tasks": group} for group in groups]
        _configure()
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            partial(_run_group, work), batch_size=None, batch_format="pyarrow", num_cpus=1
        )
        with _threads_ended():
            for table in dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
                yield from table.column("receipts").combine_chunks().flatten().to_pylist()


@contextmanager
def _threads_ended() -> Iterator[None]:
    """Wait, at the end, for what Ray Data runs in the background.

    Left early, it tells its threads to stop but does not wait until they have; Ray ends the whole process, with a code
    and a message of its own, where one of them still uses a connection that was closed meanwhile.
    """
    before = set(threading.enumerate())
    try:
        yield
    finally:
        gone_at = time.monotonic() + END_SECONDS
        for thread in set(threading.enumerate()) - before:
            if thread.name.startswith(BACKGROUND):
                thread.join(max(0.0, gone_at - time.monotonic()))


def group_tasks(tasks: Sequence[tuple[bytes, int]], cpus: int) -> list[list[bytes]]:
    """Put neighbouring tasks together: a group has a share of what is left (guided self-scheduling, Polychronopoulos &
    Kuck, 1987), so that the first ones are large and the last ones small."""
    left = sum(weight for _, weight in tasks)
    groups: list[list[bytes]] = []
    weighed = weight_limit = count_limit = 0
    for number, (task, weight) in enumerate(tasks):
        if not groups or len(groups[-1]) >= count_limit or weighed + weight > weight_limit:
            groups.append([])
            weighed = 0
            weight_limit = min(GROUP_WEIGHT, left // (cpus * GROUPS_PER_CPU))
            count_limit = min(GROUP_BLOCKS, max(1, (len(tasks) - number) // (cpus * GROUPS_PER_CPU)))
        groups[-1].append(task)
        weighed += weight
        left -= weight
    return groups


def _run_group(work: Work, batch: pa.Table) -> Iterator[pa.Table]:
    """What Ray Data calls in a worker: one batch is one group of tasks."""
    receipts: list[bytes] = []
    flushed = time.monotonic()
    for task in batch.column("tasks").combine_chunks().flatten().to_pylist():
        for receipt in work(task):
            receipts.append(receipt)
            if time.monotonic() - flushed > FLUSH_SECONDS:
                yield _table(receipts)
                receipts, flushed = [], time.monotonic()
    yield _table(receipts)


def _table(receipts: list[bytes]) -> pa.Table:
    """One row, which becomes one object: a row for each receipt would cost the driver some 5 ms for each."""
    return pa.table({"receipts": pa.array([receipts], pa.list_(pa.binary()))})


def _configure() -> None:
    context = ray.data.DataContext.get_current()
    context.op_resource_reservation_enabled = False
    context.target_max_block_size = 1
    context.target_min_block_size = 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.data._internal.execution.streaming_executor"):
        logging.getLogger(name).setLevel(logging.ERROR)
