"""Blocks are done on nodes without GPUs, training on those with them; the GPUs are counted, not there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from omni_ray.runtime import TYPE
from tests.cluster import nodes
from tests.cluster.test_prepare import WORK, done_blocks, verified
from tests.cluster.test_shared import LINES, command
from tests.cluster.test_train import WORKER, train
from tests.e2e import harness
from tests.prepare import inprocess
from tests.train import small

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.ray]


@pytest.fixture(scope="module")
def cluster() -> Iterator[nodes.Cluster]:
    """A head that does no work, a node with a CPU, and two with a CPU and a GPU: one says which kind, one does not."""
    with nodes.cluster(cpus=0) as made:
        made.add()
        made.add(gpus=1)
        made.add(gpus=1, labels={TYPE: "L4"})
        yield made


def test_each_on_the_nodes_that_are_made_for_it(tmp_path: Path, cluster: nodes.Cluster) -> None:
    cpu, *gpus = cluster.workers
    (tmp_path / "talk.txt").write_text(inprocess.lines("talk", 20_000))
    (tmp_path / "catalog.toml").write_text(LINES)
    used = set()

    def watch() -> bool:
        used.update(node.name for node in (cpu, *gpus) if node.works_at(WORK))
        return False

    with harness.started(command(tmp_path / "one", tmp_path), **cluster.environment) as process:
        harness.wait_until(process, watch)
        _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert used == {cpu.name}
    small.write_corpus(tmp_path / "corpus.txt")
    with harness.started(train(tmp_path, "run"), **cluster.environment) as process:
        assert harness.wait_until(process, lambda: watch() or any(gpu.works_at(WORKER) for gpu in gpus))
        assert not cpu.works_at(WORKER)
    assert used == {cpu.name}
    expected = verified(tmp_path / "one")
    with harness.started(command(tmp_path / "two", tmp_path), **cluster.environment) as process:
        assert harness.wait_until(process, lambda: done_blocks(tmp_path / "two", "text") >= 1 and cpu.works_at(WORK))
        cluster.kill(cpu)
        late = cluster.add()
        assert harness.wait_until(process, lambda: watch() or late.works_at(WORK)), "another node takes its place"
        harness.wait_until(process, watch)
        _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert used == {cpu.name}, "blocks wait for a node without a GPU"
    assert verified(tmp_path / "two") == expected
