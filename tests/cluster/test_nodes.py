"""The cluster that the other tests here use is one: nodes join, die and stop as machines do."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import nodes
from tests.e2e import harness

pytestmark = [pytest.mark.slow, pytest.mark.ray]

ALIVE = """
import os, sys, time, ray
ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False, logging_level="ERROR")
while len(alive := {node["NodeID"] for node in ray.nodes() if node["Alive"]}) != int(sys.argv[1]):
    time.sleep(0.05)
print(*sorted(alive), ray.get_runtime_context().get_node_id())
"""


def alive(cluster: nodes.Cluster, count: int) -> list[str]:
    """The ids of the nodes once there are so many, and that of the node that a driver is on."""
    done = harness.run([sys.executable, "-c", ALIVE, str(count)], **cluster.environment)
    assert done.code == 0, done.stderr
    return done.stdout.splitlines()[-1].split()  # Ray itself tells before it of nodes that died


def test_nodes_join_and_die(tmp_path: Path) -> None:
    with nodes.cluster() as cluster:
        head, second, third = cluster.nodes[0], cluster.add(), cluster.add(labels={"kind": "late"})
        ids = [node.node_id for node in (head, second, third)]
        assert alive(cluster, 3) == [*sorted(ids), head.node_id]
        with cluster.paused(third):
            assert third.alive
            assert subprocess.run(["ps", "-o", "stat=", str(third.raylet.pid)], capture_output=True).stdout[:1] == b"T"
        cluster.kill(second)
        assert not second.alive
        assert alive(cluster, 2) == [*sorted([head.node_id, third.node_id]), head.node_id]
        processes = [node.process for node in cluster.nodes]
    assert not any(process.is_running() for process in processes)
    assert not cluster.folder.exists()
