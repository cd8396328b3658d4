"""The Ray Data door: run one function over many tasks anywhere in the cluster, and yield receipts as they come.

Only task descriptions and receipts pass through here; payload is written where it is made.

On small machines Ray Data's default keeps part of the CPUs in reserve for each operator, which halves the throughput
of two cores; with one operator the reserve serves nobody, so it is off. `target_max_block_size` of one byte makes
every yielded batch of receipts an object of its own, which the driver sees at once instead of at the task's end.
"""

import logging
import random
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa
import ray.data
import ray.exceptions

from omni_ray.errors import Refused, TasksLost
from omni_ray.runtime import NODE_LOST, connected, without_gpus
from omni_ray.sight import Sight

FLUSH_SECONDS = 0.5
FLUSH_BYTES = 32 << 10  # below 100 kB a message goes to the driver at once; a larger one stays, and dies, with its node
RETRIES = 3  # of a group whose worker or node died, in one pass; Ray Data itself would try for ever
MOST_IN_VAIN = 3  # passes in which no task ended
REFUSED = -1  # in the place of a task's number: the node does not see what it must
GROUP_WEIGHT = (
    128 << 20
)  # input bytes, some seconds of work; a Ray task costs the driver some 5 ms, so blocks share one
GROUP_BLOCKS = 64
# Into which what is left is divided, so that groups become small towards the end and no CPU idles. More of them would
# have more ends, at each of which a CPU waits for the disk, as nothing is left to begin meanwhile.
GROUPS_PER_CPU = 2
BACKGROUND = ("StreamingExecutor-", "iter_threaded")  # threads that Ray Data schedules and reads in
END_SECONDS = 30.0  # for them to end; they stop between two steps
# What Ray says where a node took something with it that Ray cannot bring back.
LOST = (*NODE_LOST, ray.exceptions.StreamingGeneratorReplayInconsistentError)

Work = Callable[[bytes], Iterator[bytes]]


def run_blocks(
    work: Work,
    tasks: Sequence[tuple[bytes, int]],
    *,
    address: str,
    workers: int | None,
    sight: Sight | None = None,
) -> Generator[bytes, None, None]:
    """Run `work` over every task, in no particular order, and yield what it yields soon after.

    Nodes may die and join. What a lost node had not told of is done again; what it had told of comes once all the same.
    Closed early, it ends what is running; that has to come before `connected` ends.

    Args:
        work: picklable; called in a worker process with one encoded task, more than once where a node dies, so that it
            must leave the same each time. An exception ends the whole run. An empty result is not passed on: it says
            that the task waits, so that the worker may begin the next one.
        tasks: encoded task, weight in input bytes.
        sight: what a node must see before it gets work.

    Raises:
        TasksLost: naming the tasks that are left when workers or nodes are lost again and again and no task ends.
        Refused: where a node does not see what it must.
    """
    with connected(address, workers) as cpus:
        _configure()
        unfinished = Unfinished(tasks)
        in_vain = 0
        while unfinished.tasks:
            before = len(unfinished.tasks)
            error = yield from _pass(partial(_run_group, work, sight), unfinished, cpus)
            in_vain = 0 if len(unfinished.tasks) < before else in_vain + 1
            unfinished.shuffle(in_vain)
            if in_vain == MOST_IN_VAIN:
                raise TasksLost(
                    f"{before:,} pieces of work lost their process or node each time that they were begun "
                    f"({_first_line(error)}); give the nodes more memory or fewer CPUs (`ray start --num-cpus`), see "
                    "to them (`ray status`), then run the same command again",
                    [task for task, _ in unfinished.tasks.values()],
                ) from error


def _pass(
    run_group: Callable[[pa.Table], Iterator[pa.Table]], unfinished: "Unfinished", cpus: int
) -> Generator[bytes, None, ray.exceptions.RayError | None]:
    """Run all unfinished tasks once; what could not be had back is unfinished then, too."""
    rows = unfinished.rows(cpus)
    with warnings.catch_warnings():  # `max_retries` has no other way in (Ray 2.60), and users can do nothing about it
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            run_group, batch_size=None, batch_format="pyarrow", num_cpus=1, max_retries=RETRIES, **_placed()
        )
    with _threads_ended():
        try:
            for table in dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
                yield from unfinished.take(table)
        except LOST as error:
            return error
    return None


def _placed() -> dict[str, Any]:
    """GPUs are for training: where there are nodes without, the blocks of a pass are done there, and wait for such a
    node if all of them are lost meanwhile. Ray's fallback_strategy would go to a node with a GPU whenever the others
    are busy."""
    selector = without_gpus()
    return {"label_selector": selector} if selector else {}


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".:; ") if error else "nothing more is known"


class Unfinished:
    """The tasks whose end is not known yet.

    When a node dies Ray runs its task again and goes on where the first run had come to, by number of messages. What is
    in a message depends on when it was sent, so one can be left out between the two runs; hence a task has ended when
    all that it gave is here.
    """

    def __init__(self, tasks: Sequence[tuple[bytes, int]]) -> None:
        self.tasks = dict(enumerate(tasks))
        self._got: Counter[int] = Counter()  # receipts of each task

    def rows(self, cpus: int) -> list[dict[str, list[Any]]]:
        """Groups of tasks, each with the tasks' numbers."""
        numbers = iter(self.tasks)
        return [
            {"tasks": group, "numbers": list(islice(numbers, len(group)))}
            for group in group_tasks(list(self.tasks.values()), cpus)
        ]

    def shuffle(self, seed: int) -> None:
        """Give others the first turn in the next pass, for one that ends its worker each time ends the pass with it."""
        tasks = list(self.tasks.items())
        random.Random(seed).shuffle(tasks)
        self.tasks = dict(tasks)

    def take(self, table: pa.Table) -> Iterator[bytes]:
        """The receipts of a message that are new."""
        columns = [table.column(name).combine_chunks().flatten().to_pylist() for name in _COLUMNS.names]
        for number, place, receipt in zip(*columns, strict=True):
            if number == REFUSED:
                raise Refused(receipt.decode())
            if number not in self.tasks or place > self._got[number]:
                continue
            if receipt is None:
                del self.tasks[number]
            elif place == self._got[number]:
                self._got[number] += 1
                yield receipt


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


def _run_group(work: Work, sight: Sight | None, batch: pa.Table) -> Iterator[pa.Table]:
    """What Ray Data calls in a worker: one batch is one group of tasks."""
    tasks, numbers = (batch.column(name).combine_chunks().flatten().to_pylist() for name in ("tasks", "numbers"))
    message = _Message()
    if sight is not None:
        try:
            sight.check()
        except Refused as error:
            message.add(REFUSED, 0, str(error).encode())
            yield message.table()
            return
    places = [0] * len(tasks)
    for at, receipt in in_turn(work, tasks):
        message.add(numbers[at], places[at], receipt)
        places[at] += 1
        if receipt is not None and message.due():
            yield message.table()
            message = _Message()
    yield message.table()


def in_turn(work: Work, tasks: Iterable[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """What `work` yields for one task after the other, with the task's place; None at its end. One that waits is gone
    on with when the next one waits or has ended, so that two are held at the most."""
    waiting: Iterator[tuple[int, bytes | None]] = iter(())
    for at, task in enumerate(tasks):
        running = _steps(at, work(task))
        for step in running:
            if step[1] == b"":
                break
            yield step
        yield from (step for step in waiting if step[1] != b"")
        waiting = running
    yield from (step for step in waiting if step[1] != b"")


def _steps(at: int, results: Iterator[bytes]) -> Iterator[tuple[int, bytes | None]]:
    for result in results:
        yield at, result
    yield at, None


class _Message:
    """Receipts that are sent together: task, place among its receipts, receipt; None at the end of a task."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, bytes | None]] = []
        self._began = time.monotonic()
        self._bytes = 0

    def add(self, number: int, place: int, receipt: bytes | None) -> None:
        self._rows.append((number, place, receipt))
        self._bytes += len(receipt or b"")

    def due(self) -> bool:
        return time.monotonic() - self._began > FLUSH_SECONDS or self._bytes >= FLUSH_BYTES

    def table(self) -> pa.Table:
        """One row, which becomes one object: a row for each receipt would cost the driver some 5 ms for each."""
        columns = zip(*self._rows, strict=True)
        return pa.table([[list(column)] for column in columns], schema=_COLUMNS)


_COLUMNS = pa.schema(
    [("numbers", pa.list_(pa.int64())), ("places", pa.list_(pa.int64())), ("receipts", pa.list_(pa.binary()))]
)


def _configure() -> None:
    context = ray.data.DataContext.get_current()
    context.op_resource_reservation_enabled = False
    context.target_max_block_size = 1
    context.target_min_block_size = 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.data._internal.execution.streaming_executor"):
        logging.getLogger(name).setLevel(logging.ERROR)
