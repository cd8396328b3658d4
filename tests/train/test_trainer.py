"""Under Ray Train: workers that die, come and go, and a node that says it will go."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil
import pytest
import ray
from ray.cluster_utils import Cluster

from omni_ray.errors import Interrupted
from omni_ray.storage import LocalStorage
from omni_ray.train import checkpoint, sampler, token_store, trainer
from omni_ray.train.loop import Hooks
from omni_ray.train.plan import Orders
from omni_ray.train.stages.text import TextTask
from tests.train import small
from tests.train.ranks import run_ranks

pytestmark = [pytest.mark.slow, pytest.mark.ray]
ENDLESS = 1_000_000


@contextmanager
def local_ray(cpus: int) -> Iterator[None]:
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def cluster_of(nodes: int) -> Iterator[tuple[Cluster, list[object]]]:
    """A head without CPUs, and nodes of one CPU each; in a folder of its own, where nobody else looks for a cluster."""
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short: the path of a socket has at most 107 bytes
    os.environ["RAY_TMPDIR"] = folder
    cluster = Cluster(
        initialize_head=True, shutdown_at_exit=False, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        added = [cluster.add_node(num_cpus=1) for _ in range(nodes)]
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        ours = ray.get_runtime_context().get_node_id()  # Ray lets a driver join any node of its machine
        yield cluster, [node for node in added if node.node_id != ours]
    finally:
        ray.shutdown()
        cluster.shutdown()
        del os.environ["RAY_TMPDIR"]
        shutil.rmtree(folder, ignore_errors=True)


def job(folder: Path, ready: token_store.Ready, **changes: object) -> trainer.Job:
    config = small.config(**changes)
    task = TextTask(config, ready, "cpu")
    orders = Orders(str(folder), "run", record_ids=True)
    return trainer.Job("text", msgspec.json.encode(ready), small.make_plan(config, task), orders)


def step_of(line: str) -> int:
    """The step that a line on the terminal tells of; 0 for other lines."""
    return int(line.split()[1].split("/")[0].replace(",", "")) if line.startswith("step ") else 0


class Script:
    """Does one thing after the other, each when a line says that it is time; then stops the run as Ctrl-C does."""

    def __init__(self, *acts: tuple[Callable[[str], bool], Callable[[], object]]) -> None:
        self.lines: list[str] = []
        self.error: Exception | None = None
        self._acts = list(acts)

    def __call__(self, event: trainer.Event) -> None:
        if event.line is None:
            return
        self.lines.append(event.line)
        if self._acts and self._acts[0][0](event.line):
            try:
                self._acts.pop(0)[1]()
            except Exception as error:  # noqa: BLE001 - raised again in the test
                self.error, self._acts = error, []
                interrupt()

    def assert_done(self) -> None:
        if self.error is not None:
            raise self.error
        assert not self._acts, self.lines[-10:]


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def after(step: int) -> Callable[[str], bool]:
    return lambda line: step_of(line) >= step


def steps_on(workers: str) -> Callable[[str], bool]:
    """Whether training has gone on for a while on so many workers."""
    seen = {"on": False, "steps": 0}

    def reached(line: str) -> bool:
        if line.startswith("training on "):
            seen["on"], seen["steps"] = line.startswith(f"training on {workers} "), 0
        seen["steps"] += seen["on"] and step_of(line) > 0
        return seen["steps"] >= 30

    return reached


def assert_stream(folder: Path, ready: token_store.Ready, least: int) -> None:
    """The rows that survive are steps 1, 2, 3, ... and each saw what it sees in an undisturbed run."""
    rows = [row for row in small.rows(folder) if "ids" in row]
    count = TextTask(small.config(), ready, "cpu").rows
    assert len(rows) >= least
    for number, row in enumerate(rows):
        assert row["step"] == number + 1
        assert row["ids"] == sampler.step_rows(number, 4, count, small.config().seed).tolist()


def kill_a_worker() -> None:
    workers = [
        process
        for process in psutil.Process().children(recursive=True)
        if "RayTrainWorker" in " ".join(process.cmdline())
    ]
    assert len(workers) == 2
    workers[1].kill()


def test_a_worker_killed_in_mid_epoch_leaves_the_undisturbed_run(tmp_path: Path, ready: token_store.Ready) -> None:
    changes = {"batch_size": 2, "max_steps": 60, "checkpoint_freq": 8, "print_freq": 1}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_ranks(small.run_rank, 2, whole, ready, changes, 4, None)
    script = Script((after(30), kill_a_worker))
    config = small.config(**changes)
    plan = small.make_plan(config, TextTask(config, ready, "cpu"), 4)
    told = trainer.Job("text", msgspec.json.encode(ready), plan, Orders(str(killed), "run", record_ids=True))
    with local_ray(2):
        trainer.fit(told, trainer.Workers(2, 2, False, 1, 60.0), script)
    script.assert_done()
    assert sum(line.startswith("training on 2 workers") for line in script.lines) == 2
    assert small.rows(killed) == small.rows(whole)
    assert small.weights(killed, 60) == small.weights(whole, 60)


@pytest.mark.long
def test_workers_go_and_come_and_the_stream_stays(
    tmp_path: Path, ready: token_store.Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    with cluster_of(2) as (cluster, nodes):
        script = Script(
            (steps_on("2 workers"), lambda: cluster.remove_node(nodes[0], allow_graceful=False)),
            (steps_on("1 worker"), lambda: cluster.add_node(num_cpus=1)),
            (steps_on("2 workers"), interrupt),
        )
        told = job(tmp_path, ready, max_steps=ENDLESS, checkpoint_freq=10, val_freq=ENDLESS, print_freq=1)
        with pytest.raises(Interrupted):
            trainer.fit(told, trainer.Workers(1, 2, False, 1, 1.0), script)
    script.assert_done()
    assert_stream(tmp_path, ready, least=70)


def test_a_notice_of_preemption_brings_a_checkpoint(
    tmp_path: Path, ready: token_store.Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "0.5")
    with cluster_of(2) as (cluster, nodes):

        def drain() -> None:
            command = Path(sys.executable).parent / "ray"
            subprocess.run(
                [command, "drain-node", "--address", cluster.address, "--node-id", nodes[0].node_id,
                 "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot",
                 "--deadline-remaining-seconds", "600"],
                check=True, capture_output=True, timeout=100,
            )  # fmt: skip

        script = Script((after(20), drain), (lambda line: line.startswith("a node will be taken away"), interrupt))
        told = job(tmp_path, ready, max_steps=ENDLESS, checkpoint_freq=ENDLESS, val_freq=ENDLESS, print_freq=1)
        with pytest.raises(Interrupted):
            trainer.fit(told, trainer.Workers(2, 2, False, 1, 60.0), script)
    script.assert_done()
    step = checkpoint.newest(LocalStorage(tmp_path), "run")
    assert step is not None and step > 20
    resumed = small.training(tmp_path, ready, small.config(max_steps=ENDLESS), stop_at=step + 3)
    assert resumed.step == step
    resumed.run(Hooks())
    assert_stream(tmp_path, ready, least=step + 3)
