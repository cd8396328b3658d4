"""Kill `prepare text` many times at seeded moments, and compare every result with that of an undisturbed run.

    python scripts/bench/chaos.py --kills 200 --seed 0

Each output is killed up to eight times, then finished, verified and compared. Prints where the kills fell; exit code 1
at the first difference.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.e2e import harness, sources

KILLS_PER_OUTPUT = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    dice = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        catalog = sources.write_sources(Path(folder) / "in")
        undisturbed = Path(folder) / "undisturbed"
        finish(undisturbed, catalog, 2)
        expected = harness.products(undisturbed)
        total = harness.count_blocks(undisturbed / ".omni_ray/text")
        fell: Counter[str] = Counter()
        outputs = 0
        while fell.total() < arguments.kills:
            out = Path(folder) / f"out{outputs}"
            workers = dice.choice([1, 2, 4])
            kills = min(KILLS_PER_OUTPUT, arguments.kills - fell.total())
            fell.update(kill_some(out, catalog, workers, kills, total, dice))
            finish(out, catalog, workers)
            outputs += 1
            if harness.products(out) != expected:
                print(f"DIFFERENT after {fell.total()} kills: {out} with {workers} workers")
                return 1
            shutil.rmtree(out)
            print(f"{fell.total()} kills, {outputs} outputs identical: {dict(fell)}", flush=True)
    return 0


def kill_some(out: Path, catalog: Path, workers: int, kills: int, total: int, dice: random.Random) -> list[str]:
    """Kill `kills` runs on one output; where each fell."""
    fell = []
    for moment in sorted(dice.choices(range(total), k=kills)):
        with harness.started(harness.prepare_text(out, catalog, workers=workers)) as process:
            harness.wait_until(process, harness.Condition(out, moment))
            time.sleep(dice.random() * 0.5)  # so that moments fall between two blocks too
            harness.kill_group(process)
        count = sum(map(len, harness.receipts(out).values()))
        fell.append("before the first receipt" if not count else "between" if count < total else "after the last")
    return fell


def finish(out: Path, catalog: Path, workers: int) -> None:
    done = harness.run(harness.prepare_text(out, catalog, workers=workers))
    if done.code != 0:
        sys.exit(f"a run that nobody disturbed ended with {done.code}:\n{done.stderr}")


if __name__ == "__main__":
    sys.exit(main())
