"""Sounds and pictures in both layouts, whole commands over Ray: killed at seeded moments and at each point of the crash
table, the files are those of a run that nobody disturbed and that used no Ray at all."""

import random
import time
from pathlib import Path

import pytest

from tests.e2e import harness
from tests.prepare import inprocess
from tests.prepare.media import world

pytestmark = [pytest.mark.slow, pytest.mark.ray]
SAMPLES, BLOCKS = 120, 30  # of each of two sources
MOST_BLOCKS = 15  # that a run may make before it is killed at a seeded moment
# two moments for each pair make eight; the points in the order in which a run passes them
STOPS: list[str | None] = [
    "planning", "indexing", "decoding@2", None, "committing@3", None, "ledger", "combining", "publishing"
]  # fmt: skip
# a bucket and tests/prepare/media have the others whenever tests are run; here they are killed for a release
OTHERS = [("audio", "files"), ("audio", "tar"), ("image", "tar")]
PAIRS = [("image", "files"), *(pytest.param(*pair, marks=pytest.mark.long) for pair in OTHERS)]


@pytest.mark.parametrize(("modality", "layout"), PAIRS)
def test_killed_again_and_again(tmp_path: Path, modality: str, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = world.small(tmp_path / "in", modality, SAMPLES, BLOCKS)
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        inprocess.without_ray(patched)
        assert world.prepare(modality, out, catalog, "--layout", layout) == 0
    expected = harness.products(out)
    out.rename(tmp_path / "undisturbed")  # the lists name the output, so the other runs need its name
    dice = random.Random(f"{modality} {layout}")
    argv = harness.prepare(modality, out, catalog, "--layout", layout)
    held: dict[str, list[str]] = {}
    for stop in STOPS:
        if stop is None:
            kill_at(argv, harness.Condition(out, dice.randint(1, MOST_BLOCKS), since=time.time()))
        else:
            with harness.started(argv, OMNI_RAY_STOP=stop) as process:
                process.wait(harness.PATIENCE)
                assert process.returncode == -9, f"the run did not come to {stop}"
        now = harness.receipts(out)
        harness.assert_still_prefix(held, now)
        held = now
        assert harness.products(out) != expected
    done = harness.run(argv)
    assert done.code == 0, done.stderr
    assert harness.products(out) == expected
    harness.assert_still_prefix(held, harness.receipts(out))
    assert inprocess.omni("verify", out) == 0


def kill_at(argv: list[str], reached: harness.Condition) -> None:
    with harness.started(argv) as process:
        assert harness.wait_until(process, reached), "the run ended before its moment"
        harness.kill_group(process)
