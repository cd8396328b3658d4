"""Training on a cluster, each worker on a node of its own: one is killed, another joins, the samples stay the same."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import nodes
from tests.e2e import harness
from tests.train import small

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.ray]
WORKER = "RayTrainWorker"
EVERY = 20  # steps between two checkpoints


@pytest.fixture(scope="module")
def cluster() -> Iterator[nodes.Cluster]:
    with nodes.cluster(cpus=0, environment={"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}) as made:
        made.add()
        made.add()
        yield made


def train(folder: Path, run: str, *arguments: str) -> list[str]:
    config = small.config(
        max_steps=1_000_000, checkpoint_freq=EVERY, val_freq=1_000_000, print_freq=10, batch_size=2,
        save_dir=str(folder / run), train_text=str(folder / "corpus.txt"),
    )  # fmt: skip
    (folder / f"{run}.json").write_text(config.model_dump_json())
    argv = harness.command("omni_ray.train", "--stage", "text", "--config", str(folder / f"{run}.json"))
    return [*argv, "--record-ids", *arguments]


def checkpointed(folder: Path) -> int:
    """The step of the newest whole checkpoint."""
    return max((int(path.parent.name[-8:]) for path in folder.glob("step_*/COMPLETE")), default=0)


def stream(folder: Path) -> list[tuple[int, list[int]]]:
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [(row["step"], row["ids"]) for row in rows if "ids" in row]


def test_a_node_is_killed_and_another_joins(tmp_path: Path, cluster: nodes.Cluster) -> None:
    small.write_corpus(tmp_path / "corpus.txt")
    stays, lost = cluster.workers
    run = tmp_path / "disturbed"
    with harness.started(
        train(tmp_path, run.name, "--workers", "1:2", "--resize-seconds", "1"), **cluster.environment
    ) as process:

        def on(*members: nodes.Node, since: int) -> bool:
            return checkpointed(run) > since + EVERY and all(node.works_at(WORKER) for node in members)

        assert harness.wait_until(process, lambda: on(stays, lost, since=0))
        cluster.kill(lost)
        killed_at = checkpointed(run)
        assert harness.wait_until(process, lambda: on(stays, since=killed_at))
        late = cluster.add()
        joined_at = checkpointed(run)
        assert harness.wait_until(process, lambda: on(stays, late, since=joined_at) and late.works_at(WORKER))
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=harness.PATIENCE)
    assert process.returncode == 130, stdout + stderr
    words = [line.strip() for line in stdout.splitlines() if line.strip().startswith("training on ")]
    assert [word.split(",")[0][:19] for word in words][:1] == ["training on 2 worke"], words
    seen = stream(run)
    assert len(seen) > joined_at
    undisturbed = tmp_path / "undisturbed"
    alone = train(tmp_path, undisturbed.name, "--workers", "2", "--address", "local", "--stop-at", str(len(seen)))
    done = harness.run(alone)
    assert done.code == 0, done.stderr
    assert seen == stream(undisturbed)[: len(seen)]
