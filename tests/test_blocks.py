import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pyarrow as pa
import pytest
import ray
from hypothesis import given
from hypothesis import strategies as st

from omni_ray import runtime
from omni_ray.blocks import (
    BACKGROUND,
    GROUP_BLOCKS,
    GROUP_WEIGHT,
    GROUPS_PER_CPU,
    Unfinished,
    _Message,
    group_tasks,
    in_turn,
    run_blocks,
)
from omni_ray.errors import LeaseLost, TasksLost
from omni_ray.prepare import command
from omni_ray.prepare.options import Options


@given(weights=st.lists(st.integers(0, 3 * GROUP_WEIGHT), max_size=300), cpus=st.integers(1, 32))
def test_groups_hold_every_task_once_in_order_and_keep_cpus_busy(weights: list[int], cpus: int) -> None:
    tasks = [(str(number).encode(), weight) for number, weight in enumerate(weights)]
    groups = group_tasks(tasks, cpus)
    assert [task for group in groups for task in group] == [task for task, _ in tasks]
    assert len(groups) >= min(cpus * GROUPS_PER_CPU, len(tasks)) // 2
    weight_of = dict(tasks)
    for group in groups:
        assert 1 <= len(group) <= GROUP_BLOCKS
        assert len(group) == 1 or sum(weight_of[task] for task in group) <= GROUP_WEIGHT


def test_groups_become_small_towards_the_end() -> None:
    groups = group_tasks([(b"", 16 << 20)] * 1000, cpus=2)
    assert len(groups[0]) == GROUP_WEIGHT // (16 << 20)
    assert [len(group) for group in groups[-4:]] == [1] * 4
    assert len(groups) < 200


@given(data=st.data())
def test_a_task_has_ended_when_all_that_it_gave_is_here(data: st.DataObject) -> None:
    """Groups run twice, the second run taking the place of the first after some messages, as Ray does it."""
    counts = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=6), "receipts of each task")
    unfinished = Unfinished([(b"%d" % number, 1) for number in range(len(counts))])
    got = []
    for number in range(20):  # passes; in the last ones nothing is lost
        for row in unfinished.rows(1):
            runs = [list(messages_of(row, counts, data.draw(st.randoms()))) for _ in range(2)]
            cut = data.draw(st.integers(0, len(runs[0])), "messages of the first run") if number < 10 else 0
            lost = data.draw(st.booleans(), "whether the second run's others are lost") and number < 10
            for message in runs[0][:cut] + ([] if lost else runs[1][cut:]):
                got += unfinished.take(message)
        if not unfinished.tasks:
            break
    assert not unfinished.tasks
    assert sorted(got) == sorted(b"%d/%d" % (number, place) for number, of in enumerate(counts) for place in range(of))


def messages_of(row: dict[str, list[Any]], counts: list[int], dice: random.Random) -> Iterator[pa.Table]:
    """What a worker sends for a group of tasks, cut into messages by chance."""
    message = _Message()
    for number in row["numbers"]:
        for place in range(counts[number]):
            message.add(number, place, b"%d/%d" % (number, place))
            if dice.random() < 0.5:
                yield message.table()
                message = _Message()
        message.add(number, counts[number], None)
    yield message.table()


@given(st.lists(st.lists(st.booleans(), max_size=5), max_size=8))
def test_tasks_that_wait_lose_nothing_and_two_are_held_at_most(waits: list[list[bool]]) -> None:
    open_tasks: set[int] = set()

    def work(task: bytes) -> Iterator[bytes]:
        number = int(task)
        open_tasks.add(number)
        assert len(open_tasks) <= 2
        for step, wait in enumerate(waits[number]):
            if wait:
                yield b""
            yield b"%d/%d" % (number, step)
        open_tasks.remove(number)

    found = list(in_turn(work, [b"%d" % number for number in range(len(waits))]))
    for number, steps in enumerate(waits):
        mine = [result for at, result in found if at == number]
        assert mine == [*(b"%d/%d" % (number, step) for step in range(len(steps))), None], "in order, the end last"
    assert not open_tasks


def test_the_next_task_runs_while_one_waits() -> None:
    did = []

    def work(task: bytes) -> Iterator[bytes]:
        did.append(task + b" decodes")
        yield b""
        did.append(task + b" is written")
        yield task

    assert list(in_turn(work, [b"1", b"2"])) == [(0, b"1"), (0, None), (1, b"2"), (1, None)]
    assert did == [b"1 decodes", b"2 decodes", b"1 is written", b"2 is written"]


@pytest.mark.ray
@pytest.mark.slow
def test_every_receipt_comes_back_once() -> None:
    def echo_twice(task: bytes) -> Iterator[bytes]:
        yield task + b"/0"
        yield b""
        yield task + b"/1"

    tasks = [(b"%d" % number, 1 << 20) for number in range(20)]
    found = sorted(run_blocks(echo_twice, tasks, address="local", workers=2))
    assert found == sorted(b"%d/%d" % (number, part) for number in range(20) for part in range(2))


@pytest.mark.ray
@pytest.mark.slow
def test_a_task_that_ends_its_worker_each_time_is_named_and_the_others_end() -> None:
    """As the kernel ends a worker that is out of memory; with one CPU it has the first turn, and in one group."""

    def work(task: bytes) -> Iterator[bytes]:
        if task == b"0":
            os.kill(os.getpid(), signal.SIGKILL)
        yield task

    got = []
    with pytest.raises(TasksLost, match=r"^1 pieces of work lost their process .*the same command again") as lost:
        for receipt in run_blocks(work, [(b"%d" % number, 1) for number in range(20)], address="local", workers=1):
            got.append(receipt)
    assert lost.value.tasks == (b"0",)
    assert sorted(got) == sorted(b"%d" % number for number in range(1, 20))


@pytest.mark.ray
@pytest.mark.slow
def test_what_a_failed_round_left_running_ends_before_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray ends the whole process, with a code and a message of its own, where its work outlives the connection."""
    left = []

    @contextmanager
    def connected(address: str, workers: int | None) -> Iterator[int]:
        with before(address, workers) as cpus:
            try:
                yield cpus
            finally:
                left.extend(thread.name for thread in threading.enumerate() if thread.name.startswith(BACKGROUND))

    def on_a_loaded_machine(call: Callable[..., object]) -> Callable[..., object]:
        def slow(*arguments: object, **options: object) -> object:
            if told.is_set() and threading.current_thread().name.startswith(BACKGROUND):
                told.clear()
                time.sleep(4)  # longer than Ray Data itself waits for it
            return call(*arguments, **options)

        return slow

    def work(task: bytes) -> Iterator[bytes]:
        yield task

    told = threading.Event()
    for name in ("get", "wait"):
        monkeypatch.setattr(ray, name, on_a_loaded_machine(getattr(ray, name)))
    before = runtime.connected
    monkeypatch.setattr(runtime, "connected", connected)
    asked = Options("text", (), "out", 1, True, "exact", None, address="local", workers=2, command="prepare")
    with pytest.raises(LeaseLost), ExitStack() as stack:
        run_tasks = command._tasks_runner(stack, asked, lambda: None)
        for _ in run_tasks(work, [(b"x", 1)] * 200):
            told.set()
            raise LeaseLost("taken over")
    assert left == []
