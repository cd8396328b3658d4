"""What a run does when the cluster fails it: the head is lost, the object store is full, nodes are short of memory."""

import sys
from pathlib import Path

import pytest

from omni_ray.lease import current_holder
from omni_ray.storage import LocalStorage
from tests.cluster import nodes
from tests.e2e import harness, sources

pytestmark = [pytest.mark.slow, pytest.mark.ray]

FILL = """
import sys, numpy, ray
ray.init(logging_level="ERROR", log_to_driver=False)
size = 4 << 20
held = [ray.put(numpy.ones(size, numpy.uint8)) for _ in range(int(sys.argv[1]) // size)]  # more than fits
print("full", flush=True)
sys.stdin.read()
"""


def prepare(out: Path, catalog: Path) -> list[str]:
    return harness.command(
        "omni_ray.prepare", "text", "--out", str(out), "--catalog", str(catalog), "--address", "auto"
    )


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sources.write_sources(tmp_path_factory.mktemp("raw"), size=300_000, block_bytes=8_000)


@pytest.fixture(scope="module")
def undisturbed(catalog: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("whole") / "out"
    done = harness.run(harness.prepare_text(out, catalog))
    assert done.code == 0, done.stderr
    return harness.products(out)


def test_a_lost_head_ends_the_run_and_the_next_cluster_goes_on(
    tmp_path: Path, catalog: Path, undisturbed: dict[str, str]
) -> None:
    out = tmp_path / "out"
    with nodes.cluster() as first:
        reached = harness.Condition(out, 5)
        with harness.started(prepare(out, catalog), **first.environment) as process:
            assert harness.wait_until(process, reached), "it was done before the head could be killed"
            first.kill(first.nodes[0])
            _, said = process.communicate(timeout=harness.PATIENCE)
        assert process.returncode == 1
        assert "is lost: its processes on this machine have ended" in said
        assert "run the same command" in said
        assert current_holder(LocalStorage(out)) is None
    before = harness.receipts(out)
    with nodes.cluster() as second:
        done = harness.run(prepare(out, catalog), **second.environment)
    assert done.code == 0, done.stderr
    harness.assert_still_prefix(before, harness.receipts(out))
    assert harness.products(out) == undisturbed


def test_a_full_object_store_costs_nothing(tmp_path: Path, catalog: Path, undisturbed: dict[str, str]) -> None:
    with nodes.cluster(cpus=2) as cluster:
        fill = [sys.executable, "-c", FILL, str(2 * nodes.OBJECT_STORE_BYTES)]
        with harness.started(fill, **cluster.environment) as another:
            assert another.stdout is not None
            assert another.stdout.readline() == "full\n"
            done = harness.run(prepare(tmp_path / "out", catalog), **cluster.environment)
    assert done.code == 0, done.stderr
    assert harness.products(tmp_path / "out") == undisturbed


def test_blocks_whose_workers_are_out_of_memory_stay_undone(tmp_path: Path) -> None:
    """Ray's memory monitor ends every worker here, as soon as it has work."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/large.txt").write_text("A line that is long enough to be kept, whatever else it says.\n" * 500_000)
    catalog = tmp_path / "raw/catalog.toml"
    catalog.write_text(
        '[[source]]\nname = "large"\nmodality = "text"\ncategory = "general"\nurl = "large.txt"\nreader = "lines"\n'
        'license = "MIT"\n'
    )
    out = tmp_path / "out"
    short = {"RAY_memory_usage_threshold": "0.0001", "RAY_memory_monitor_refresh_ms": "20"}
    with nodes.cluster(environment={**short, "RAY_task_oom_retries": "0"}) as cluster:
        done = harness.run(prepare(out, catalog), **cluster.environment)
    assert done.code == 4, done.stderr
    assert "large: " in done.stderr and "lost their process or node each time" in done.stderr
    assert "give the nodes more memory or fewer CPUs" in done.stderr
    assert not (out / "text/production_corpus.txt").exists()
    with nodes.cluster() as cluster:
        done = harness.run(prepare(out, catalog), **cluster.environment)
    assert done.code == 0, done.stderr
    assert (out / "text/production_corpus.txt").read_text().count("\n") == 1  # the rest are duplicates
