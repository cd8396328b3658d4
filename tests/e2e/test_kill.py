"""The promise: killed anywhere, on any number of workers, the result is byte for byte the same."""

import random
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e import harness, sources

pytestmark = [pytest.mark.slow, pytest.mark.ray]
KILLS = 8
WORKERS = [pytest.param(1, marks=pytest.mark.long), 2, pytest.param(4, marks=pytest.mark.long)]
POINTS = ["planning", "indexing", "decoding@5", "committing@9", "ledger@2", "combining", "publishing"]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sources.write_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, catalog: Path) -> tuple[dict[str, str], int]:
    """What a run that nobody disturbs leaves, and how many block files that takes."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    done = harness.run(harness.prepare_text(out, catalog))
    assert done.code == 0, done.stderr
    return harness.products(out), harness.count_blocks(out)


def finished(out: Path, catalog: Path, workers: int) -> dict[str, str]:
    done = harness.run(harness.prepare_text(out, catalog, workers=workers))
    assert done.code == 0, done.stderr
    verified = harness.run(harness.command("omni_ray.cli", "verify", "--out", str(out)))
    assert verified.code == 0, verified.stdout + verified.stderr
    return harness.products(out)


def seeded_moments(seed: int, total: int) -> Iterator[int]:
    """Counts of block files, rising, at which a run is killed; the first ones and the last ones among them."""
    dice = random.Random(seed)
    yield from sorted(dice.sample(range(1, total), KILLS))


@pytest.mark.parametrize("workers", WORKERS)
def test_killed_at_seeded_moments(
    tmp_path: Path, catalog: Path, undisturbed: tuple[dict[str, str], int], workers: int
) -> None:
    expected, total = undisturbed
    out = tmp_path / "out"
    between = 0
    held: dict[str, list[str]] = {}
    for moment in seeded_moments(workers, total):
        with harness.started(harness.prepare_text(out, catalog, workers=workers)) as process:
            reached = harness.wait_until(process, harness.Condition(out, moment))
            harness.kill_group(process)
        now = harness.receipts(out)
        harness.assert_still_prefix(held, now)
        held = now
        count = sum(map(len, held.values()))
        between += reached and 0 < count < total
        if not reached:
            break
    assert between * 2 >= KILLS, "too few kills fell between the first and the last receipt"
    assert finished(out, catalog, workers) == expected
    harness.assert_still_prefix(held, harness.receipts(out))


@pytest.mark.parametrize("workers", WORKERS)
def test_stopped_at_each_point_of_the_crash_table(
    tmp_path: Path, catalog: Path, undisturbed: tuple[dict[str, str], int], workers: int
) -> None:
    out = tmp_path / "out"
    held: dict[str, list[str]] = {}
    for point in POINTS:
        with harness.started(harness.prepare_text(out, catalog, workers=workers), OMNI_RAY_STOP=point) as process:
            process.wait(harness.PATIENCE)
            assert process.returncode == -9, f"the run did not come to {point}"
        now = harness.receipts(out)
        harness.assert_still_prefix(held, now)
        held = now
    assert finished(out, catalog, workers) == undisturbed[0]


def test_a_worker_that_is_killed_is_replaced(
    tmp_path: Path, catalog: Path, undisturbed: tuple[dict[str, str], int]
) -> None:
    out = tmp_path / "out"
    with harness.started(harness.prepare_text(out, catalog)) as process:
        assert harness.wait_until(process, harness.Condition(out, 20))
        children = psutil.Process(process.pid).children(recursive=True)
        busy = [child for child in children if child.cmdline()[:1] and child.cmdline()[0].startswith("ray::MapBatches")]
        assert busy, "no worker is decoding"
        busy[0].kill()
        _, stderr = process.communicate(timeout=harness.PATIENCE)
        assert process.returncode == 0, stderr
    assert harness.products(out) == undisturbed[0]


def test_a_torn_ledger_is_cut_at_the_last_whole_record(
    tmp_path: Path, catalog: Path, undisturbed: tuple[dict[str, str], int]
) -> None:
    out = tmp_path / "out"
    with harness.started(harness.prepare_text(out, catalog), OMNI_RAY_STOP="ledger@3") as process:
        process.wait(harness.PATIENCE)
    torn = [path for path in (out / ".omni_ray/text").glob("*/ledger/*.jsonl") if path.stat().st_size > 400]
    assert torn
    for path in torn:
        path.write_bytes(path.read_bytes()[:-150])
    assert finished(out, catalog, 2) == undisturbed[0]
