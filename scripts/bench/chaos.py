"""Kill `prepare` many times at seeded moments, and compare every result with that of an undisturbed run.

    python scripts/bench/chaos.py --kills 200 --seed 0
    python scripts/bench/chaos.py --modality audio --layout tar --kills 50

Each output is killed up to eight times, by SIGKILL of the whole process group: once at any time, six times when a run
has made any number of blocks, once when it has begun to combine. Then it is finished, verified and compared, every file
of it. Prints in which part of the work the kills fell; exit code 1 at the first difference.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.e2e import harness, sources
from tests.prepare.media import world

KILLS_PER_OUTPUT = 8
DELAY_SECONDS = 0.5  # at most, so that moments fall between two blocks too
MEDIA = {"count": 400, "blocks": 100}  # samples and blocks of each of two sources
harness.PATIENCE = 1800.0  # the machine may be busy


class Work(NamedTuple):
    """What is killed again and again: always the same output, for lists of sounds hold its name."""

    modality: str
    layout: str
    catalog: Path
    out: Path

    def command(self, workers: int) -> list[str]:
        argv: list[str] = harness.prepare(
            self.modality, self.out, self.catalog, "--layout", self.layout, workers=workers
        )
        return argv


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--modality", choices=["text", "audio", "image"], default="text")
    parser.add_argument("--layout", choices=["files", "tar"], default="files", help="of sounds and pictures")
    arguments = parser.parse_args()
    dice = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        work = Work(
            arguments.modality, arguments.layout, write_catalog(arguments.modality, Path(folder)), Path(folder) / "out"
        )
        seconds = finish(work, 2)
        expected = harness.products(work.out)
        total = harness.count_blocks(work.out)
        print(f"{work.modality}, {work.layout}: {len(expected)} files of {total} blocks, undisturbed {seconds:.0f} s")
        fell: Counter[str] = Counter()
        outputs = 0
        while fell.total() < arguments.kills:
            shutil.rmtree(work.out)
            workers = dice.choice([1, 2, 4])
            most = min(KILLS_PER_OUTPUT, arguments.kills - fell.total())
            fell.update(kill_some(work, workers, moments(most, total, seconds, dice)))
            finish(work, workers)
            outputs += 1
            if harness.products(work.out) != expected:
                print(f"DIFFERENT after {fell.total()} kills, {workers} workers: {differences(work, expected)}")
                return 1
            print(f"{fell.total()} kills, {outputs} outputs identical: {dict(fell)}", flush=True)
    return 0


def write_catalog(modality: str, folder: Path) -> Path:
    catalog: Path = sources.write_sources(folder) if modality == "text" else world.small(folder, modality, **MEDIA)
    return catalog


class Moment(NamedTuple):
    """`delay` seconds after a run has made so many blocks; None: after it has begun to combine."""

    blocks: int | None
    delay: float


def moments(kills: int, total: int, seconds: float, dice: random.Random) -> Iterator[Moment]:
    """When each of an output's runs is killed, in order; `seconds` is how long one takes that is not."""
    yield Moment(0, dice.random() * seconds)
    for _ in range(kills - 2):
        yield Moment(dice.randint(1, max(1, total // 4)), dice.random() * DELAY_SECONDS)
    if kills > 1:
        yield Moment(None, dice.random() * DELAY_SECONDS / 5)


def kill_some(work: Work, workers: int, when: Iterator[Moment]) -> list[str]:
    """Kill a run on the output at each moment; in which part of the work each kill fell."""
    fell = []
    for moment in when:
        before, since = receipts_of(work), time.time()
        with harness.started(work.command(workers)) as process:
            if moment.blocks is None:
                harness.wait_until(process, lambda since=since: bool(combining(work, since)))
            elif moment.blocks:
                harness.wait_until(process, harness.Condition(work.out, moment.blocks, since))
            harness.wait_until(process, after(moment.delay))
            killed = process.poll() is None
            harness.kill_group(process)
        if killed:
            fell.append(part_of_work(work, before, since))
    return fell


def after(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def part_of_work(work: Work, before: Counter[str], since: float) -> str:
    """What a run that began at `since` was about, as the files that it left tell."""
    now = receipts_of(work)
    if combining(work, since):
        return "combining"
    if now["decoded"] > before["decoded"]:
        return "between receipts"
    if harness.count_blocks(work.out, since):
        return "decoding, before a receipt"
    return "indexing" if now["indexed"] > before["indexed"] else "planning"


def combining(work: Work, since: float) -> list[Path]:
    """Lists and corpora that a run has begun to write, or has written; the workers of others touch none."""
    return [path for path in work.out.glob("*/*production*") if harness.changed_since(path, since)]


def receipts_of(work: Work) -> Counter[str]:
    held = [receipt for receipts in harness.receipts(work.out).values() for receipt in receipts]
    return Counter("indexed" if receipt.startswith("index-") else "decoded" for receipt in held)


def differences(work: Work, expected: dict[str, str]) -> list[str]:
    found = harness.products(work.out)
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


def finish(work: Work, workers: int) -> float:
    """Run to the end, and verify; seconds that the run took."""
    began = time.monotonic()
    ends_well(work.command(workers))
    seconds = time.monotonic() - began
    ends_well(harness.command("omni_ray.cli", "verify", "--out", str(work.out)))
    return seconds


def ends_well(command: list[str]) -> None:
    done = harness.run(command)
    if done.code != 0:
        sys.exit(f"{' '.join(command)} ended with {done.code}:\n{done.stdout}{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
