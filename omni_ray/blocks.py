"""The Ray Data door: run one function over many tasks anywhere in the cluster, and yield receipts as they come.

Only task descriptions and receipts pass through here; payload is written where it is made.

On small machines Ray Data's default keeps part of the CPUs in reserve for each operator, which halves the throughput
of two cores; with one operator the reserve serves nobody, so it is off. `target_max_block_size` of one byte makes
every yielded batch of receipts an object of its own, which the driver sees at once instead of at the task's end.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pyarrow as pa
import ray.data

from omni_ray.runtime import connected

FLUSH_SECONDS = 0.5
GROUP_WEIGHT = 8 << 20  # input bytes; a Ray task costs the driver some 6 ms, so small blocks share one
GROUP_BLOCKS = 64
TASKS_PER_CPU = 4  # as many at least, so that the last ones do not leave CPUs idle

Work = Callable[[bytes], Iterator[bytes]]


def run_blocks(work: Work, tasks: Sequence[tuple[bytes, int]], *, address: str, workers: int | None) -> Iterator[bytes]:
    """Run `work` over every task, in no particular order, and yield what it yields soon after.

    Args:
        work: picklable; called in a worker process with one encoded task. An exception ends the whole run.
        tasks: encoded task, weight in input bytes.
    """
    with connected(address, workers) as cpus:
        groups = group_tasks(tasks, cpus * TASKS_PER_CPU)
        rows = [{"tasks": group} for group in groups]
        _configure()
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            partial(_run_group, work), batch_size=None, batch_format="pyarrow", num_cpus=1
        )
        for table in dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
            yield from table.column("receipt").to_pylist()


def group_tasks(tasks: Sequence[tuple[bytes, int]], least_groups: int) -> list[list[bytes]]:
    """Put neighbouring small tasks together, into `least_groups` groups or more where there are as many tasks."""
    total = sum(weight for _, weight in tasks)
    weight_limit = min(GROUP_WEIGHT, total // least_groups)
    count_limit = max(1, min(GROUP_BLOCKS, len(tasks) // least_groups))
    groups: list[list[bytes]] = []
    weighed = 0
    for task, weight in tasks:
        if not groups or len(groups[-1]) >= count_limit or weighed + weight > weight_limit:
            groups.append([])
            weighed = 0
        groups[-1].append(task)
        weighed += weight
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
    return pa.table({"receipt": pa.array(receipts, pa.binary())})


def _configure() -> None:
    context = ray.data.DataContext.get_current()
    context.op_resource_reservation_enabled = False
    context.target_max_block_size = 1
    context.target_min_block_size = 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.data._internal.execution.streaming_executor"):
        logging.getLogger(name).setLevel(logging.ERROR)
