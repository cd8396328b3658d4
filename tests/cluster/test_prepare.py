"""Preparation on a cluster whose nodes die, stand still and join late: the files of a run on one machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from omni_ray.storage import TEMP_PREFIX
from tests.cluster import nodes
from tests.e2e import harness, sources
from tests.prepare.media import world

pytestmark = [pytest.mark.slow, pytest.mark.ray]
WORK = "MapBatches"  # what Ray Data calls the tasks of a preparation


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a catalog of texts and one of pictures."""
    folder = tmp_path_factory.mktemp("sources")
    texts = sources.write_sources(folder, size=1_000_000)
    texts.rename(folder / "texts.toml")
    for number in range(400):
        world.files(folder, {f"photos/{'ab'[number % 2]}/{number:03d}.png": world.photo(number)})
    size = sum(path.stat().st_size for path in (folder / "photos").rglob("*.png"))
    more = '[source.fields]\ncaption = "a {class}"'
    (folder / "pictures.toml").write_text(world.entry("photos", "image", "photos", "imagefolder", more, size // 200))
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, catalog: Path) -> dict[str, str]:
    """What one machine makes of it."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    done = harness.run([*prepare(out, catalog), "--address", "local", "--workers", "2"])
    assert done.code == 0, done.stderr
    return harness.products(out)


@pytest.fixture(scope="module")
def cluster() -> Iterator[nodes.Cluster]:
    """A head that does no work, and two nodes of one CPU."""
    with nodes.cluster(cpus=0) as made:
        made.add()
        made.add()
        yield made


def prepare(out: Path, catalog: Path) -> list[str]:
    return harness.command("omni_ray.prepare", "--out", str(out), "--catalog", str(catalog))


def done_blocks(out: Path, modality: str) -> int:
    found = out.glob(f".omni_ray/{modality}/*/blocks/*")
    return len({path.name.partition(".")[0] for path in found if not path.name.startswith(TEMP_PREFIX)})


def verified(out: Path) -> dict[str, str]:
    done = harness.run(harness.command("omni_ray.cli", "verify", "--out", str(out)))
    assert done.code == 0, done.stdout + done.stderr
    return harness.products(out)


def test_nodes_die_in_the_middle_of_work_and_others_join_late(
    tmp_path: Path, catalog: Path, undisturbed: dict[str, str], cluster: nodes.Cluster
) -> None:
    out = tmp_path / "out"
    with harness.started(prepare(out, catalog), **cluster.environment) as process:
        for modality, enough in (("text", 10), ("image", 5)):
            lost, other = cluster.workers
            assert harness.wait_until(
                process,
                lambda: done_blocks(out, modality) >= enough and lost.works_at(WORK),  # noqa: B023
            ), f"{modality}: the run ended too early"
            print(modality, done_blocks(out, modality), "blocks when the nodes are slowed")
            with cluster.slowed(lost):
                with cluster.slowed(other):  # so that there is work left when the late one comes
                    late = cluster.add()
                    assert harness.wait_until(process, lambda: late.works_at(WORK)), "nothing for the late node"  # noqa: B023
                cluster.kill(lost)
        stdout, stderr = process.communicate(timeout=harness.PATIENCE)
    assert process.returncode == 0, stdout + stderr
    assert verified(out) == undisturbed


@pytest.mark.long
def test_a_node_that_stands_still_does_not_stop_the_rest(
    tmp_path: Path, catalog: Path, undisturbed: dict[str, str], cluster: nodes.Cluster
) -> None:
    out = tmp_path / "out"
    stuck = cluster.workers[0]
    with harness.started(prepare(out, catalog), **cluster.environment) as process:
        assert harness.wait_until(process, lambda: done_blocks(out, "text") >= 10 and stuck.works_at(WORK))
        with cluster.paused(stuck):
            stdout, stderr = process.communicate(timeout=harness.PATIENCE)
    assert process.returncode == 0, stdout + stderr
    cluster.kill(stuck)  # what had woken up meanwhile changed nothing
    assert verified(out) == undisturbed
