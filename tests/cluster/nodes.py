"""A Ray cluster of several nodes on this machine: `ray start` for each, in a folder of its own.

A node can be killed as a machine is that loses its power, stopped for a while, join late, or see other folders than
the rest do. The first node is the head, which drivers on this machine join.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

RAY = Path(sys.executable).with_name("ray")
PATIENCE = 100.0  # seconds in which a node is there, or gone
OBJECT_STORE_BYTES = 80_000_000
QUICK = {  # a lost node is noticed within 3 s, not within 20
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}


@dataclass(frozen=True)
class Node:
    name: str
    node_id: str
    process: psutil.Process  # of `ray start --block`
    raylet: psutil.Process

    def works_at(self, what: str) -> bool:
        """Whether a worker process is at a task, or is an actor, whose name begins so."""
        return any(title(child).startswith(f"ray::{what}") for child in _family(self.raylet))

    @property
    def alive(self) -> bool:
        return bool(_living([self.raylet]))


class Cluster:
    """The nodes, the address of the head, and the environment that a command needs to join it."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = {"RAY_TMPDIR": str(folder), "RAY_AUTH_MODE": "disabled", **environment}
        self.nodes: list[Node] = []
        self.address = ""
        self.dashboard = ""  # http://HOST:PORT, where the head has one
        self.metrics = ""  # what Prometheus reads from the head

    def start_head(self, *, cpus: int = 1, dashboard: bool = False) -> Node:
        client, port, metrics = free_ports(3)
        self.metrics = f"http://127.0.0.1:{metrics}/metrics"
        self.dashboard = f"http://127.0.0.1:{port}" if dashboard else ""
        arguments = ["--head", "--port=0", f"--ray-client-server-port={client}", f"--dashboard-port={port}"]
        arguments.append(f"--metrics-export-port={metrics}")
        node = self._start([*arguments, f"--include-dashboard={'true' if dashboard else 'false'}"], cpus)
        self.address = (self.folder / node.name / "ray_current_cluster").read_text().strip()
        self.environment["RAY_ADDRESS"] = self.address
        return node

    def add(
        self, *, cpus: int = 1, gpus: int = 0, labels: Mapping[str, str] | None = None, hidden: Path | None = None
    ) -> Node:
        """Start another node; it is in the cluster on return. In the place of `hidden` it sees an empty folder."""
        return self._start([f"--address={self.address}"], cpus, gpus, labels, hidden)

    @property
    def workers(self) -> list[Node]:
        """The nodes that are alive, without the head."""
        return [node for node in self.nodes[1:] if node.alive]

    def kill(self, node: Node) -> None:
        """SIGKILL for every process of a node."""
        with suppress(psutil.NoSuchProcess):
            node.raylet.suspend()  # so that it starts no others meanwhile
        processes = _living([node.process, *_family(node.process), *_family(node.raylet), node.raylet])
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        _, left = psutil.wait_procs(processes, PATIENCE)
        assert not left, f"{node.name}: {left} outlived SIGKILL"

    @contextmanager
    def paused(self, node: Node) -> Iterator[None]:
        """Nothing of a node runs meanwhile (SIGSTOP); after some seconds the cluster takes it for dead."""
        with _stopped([node.process, *_family(node.process)]):
            yield

    @contextmanager
    def slowed(self, node: Node) -> Iterator[None]:
        """What a node works at stands still meanwhile (SIGSTOP), while the node itself answers."""
        with _stopped([child for child in _family(node.raylet) if _works(title(child))]):
            yield

    def close(self) -> None:
        for node in reversed(self.nodes):
            self.kill(node)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(
        self,
        arguments: Sequence[str],
        cpus: int,
        gpus: int = 0,
        labels: Mapping[str, str] | None = None,
        hidden: Path | None = None,
    ) -> Node:
        name = f"n{len(self.nodes)}"
        (agent,) = free_ports(1)
        command = [
            *(str(RAY), "start", "--block", "--disable-usage-stats", "--include-log-monitor=false"),
            *(f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--object-store-memory={OBJECT_STORE_BYTES}"),
            *(f"--temp-dir={self.folder / name}", f"--dashboard-agent-listen-port={agent}"),
            *([f"--labels={','.join('='.join(label) for label in labels.items())}"] if labels else []),
            *arguments,
        ]
        if hidden is not None:
            cover = self.folder / f"{name}-sees"
            cover.mkdir()
            mounted = f'mount --bind "{cover}" "{hidden}" && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", mounted, "sh", *command]
        log = self.folder / f"{name}.log"
        with log.open("w") as stream:
            started = subprocess.Popen(
                command, stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, **QUICK, **self.environment},
            )  # fmt: skip
        process = psutil.Process(started.pid)
        try:
            _wait_for("Ray runtime started", log, started)
            raylet = next(child for child in process.children() if child.name() == "raylet")
        except BaseException:
            for one in _living([*_family(process), process]):
                one.kill()
            raise
        flag = next(word for word in raylet.cmdline() if word.startswith("--node_id="))
        node = Node(name, flag.partition("=")[2], process, raylet)
        self.nodes.append(node)
        return node


@contextmanager
def cluster(
    *,
    cpus: int = 1,
    dashboard: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Cluster]:
    """A head with so many CPUs; others come by `add`. `environment` is for all nodes and all commands."""
    folder = Path(tempfile.mkdtemp(prefix="rc-", dir="/tmp"))  # short: the path of a socket has at most 107 bytes
    made = Cluster(folder, environment or {})
    try:
        made.start_head(cpus=cpus, dashboard=dashboard)
        yield made
    finally:
        made.close()


def needs_namespaces() -> None:
    """Skip the test where this user may not give a process mounts of its own."""
    try:
        done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, timeout=PATIENCE)
    except FileNotFoundError:
        pytest.skip("needs unshare (util-linux)")
    if done.returncode:
        pytest.skip(f"may not unshare mounts here: {done.stderr.decode().strip()}")


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _wait_for(words: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    began = time.monotonic()
    while words not in log.read_text():
        assert process.poll() is None, f"ray start failed:\n{log.read_text()}"
        assert time.monotonic() - began < PATIENCE, f"ray start has not come so far:\n{log.read_text()}"
        time.sleep(0.05)  # polling, not synchronisation: the loop ends by the condition alone


@contextmanager
def _stopped(processes: Sequence[psutil.Process]) -> Iterator[None]:
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.resume()


def _works(title: str) -> bool:
    return title.startswith("ray::") and not title.startswith(
        ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
    )


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _living(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    return [one for one in dict.fromkeys(processes) if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
