"""Which Ray cluster a command joins."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from omni_ray.errors import OmniRayError
from omni_ray.runtime import connected

pytestmark = [pytest.mark.slow, pytest.mark.ray]

JOINS = """
import ray
from omni_ray.runtime import connected
with connected("auto", 1) as cpus:
    print("joined", ray.get_runtime_context().gcs_address, cpus)
"""
OWN = """
import ray, sys
ray.init(num_cpus=3, object_store_memory=100 << 20, include_dashboard=False)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


def joined(folder: Path, **environment: str) -> tuple[str, int]:
    """The cluster that `--address auto` joins with Ray's files in `folder`, and its CPUs."""
    done = subprocess.run(
        [sys.executable, "-c", JOINS], capture_output=True, text=True, timeout=240, cwd=Path(__file__).parents[1],
        env={**os.environ, "RAY_TMPDIR": str(folder), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    _, address, cpus = next(line for line in done.stdout.splitlines() if line.startswith("joined")).split()
    return address, int(cpus)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ray's sockets lie below it, and their paths may have 107 characters."""
    return tmp_path_factory.mktemp("r")


@pytest.fixture
def another_program(folder: Path) -> Iterator[str]:
    """A program that runs its own Ray for itself; the address of that."""
    with subprocess.Popen(
        [sys.executable, "-c", OWN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "RAY_TMPDIR": str(folder)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("", timeout=60)


def test_auto_leaves_the_ray_of_another_program_alone(folder: Path, another_program: str) -> None:
    address, cpus = joined(folder)
    assert address != another_program
    assert cpus == 1


def test_auto_joins_the_cluster_that_ray_address_names(folder: Path, another_program: str) -> None:
    assert joined(folder, RAY_ADDRESS=another_program, RAY_AUTH_MODE="token") == (another_program, 3)


def test_auto_joins_the_cluster_that_ray_start_began(folder: Path) -> None:
    ray = Path(sys.executable).with_name("ray")
    environment = {**os.environ, "RAY_TMPDIR": str(folder)}
    start = [str(ray), "start", "--head", "--port=0", "--num-cpus=3", "--object-store-memory=100000000"]
    with subprocess.Popen(
        [*start, "--include-dashboard=false", "--block"], env=environment, stdout=subprocess.DEVNULL
    ) as head:
        try:
            note = folder / "ray/ray_current_cluster"
            while not note.exists():
                assert head.poll() is None, "ray start failed"
            assert joined(folder) == (note.read_text().strip(), 3)
        finally:
            head.terminate()
    assert joined(folder)[1] == 1, "a note that outlived its cluster is no cluster"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_address_where_nothing_listens_is_said_at_once(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(OmniRayError, match=f"{host}:{port}: nothing listens there"), connected(f"{host}:{port}", 1):
        pass
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(OmniRayError, match="use --address local"), connected("auto", 1):
        pass


def test_the_autoscaler_of_a_local_cluster_is_known() -> None:
    """Else every command on a local cluster ends a second later; its name is Ray's own."""
    code = (
        "from omni_ray.runtime import autoscalers, connected\n"
        "with connected('local', 1):\n"
        "    print('found', len(autoscalers()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, cwd=Path(__file__).parents[1]
    )
    assert "found 1" in done.stdout, done.stdout + done.stderr


def test_one_connection_lasts_and_a_local_cluster_publishes_nothing() -> None:
    """Nobody can read what a cluster that ends with the command would show."""
    code = (
        "import ray, ray.util.metrics\n"
        "from omni_ray.connection import one_connection\n"
        "from omni_ray.runtime import connected, count, show\n"
        "ray.util.metrics.Counter = ray.util.metrics.Gauge = None\n"
        "with one_connection():\n"
        "    for _ in range(2):\n"
        "        with connected('local', 1):\n"
        "            count('omni_ray_x_total', 'x', 1, source='a')\n"
        "            show('omni_ray_x', 'x', 1)\n"
        "        assert ray.is_initialized()\n"
        "assert not ray.is_initialized()\n"
        "print('silent')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, cwd=Path(__file__).parents[1]
    )
    assert "silent" in done.stdout, done.stdout + done.stderr
