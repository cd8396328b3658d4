"""The Ray Train door: the loop on many workers, which may die, come and go.

A worker or node that dies costs the steps since the last checkpoint: Ray Train starts all workers again, and each finds
the newest whole checkpoint itself. Checkpoints are the loop's own; Ray Train stores nothing.
"""

import logging
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
import ray
import ray.exceptions
import ray.train
import ray.train.torch
import torch
from ray.train.torch import TorchTrainer
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from omni_ray import config as configs
from omni_ray.errors import Interrupted, OmniRayError, StorageError
from omni_ray.sight import Sight
from omni_ray.train import checkpoint
from omni_ray.train.figures import Figures
from omni_ray.train.loop import Hooks, Training
from omni_ray.train.metrics import Progress
from omni_ray.train.plan import Orders, Plan
from omni_ray.train.registry import room
from omni_ray.train.team import Team

MOST_FAILURES = 16  # of workers; a node that was preempted does not count
ASK_SECONDS = 2.0  # between two looks for a notice of preemption
LISTEN_SECONDS = 0.3


class Workers(NamedTuple):
    """How many workers, each with these resources. `least` < `most` makes a run elastic."""

    least: int
    most: int
    gpu: bool
    cpus: int
    resize_seconds: float


class Job(msgspec.Struct, frozen=True):
    """What every rank is told."""

    stage: str
    prepared: bytes
    plan: Plan
    orders: Orders
    sight: Sight | None = None  # what the node of each rank must see


class Event(NamedTuple):
    """A line for the terminal, the figures of a validation, or how far the run is."""

    line: str | None
    step: int = 0
    figures: dict[str, float] | None = None
    progress: Progress | None = None


Listener = Callable[[Event], None]


def choose_workers(workers: tuple[int, int] | None, gpu: bool | None, resize_seconds: float) -> Workers:
    """Fill in what was not asked for from what the cluster has; connected to it.

    On GPUs a worker for each, on CPUs one with all of them.

    Raises:
        OmniRayError: where GPUs are asked for and there are none.
    """
    has = ray.cluster_resources()
    gpus = int(has.get("GPU", 0))
    if gpu and not gpus:
        raise OmniRayError("--gpu: the Ray cluster has no GPU; leave it out, or connect to one that has (--address)")
    use_gpu = gpus > 0 if gpu is None else gpu
    least, most = workers or ((gpus, gpus) if use_gpu else (1, 1))
    by_node = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    smallest = min((cpus for cpus in by_node if cpus), default=1)
    share = int(has.get("CPU", 1)) // most
    cpus = 1 if use_gpu else max(1, min(share, smallest))
    return Workers(least, most, use_gpu, cpus, resize_seconds)


def fit(job: Job, workers: Workers, listen: Listener) -> None:
    """Train; returns when the run is at the end of its plan or where it was told to stop.

    Raises:
        OmniRayError: where training cannot go on; the errors of the loop with their exit codes.
        Interrupted: on Ctrl-C.
    """
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    count = workers.most if workers.least == workers.most else (workers.least, workers.most)
    resources = {"CPU": workers.cpus, **({"GPU": 1} if workers.gpu else {})}
    with (
        _same_signals(),
        tempfile.TemporaryDirectory(prefix="omni_ray-train-") as scratch,
        _listening(listen, Figures(job.stage)) as mailbox,
    ):
        trainer = TorchTrainer(
            _work,
            train_loop_config={"job": msgspec.json.encode(job), "threads": workers.cpus, "mailbox": mailbox},
            scaling_config=ray.train.ScalingConfig(
                num_workers=count,
                use_gpu=workers.gpu,
                resources_per_worker=resources,
                elastic_resize_monitor_interval_s=workers.resize_seconds,
            ),
            run_config=ray.train.RunConfig(
                name=job.stage,
                storage_path=scratch,
                failure_config=ray.train.FailureConfig(max_failures=MOST_FAILURES),
            ),
        )
        try:
            refused = trainer.fit().return_value
        except ray.train.WorkerGroupError as error:
            causes = "; ".join(dict.fromkeys(_last_line(one) for one in error.worker_failures.values()))
            raise OmniRayError(
                f"training failed {MOST_FAILURES + 1} times, at last with: {causes}; what is checkpointed stays, the "
                "same command goes on from there"
            ) from error
        except (ray.exceptions.RayActorError, SystemExit) as error:  # what Ray Train makes of Ctrl-C
            raise Interrupted("stopped; the same command goes on from the newest checkpoint") from error
    if refused is not None:
        raise _restored(refused)


def _work(told: dict[str, Any]) -> tuple[str, int] | None:
    """One rank. An error that trying again cannot mend is returned, so that Ray Train does not try again."""
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(told["threads"])
    try:
        job = msgspec.json.decode(told["job"], type=Job)
        if job.sight is not None:
            job.sight.check()
        config = configs.validate(job.plan.config, configs.STAGES[job.stage].config, f"the {job.stage} config")
        task = room(job.stage).open_task(config, job.prepared, device.type)
        storage = checkpoint.open_held(job.orders)
        storage.check()  # every rank sees it, so that Ray Train does not start again those that rank 0 left alone
        run = Training(task, config, job.plan, job.orders, Team.joined(device), storage)
        run.run(_hooks(told["mailbox"]))
    except StorageError:
        raise
    except OmniRayError as error:
        return str(error), error.exit_code
    return None


def _hooks(mailbox: Any) -> Hooks:
    def ask_preempted() -> bool:
        return ray.train.get_preemption_info() is not None

    def say(line: str) -> None:
        mailbox.put.remote(Event(line))

    def checked(step: int, figures: dict[str, float]) -> None:
        if ray.train.get_context().get_world_rank() == 0:
            mailbox.put.remote(Event(None, step, figures))

    def progressed(progress: Progress) -> None:
        mailbox.put.remote(Event(None, progress.step, progress=progress))

    return Hooks(say, ask_preempted, ASK_SECONDS, checked, progressed)


class _Mailbox:
    """Carries events from the rank that leads to the driver."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def put(self, event: Event) -> None:
        self._events.append(event)

    def take(self) -> list[Event]:
        events, self._events = self._events, []
        return events


@contextmanager
def _listening(listen: Listener, figures: Figures) -> Iterator[Any]:
    """A mailbox whose events reach `listen` and Prometheus, in a thread, until the block ends."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)  # other nodes may go
    mailbox = ray.remote(num_cpus=0, scheduling_strategy=here)(_Mailbox).remote()
    ended = threading.Event()

    def pass_on() -> None:
        while True:
            last = ended.wait(LISTEN_SECONDS)
            try:
                for event in ray.get(mailbox.take.remote()):
                    listen(event)
                    if event.progress is not None:
                        figures.take(event.progress)
                    if event.figures:
                        figures.take_validation(event.figures)
                figures.show()
            except ray.exceptions.RayError:  # the cluster is going down: nothing more will come
                return
            if last:
                return

    thread = threading.Thread(target=pass_on, name="listen", daemon=True)
    thread.start()
    try:
        yield mailbox
    finally:
        ended.set()
        thread.join()


@contextmanager
def _same_signals() -> Iterator[None]:
    """Ray Train takes Ctrl-C over and does not give it back."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def _restored(refused: tuple[str, int]) -> OmniRayError:
    message, code = refused
    error = OmniRayError(message)
    error.exit_code = code
    return error
