"""Connecting to Ray, its nodes, and what a command shows to Prometheus."""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
import ray.util.metrics
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from omni_ray import watch
from omni_ray.connection import lasting
from omni_ray.errors import OmniRayError, Refused
from omni_ray.jobs import in_submitted_job

NODE_SECONDS = 60.0  # for a node to answer a question
NODE_LOST = (  # what becomes of a task that is bound to a node, where that is lost or short of memory
    ray.exceptions.NodeDiedError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.OutOfMemoryError,
    ray.exceptions.TaskUnschedulableError,
    ray.exceptions.WorkerCrashedError,
)
TYPE = "ray.io/accelerator-type"  # labels that Ray gives to nodes
NODE = "ray.io/node-id"
SETTINGS = {  # of Ray in this process, where the user has not set them
    # A task that Ray ended because its node was short of memory would be tried for ever.
    "RAY_task_oom_retries": "5",
    # A node that says nothing would be asked only after 5 minutes whether it is still there. Ray's servers refuse to be
    # asked more often than once a minute.
    "RAY_grpc_client_keepalive_time_ms": "60000",
    "RAY_grpc_client_keepalive_timeout_ms": "20000",
    # A node that starts looks for its own object store before that listens, every other time; it would look again
    # after a second, ten times.
    "RAY_raylet_client_connect_timeout_milliseconds": "50",
    "RAY_raylet_client_num_connect_attempts": "200",
}
OBJECT_STORE_BYTES = 256 << 20  # receipts and task descriptions only: payload never travels through it

_outlives_us = True  # the cluster that we are connected to, also where somebody else connected this process
_shown: dict[str, Any] = {}  # counters and gauges of this connection


@contextmanager
def connected(address: str, workers: int | None) -> Iterator[int]:
    """Connect to Ray for the length of a `with`; gives the number of CPUs of the cluster.

    Args:
        address: "auto" (the cluster that RAY_ADDRESS names or `ray start` began here, else a local one), "local", or
            HOST:PORT.
        workers: CPUs of a local cluster; None takes this machine's.

    Raises:
        OmniRayError: where there is no cluster to be had at the address.
        Refused: in a submitted job, for a cluster of its own.
    """
    with ExitStack() as ours:
        if not ray.is_initialized():
            lasting(ours).enter_context(_connection(address, workers))
        yield _cpus()


@contextmanager
def _connection(address: str, workers: int | None) -> Iterator[None]:
    global _outlives_us
    with _keeping_sigterm():
        _outlives_us = _connect(address, workers)
    try:
        with watch.watching(*_where()):
            yield
    finally:
        _outlives_us = True
        _shown.clear()
        with _keeping_sigterm():
            for pid in autoscalers():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            ray.shutdown()


def _where() -> tuple[str, str]:
    """HOST:PORT of the head, and of Ray's process for this machine."""
    context = ray.get_runtime_context()
    node = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    return context.gcs_address, f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"


def autoscalers() -> list[int]:
    """Processes of Ray's autoscaler that this one started. A cluster of one machine is never scaled, but Ray starts one
    for it all the same, which then takes a second to end, because it reports its end to a server that is gone."""
    found = []
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # of a thread or a process that is gone by now
            for pid in path.read_text().split():
                if b"/autoscaler/_private/monitor.py" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(int(pid))
    return found


@contextmanager
def _keeping_sigterm() -> Iterator[None]:
    """The command hears of SIGTERM whatever Ray does: ray.init puts a handler of its own in the place of the command's,
    and ray.shutdown takes any away (from below, so that for a moment a second SIGTERM ends the process at once)."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as exit_:  # what Ray's handler makes of a SIGTERM that comes meanwhile
        if exit_.code == signal.SIGTERM:
            raise KeyboardInterrupt from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread():  # elsewhere neither Ray nor we may set one
            signal.signal(signal.SIGTERM, before)


def _connect(address: str, workers: int | None) -> bool:
    """Whether the cluster was there before us."""
    if address == "local" and in_submitted_job():
        raise Refused("--address local: a submitted job works on the cluster that it was submitted to; leave it out")
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if not sys.stdout.isatty():
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    named = {"auto": os.environ.get("RAY_ADDRESS", ""), "local": ""}.get(address, address)
    if named or (address == "auto" and watch.answers(_noted_cluster())):
        try:
            if named and not watch.answers(named):
                raise ConnectionError("nothing listens there")
            # None makes Ray itself read RAY_ADDRESS or the note, and find the token of a cluster that wants one;
            # its own "auto" would also join what another program started for itself with ray.init
            ray.init(address=None if address == "auto" else address, **quiet)
            return True
        except (ConnectionError, ray.exceptions.AuthenticationError) as error:
            raise OmniRayError(
                f"no Ray cluster to be had at {named or _noted_cluster()}: {error}; start one (`ray start --head`), "
                "set RAY_AUTH_MODE=token if it wants a token, or use --address local"
            ) from error
    ray.init(
        address="local",
        num_cpus=workers or os.cpu_count(),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        **quiet,
    )
    return False


def _noted_cluster() -> str:
    """The cluster that `ray start` noted on this machine (documented at ray.init), be it alive or not; "" for none."""
    note = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()) / "ray/ray_current_cluster"
    return note.read_text().strip() if note.is_file() else ""


def _cpus() -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def outlives_us() -> bool:
    """Whether the cluster was there before this command, so that it may have other machines."""
    return _outlives_us


def ask_nodes(question: Callable[[str], str]) -> dict[str, str]:
    """Call `question` on every node that can be given work, with what messages call the node; the answers by that.

    A node that is lost meanwhile, or does not answer within NODE_SECONDS, is left out.
    """
    asked = {}
    for node in ray.nodes():
        if node["Alive"] and (node["Resources"].get("CPU") or node["Resources"].get("GPU")):
            name = _node_name(node["NodeManagerAddress"], node["NodeID"])
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(_call)
            asked[task.remote(question, name)] = name
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=NODE_SECONDS) if asked else ([], [])
    answers = {}
    for answer in answered:
        with suppress(*NODE_LOST):
            answers[asked[answer]] = ray.get(answer)
    return answers


def _call(question: Callable[[str], str], name: str) -> str:
    return question(name)


def this_node() -> str:
    """What messages call the node of this process."""
    return _node_name(ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id())


def _node_name(address: str, node_id: str) -> str:
    return f"{node_id[:12]} ({address})"


def without_gpus() -> dict[str, str]:
    """The label selector of work that needs no GPU: nodes without one, where the cluster has such nodes with CPUs."""
    return select_without_gpus([node for node in ray.nodes() if node["Alive"]])


def select_without_gpus(nodes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The same for these nodes (`ray.nodes()`). By the type of GPU, so that it holds for nodes that join later; a node
    whose type Ray does not know is named itself."""
    with_gpu = [node for node in nodes if node["Resources"].get("GPU")]
    others = [node for node in nodes if not node["Resources"].get("GPU")]
    if not with_gpu or not any(node["Resources"].get("CPU") for node in others):
        return {}
    labels = [node["Labels"].get(TYPE) for node in with_gpu]
    types = sorted({label for label in labels if label})
    unknown = sorted(node["NodeID"] for node, label in zip(with_gpu, labels, strict=True) if not label)
    return {key: f"!in({','.join(values)})" for key, values in ((TYPE, types), (NODE, unknown)) if values}


def count(name: str, means: str, amount: float, **labels: str) -> None:
    """Add to a counter that Prometheus can read as `ray_<name>`, with Ray's own labels beside these; `name` ends in
    `_total`. Ray brings it there within 10 s, and what is left when the connection ends. docs/metrics.md lists all."""
    if amount > 0 and (counter := _made(ray.util.metrics.Counter, name, means, labels)) is not None:
        counter.inc(amount, labels)


def show(name: str, means: str, value: float, **labels: str) -> None:
    """Set a gauge, likewise. Ray lets go of one that is not set again within 20 s."""
    if (gauge := _made(ray.util.metrics.Gauge, name, means, labels)) is not None:
        gauge.set(value, labels)


def _made(kind: type, name: str, means: str, labels: Iterable[str]) -> Any | None:
    """None on a cluster of our own: it ends with the command, so nobody has a place to read figures from."""
    if not _outlives_us or not ray.is_initialized():
        return None
    if name not in _shown:
        _shown[name] = kind(name, means, tuple(labels))
    return _shown[name]
