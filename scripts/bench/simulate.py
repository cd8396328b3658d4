"""Ten million blocks on a thousand nodes, as far as a simulation can tell: what the driver pays, what breaks first.

    python scripts/bench/simulate.py                      # the table of docs/scale.md
    python scripts/bench/simulate.py --blocks 100000 --nodes 50

Discrete events, the same for the same seed. Workers take groups of blocks, put together by the very function that a run
uses; block times are drawn from measured ones. The driver is one server that takes what comes first: a group costs it
CPU time, and so does each message with receipts and each block. A round ends when its last block has; then the budget
is cut anew. Of many like rounds some are simulated (`looked_at`). Nodes are lost, and their groups done again; lost
nodes come back; some are slow. Constants are what `cluster.py --only costs` measured; docs/scale.md says what they
leave out.
"""

import argparse
import heapq
import random
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from omni_ray.blocks import FLUSH_SECONDS, group_tasks
from omni_ray.prepare.pipeline import ROUND_TASKS

BLOCK_BYTES = 16 << 20
NOTICE_SECONDS = 80.0  # until a node that does not answer is taken for lost (measured, tests/cluster/test_nodes.py)
# Seconds that a real block takes: the deciles that `cluster.py --only costs` printed for text.
DECILES = (0.26, 0.30, 0.32, 0.32, 0.36, 0.37, 0.39, 0.46, 0.47, 0.50, 0.55)


@dataclass(frozen=True)
class Costs:
    """Measured by `cluster.py --only costs`; seconds of one core, bytes.

    `group`, `message` and `block` are those of the driver's Python threads, of which one runs at a time; the others run
    beside them. `before` is what each group of a round costs before the first one begins.
    """

    group: float = 0.07e-3
    message: float = 2.43e-3
    block: float = 0.086e-3
    before: float = 0.36e-3
    native_group: float = 1.23e-3
    native_message: float = 0.63e-3
    raylet_group: float = 1.28e-3  # of the raylet beside the driver
    gcs_message: float = 0.25e-3  # of Ray's control store
    receipt_bytes: float = 719  # in the ledger
    block_memory: float = 2.0e3
    samples_per_second: float = 2.5e6  # that the cut of the budget goes through


@dataclass(frozen=True)
class World:
    """What is simulated. `life` is the mean time until a node is lost, `absent` the time until another is there."""

    nodes: int = 1000
    cpus: int = 8  # of a node
    blocks: int = 10_000_000
    block_factor: float = 1.0  # times the measured seconds of a block
    samples: float = 150.0  # in a block
    life: float = 24 * 3600.0
    absent: float = 180.0
    slow: float = 0.02  # share of the nodes
    slowness: float = 3.0
    flush: float = FLUSH_SECONDS
    round_tasks: int = ROUND_TASKS
    looked_at: int = (
        12  # rounds that are simulated; those between two of them are taken to be like the first of the two
    )
    seed: int = 0


class Outcome(NamedTuple):
    """Seconds, counts and bytes of a run, and the share of the time in which CPUs worked at blocks that counted."""

    seconds: float
    efficiency: float
    driver: float  # share of the time in which its Python was busy
    native: float  # cores of the same process that the rest of it takes
    raylet: float
    gcs: float
    groups: int
    messages: int
    rounds: int
    lost_nodes: int
    redone: float  # blocks' worth of work
    cutting: float  # seconds
    ledger: float
    memory: float


def simulate(world: World, costs: Costs) -> Outcome:
    return _Simulation(world, costs).run()


END, LOSS, NOTICE, RETURN = range(4)  # of a group; of a node; that it is gone; of another in its place


class _Running(NamedTuple):
    blocks: int
    messages: int
    began: float
    seconds: float


class _Simulation:
    def __init__(self, world: World, costs: Costs) -> None:
        self._world, self._costs = world, costs
        self._dice = random.Random(world.seed)
        self._draws = [seconds * world.block_factor for seconds in _inverse(DECILES, 1000)]
        self._events: list[tuple[float, int, int, int]] = []  # when, what, slot or node, generation
        self._generation = [0] * world.nodes
        slow = round(world.nodes * world.slow)
        self._factor = [world.slowness if node < slow else 1.0 for node in range(world.nodes)]
        self._running: dict[int, _Running] = {}
        self._idle = deque(range(world.nodes * world.cpus))
        self._queue: deque[int] = deque()  # blocks of each group
        self._missing: dict[int, list[int]] = {}  # groups of a node that is gone, which nobody knows yet
        self._sizes: dict[int, list[int]] = {}
        self._free = self._busy = 0.0  # when the driver has time again; for how long it was busy
        self._groups = self._messages = self._rounds = self._lost = self._done = 0
        self._cutting = self._redone = 0.0
        for node in range(world.nodes):
            self._expect_loss(node, 0.0)

    def run(self) -> Outcome:
        world = self._world
        now = 0.0
        every = max(1, world.blocks // world.round_tasks // world.looked_at)
        while self._done < world.blocks:
            size = min(world.round_tasks, world.blocks - self._done)
            began, before = max(now, self._free), self._counted()
            ended = self._round(began, size)
            now = self._cut(ended, 1, size)
            alike = min(every - 1, (world.blocks - self._done) // size)
            now = self._pass(now, alike * (ended - began))
            self._done += alike * size
            now = self._cut(now, alike, size)
            self._count(before, alike)
        seconds = max(now, self._free)
        speed = world.cpus * sum(1 / factor for factor in self._factor)
        return Outcome(
            seconds=seconds,
            efficiency=world.blocks * sum(self._draws) / len(self._draws) / speed / seconds,
            driver=self._busy / seconds,
            native=(self._groups * self._costs.native_group + self._messages * self._costs.native_message) / seconds,
            raylet=self._groups * self._costs.raylet_group / seconds,
            gcs=self._messages * self._costs.gcs_message / seconds,
            groups=self._groups,
            messages=self._messages,
            rounds=self._rounds,
            lost_nodes=self._lost,
            redone=self._redone,
            cutting=self._cutting,
            ledger=world.blocks * self._costs.receipt_bytes,
            memory=world.blocks * self._costs.block_memory,
        )

    def _cut(self, now: float, rounds: int, size: int) -> float:
        """What cutting the budget after each of the last rounds took."""
        committed = sum(self._done - number * size for number in range(rounds))
        seconds = committed * self._world.samples / self._costs.samples_per_second
        self._cutting += seconds
        self._rounds += rounds
        self._free = max(self._free, now) + seconds
        return self._free

    def _pass(self, now: float, seconds: float) -> float:
        """Let time pass in rounds that are taken to be like the last one: nodes are lost and come back meanwhile."""
        until = now + seconds
        while self._events and self._events[0][0] < until:
            at, what, which, _ = heapq.heappop(self._events)
            if what == LOSS:
                self._lose(at, which)
            elif what == NOTICE:
                self._missing.pop(which)
            elif what == RETURN:
                self._return(at, which)
        return until

    def _counted(self) -> tuple[float, int, int, float]:
        return self._busy, self._groups, self._messages, self._redone

    def _count(self, before: tuple[float, int, int, float], rounds: int) -> None:
        """Count what grew since `before` for so many rounds more."""
        grown = [now - then for now, then in zip(self._counted(), before, strict=True)]
        self._busy += grown[0] * rounds
        self._groups += int(grown[1]) * rounds
        self._messages += int(grown[2]) * rounds
        self._redone += grown[3] * rounds

    def _round(self, now: float, size: int) -> float:
        """Give out one round of so many blocks; when its last block is done."""
        goal = self._done + size
        sizes = self._sizes_of(goal - self._done)
        self._queue.extend(sizes)
        now = self._serve(now, len(sizes) * self._costs.before)
        self._fill(now)
        while self._done < goal:
            now, what, which, generation = heapq.heappop(self._events)
            if what == END:
                self._end(now, which, generation)
            elif what == LOSS:
                self._lose(now, which)
            elif what == NOTICE:
                self._queue.extend(self._missing.pop(which))
                self._fill(now)
            elif what == RETURN:
                self._return(now, which)
                self._fill(now)
        return max(now, self._free)

    def _sizes_of(self, blocks: int) -> list[int]:
        if blocks not in self._sizes:
            cpus = self._world.nodes * self._world.cpus
            self._sizes[blocks] = [len(group) for group in group_tasks([(b"", BLOCK_BYTES)] * blocks, cpus)]
        return self._sizes[blocks]

    def _serve(self, now: float, seconds: float) -> float:
        """When the driver is through with something that takes it so long."""
        self._free = max(now, self._free) + seconds
        self._busy += seconds
        return self._free

    def _fill(self, now: float) -> None:
        while self._queue and self._idle:
            self._begin(self._idle.popleft(), self._serve(now, self._costs.group / 2))

    def _begin(self, slot: int, now: float) -> None:
        node = slot // self._world.cpus
        blocks, factor = self._queue.popleft(), self._factor[node]
        seconds = since = 0.0
        messages = 1
        for drawn in self._dice.choices(self._draws, k=blocks) if blocks > 1 else (self._dice.choice(self._draws),):
            seconds += drawn * factor
            since += drawn * factor
            if since > self._world.flush:
                messages, since = messages + 1, 0.0
        self._running[slot] = _Running(blocks, messages, now, seconds)
        heapq.heappush(self._events, (now + seconds, END, slot, self._generation[node]))

    def _end(self, now: float, slot: int, generation: int) -> None:
        if generation != self._generation[slot // self._world.cpus]:
            return
        ended, costs = self._running.pop(slot), self._costs
        self._groups += 1
        self._messages += ended.messages
        self._done += ended.blocks
        spent = costs.group / 2 + ended.messages * costs.message + ended.blocks * costs.block
        if self._queue:
            self._begin(slot, self._serve(now, spent + costs.group / 2))
        else:
            self._serve(now, spent)
            self._idle.append(slot)

    def _expect_loss(self, node: int, now: float) -> None:
        heapq.heappush(self._events, (now + self._dice.expovariate(1 / self._world.life), LOSS, node, 0))

    def _return(self, now: float, node: int) -> None:
        self._idle.extend(range(node * self._world.cpus, (node + 1) * self._world.cpus))
        self._expect_loss(node, now)

    def _lose(self, now: float, node: int) -> None:
        self._lost += 1
        self._missing[node] = []
        self._generation[node] += 1
        slots = range(node * self._world.cpus, (node + 1) * self._world.cpus)
        for slot in slots:
            if (lost := self._running.pop(slot, None)) is not None:
                self._redone += lost.blocks * max(0.0, now - lost.began) / lost.seconds
                self._missing[node].append(lost.blocks)
        gone = set(slots)
        self._idle = deque(slot for slot in self._idle if slot not in gone)
        heapq.heappush(self._events, (now + NOTICE_SECONDS, NOTICE, node, 0))
        heapq.heappush(self._events, (now + self._world.absent, RETURN, node, 0))


def _inverse(deciles: Sequence[float], count: int) -> list[float]:
    """Values at `count` evenly spaced shares of the distribution with these deciles."""
    values = []
    for number in range(count):
        place = (number + 0.5) / count * (len(deciles) - 1)
        low = int(place)
        values.append(deciles[low] + (deciles[low + 1] - deciles[low]) * (place - low))
    return values


COLUMNS = (
    *(
        "hours",
        "efficiency",
        "cutting the budget",
        "driver's Python",
        "Ray's threads in it",
        "raylet",
        "GCS",
        "groups",
        "messages",
        "rounds",
    ),
    *("nodes lost", "blocks redone"),
)
MENDED = {"flush": 10.0, "round_tasks": 1 << 17, "samples": 0.0}  # the cut looks at nothing that cannot change it
SCENARIOS: dict[str, dict[str, float]] = {
    "1 node": {"nodes": 1, "blocks": 10_000},
    "10 nodes": {"nodes": 10, "blocks": 100_000},
    "100 nodes": {"nodes": 100, "blocks": 1_000_000},
    "1,000 nodes, 10 million blocks of 0.4 s": {},
    "the same, blocks of 6.4 s": {"block_factor": 16},
    "the same, mended": {"block_factor": 16, **MENDED},
    "blocks of 2 minutes": {"block_factor": 300},
    "the same, mended ": {"block_factor": 300, **MENDED},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, help="one world of so many nodes, instead of the table")
    parser.add_argument("--blocks", type=int, default=World.blocks)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of a world, or of the costs")
    asked = parser.parse_args()
    worlds = {f"{asked.nodes:,} nodes": {"nodes": asked.nodes, "blocks": asked.blocks}} if asked.nodes else SCENARIOS
    print(f"| | {' | '.join(COLUMNS)} |\n|---{'|---' * len(COLUMNS)}|")
    for name, changes in worlds.items():
        world, costs = World(), Costs()
        for key, value in [*changes.items(), *(one.split("=") for one in asked.set)]:
            kind = type(getattr(world if hasattr(world, key) else costs, key))
            if hasattr(world, key):
                world = replace(world, **{key: kind(value)})
            else:
                costs = replace(costs, **{key: kind(value)})
        print(_row(name, simulate(world, costs)), flush=True)
    return 0


def _row(name: str, found: Outcome) -> str:
    cutting = found.cutting / found.seconds
    shares = [f"{share:.0%}" for share in (cutting, found.driver, found.native, found.raylet, found.gcs)]
    counts = [
        f"{count:,}" for count in (found.groups, found.messages, found.rounds, found.lost_nodes, round(found.redone))
    ]
    return f"| {' | '.join([name, f'{found.seconds / 3600:.2f}', f'{found.efficiency:.2f}', *shares, *counts])} |"


if __name__ == "__main__":
    raise SystemExit(main())
