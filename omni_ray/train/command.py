"""`python -m omni_ray.train`: train a stage, or go on with it."""

import argparse
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from omni_ray import faults
from omni_ray.config import STAGES, StageConfig
from omni_ray.connection import one_connection
from omni_ray.entry import guarded
from omni_ray.errors import UsageError
from omni_ray.lease import Lease
from omni_ray.storage import Storage, open_storage

DEFAULT_RESIZE_SECONDS = 60.0


def add_parser(parser: argparse.ArgumentParser, stage: str | None = None) -> None:
    """Give `parser` the train command's arguments; with `stage`, those of a script for that stage alone."""
    if stage is None:
        parser.add_argument("--stage", choices=("all", *STAGES), default="all", help="what to train (default: all)")
    else:
        parser.set_defaults(stage=stage)
    parser.add_argument("--config", metavar="FILE", help="the stage's config (default: its file in --configs-dir)")
    parser.add_argument("--configs-dir", default="configs", metavar="DIR", help="where configs lie (default: configs)")
    parser.add_argument("--data", metavar="URI", help="what the configs call `data`")
    parser.add_argument("--storage", metavar="URI", help="what save_dir is relative to (default: here)")
    parser.add_argument("--workers", type=_workers, metavar="N|MIN:MAX", help="training workers; elastic with MIN:MAX")
    device = parser.add_mutually_exclusive_group()
    device.add_argument("--gpu", dest="gpu", action="store_true", default=None, help="a GPU for each worker")
    device.add_argument("--cpu", dest="gpu", action="store_false", help="no GPUs, also where the cluster has some")
    parser.add_argument("--fresh", action="store_true", help="move the run that is there aside and start again")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a config value for this run")
    parser.add_argument("--max-steps", type=_count, metavar="N", help="the length of the run in optimizer steps")
    parser.add_argument("--stop-at", type=_count, metavar="N", help="pause after step N; the schedule stays as it is")
    parser.add_argument("--smoke", action="store_true", help="a tiny model for some steps, in <save_dir>-smoke")
    parser.add_argument(
        "--scale-lr", choices=("none", "sqrt", "linear"), default="none", help="peak lr by world size (default: none)"
    )
    parser.add_argument("--record-ids", action="store_true", help="note in metrics.jsonl which rows each step saw")
    parser.add_argument(
        "--resize-seconds",
        type=float,
        default=DEFAULT_RESIZE_SECONDS,
        metavar="S",
        help=f"elastic: how often to look for more workers (default: {DEFAULT_RESIZE_SECONDS:g})",
    )
    parser.add_argument("--address", default="auto", metavar="auto|local|HOST:PORT", help="the Ray cluster")


def main(argv: Sequence[str], stage: str | None = None) -> int:
    name = "python -m omni_ray.train" if stage is None else None
    parser = argparse.ArgumentParser(prog=name, description="Train a stage; kill it anywhere and run it again.")
    add_parser(parser, stage)
    return guarded(lambda: run(parser.parse_args(argv)))


def run(arguments: argparse.Namespace) -> int:
    """Run the parsed train command; the exit code."""
    from omni_ray.train.registry import room  # not at the top: importing torch takes seconds that --help can save

    stages = list(STAGES) if arguments.stage == "all" else [arguments.stage]
    if arguments.stage == "all" and arguments.config:
        raise UsageError("--config: belongs to one stage; name it with --stage, or use --configs-dir")
    for stage in stages:
        room(stage)
    faults.arm()
    with one_connection():
        for stage in stages:
            _run_stage(stage, arguments)
    return 0


def _run_stage(stage: str, arguments: argparse.Namespace) -> None:
    from omni_ray.train.launch import Changes, place, read_config

    path = Path(arguments.config or Path(arguments.configs_dir) / STAGES[stage].file)
    changes = Changes(arguments.data, arguments.set, arguments.max_steps, arguments.smoke)
    config = read_config(stage, path, changes)
    root, folder = place(config, arguments.storage)
    print(f"[Stage {STAGES[stage].letter}] {STAGES[stage].title} ({path.name})", flush=True)
    storage = open_storage(root)
    command = shlex.join(["train", "--stage", stage])
    lease = Lease.acquire(open_storage(f"{root}/{folder}"), command)
    try:
        if arguments.fresh:
            lease.release()
            _move_aside(storage, folder)
            lease = Lease.acquire(open_storage(f"{root}/{folder}"), command)
        _train(stage, config, storage.fenced(lease.check), lease.epoch, folder, arguments)
    finally:
        lease.release()


def _move_aside(storage: Storage, folder: str) -> None:
    from omni_ray.train.checkpoint import move_aside

    print(f"  the run that was there is now {storage.uri}/{move_aside(storage, folder)}", flush=True)


def _train(
    stage: str, config: StageConfig, storage: Storage, epoch: int, folder: str, arguments: argparse.Namespace
) -> None:
    from omni_ray import blocks
    from omni_ray.runtime import connected
    from omni_ray.sight import look
    from omni_ray.train import trainer
    from omni_ray.train.launch import Scale, local_files, settle
    from omni_ray.train.plan import Orders
    from omni_ray.train.registry import room

    asked = arguments.workers
    cpus = max(os.cpu_count() or 1, asked[1] if asked else 1)
    with connected(arguments.address, cpus), ExitStack() as stack:
        sight = look(open_storage(f"{storage.location}/{folder}"), local_files(config))

        def run_tasks(work: Callable[[bytes], Iterator[bytes]], tasks: Sequence[tuple[bytes, int]]) -> Iterator[bytes]:
            running = blocks.run_blocks(work, tasks, address=arguments.address, workers=cpus, sight=sight)
            return stack.enter_context(closing(running))  # ends before the connection, also after an error

        prepared = room(stage).prepare(config, storage, run_tasks)
        task = room(stage).open_task(config, prepared, "cpu")
        workers = trainer.choose_workers(asked, arguments.gpu, arguments.resize_seconds)
        plan = settle(stage, config, task, storage, folder, Scale(workers.most, arguments.scale_lr), _say)
        if plan is not None:
            orders = Orders(storage.location, folder, arguments.stop_at, arguments.record_ids, epoch)
            trainer.fit(trainer.Job(stage, prepared, plan, orders, sight), workers, _listen)


def _listen(event: object) -> None:
    line = getattr(event, "line", None)
    if line is not None:
        _say("\n".join(f"  {part}" for part in line.splitlines()))


def _say(line: str) -> None:
    print(line, flush=True)


def _workers(text: str) -> tuple[int, int]:
    least, colon, most = text.partition(":")
    numbers = _count(least), _count(most if colon else least)
    if numbers[0] > numbers[1]:
        raise argparse.ArgumentTypeError(f"{text!r}: the first number is the least")
    return numbers


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number of 1 or more")
    return int(text)
