"""What the nodes of a cluster do not share is refused before there is work; nodes see other folders by mounts of their
own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from omni_ray.sight import MARKS
from tests.cluster import nodes
from tests.cluster.test_prepare import WORK, done_blocks
from tests.e2e import harness
from tests.prepare import inprocess
from tests.train import small

pytestmark = [pytest.mark.slow, pytest.mark.ray]
LINES = "[[source]]\nname = 'talk'\nmodality = 'text'\ncategory = 'general'\nurl = 'talk.txt'\nreader = 'lines'\n"
LINES += "license = 'MIT'\nblock_bytes = 4096\n"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One that all nodes see, and one that the only node with a CPU does not see; sources are in both."""
    nodes.needs_namespaces()
    top = tmp_path_factory.mktemp("folders")
    for name in ("seen", "hidden"):
        (top / name).mkdir()
        (top / name / "talk.txt").write_text(inprocess.lines("talk", 20_000))
        (top / name / "catalog.toml").write_text(LINES)
    return top / "seen", top / "hidden"


@pytest.fixture(scope="module")
def cluster(folders: tuple[Path, Path]) -> Iterator[nodes.Cluster]:
    with nodes.cluster(cpus=0) as made:
        made.add(hidden=folders[1])
        yield made


def prepare(cluster: nodes.Cluster, out: Path, catalog: Path) -> harness.Done:
    return harness.run(command(out, catalog), **cluster.environment)


def command(out: Path, catalog: Path) -> list[str]:
    return harness.command("omni_ray.prepare", "text", "--out", str(out), "--catalog", str(catalog / "catalog.toml"))


def test_an_output_that_a_node_does_not_see(folders: tuple[Path, Path], cluster: nodes.Cluster) -> None:
    seen, hidden = folders
    done = prepare(cluster, hidden / "out", seen)
    assert done.code == 5, done.stderr
    assert f"{hidden}/out: not seen by node " in done.stderr
    assert cluster.workers[0].node_id[:12] in done.stderr and "s3://" in done.stderr
    assert done_blocks(hidden / "out", "text") == 0


def test_sources_that_a_node_does_not_see(folders: tuple[Path, Path], cluster: nodes.Cluster) -> None:
    seen, hidden = folders
    done = prepare(cluster, seen / "out", hidden)
    assert done.code == 5, done.stderr
    assert f"{hidden}/talk.txt: not seen by node " in done.stderr and "s3://" in done.stderr
    assert done_blocks(seen / "out", "text") == 0


def test_a_run_folder_that_a_node_does_not_see(folders: tuple[Path, Path], cluster: nodes.Cluster) -> None:
    seen, hidden = folders
    text = small.write_corpus(seen / "corpus.txt")
    config = small.config(train_text=str(text), save_dir=str(hidden / "runs/a"))
    (seen / "thinker.json").write_text(config.model_dump_json())
    argv = harness.command("omni_ray.train", "--stage", "text", "--config", str(seen / "thinker.json"))
    done = harness.run(argv, **cluster.environment)
    assert done.code == 5, done.stderr
    assert f"{hidden}/runs/a: not seen by node " in done.stderr and "s3://" in done.stderr
    assert not (hidden / "runs/stores").exists()


def test_a_node_that_joins_late_and_does_not_see_the_output(folders: tuple[Path, Path], cluster: nodes.Cluster) -> None:
    """It spoils nothing: it does no block, the run says what is wrong, and goes on once the node is gone."""
    seen, _ = folders
    (here,) = cluster.workers
    (seen / "late").mkdir()
    out = seen / "late/out"
    with harness.started(command(out, seen), **cluster.environment) as process:
        assert harness.wait_until(process, lambda: done_blocks(out, "text") >= 1 and here.works_at(WORK))
        with cluster.slowed(here):
            late = cluster.add(hidden=seen / "late")
            _, stderr = process.communicate(timeout=harness.PATIENCE)
    assert process.returncode == 5, stderr
    assert f"{out}: not seen by node " in stderr and late.node_id[:12] in stderr
    cluster.kill(late)
    done = prepare(cluster, out, seen)
    assert done.code == 0, done.stderr
    assert harness.run(harness.command("omni_ray.cli", "verify", "--out", str(out))).code == 0
    assert len(list((out / MARKS).iterdir())) == 1
