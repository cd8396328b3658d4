"""Several ranks on this machine over gloo, without Ray; and one that may be killed.

Processes are forked from a server that has torch imported and has used no threads.
"""

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist

from omni_ray import faults
from omni_ray.train.team import Team

PATIENCE = 120.0

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["torch", "omni_ray.train.loop", "omni_ray.train.stages.text"])


def run_ranks(function: Callable[..., Any], size: int, *arguments: Any, stop: str | None = None) -> list[Any]:
    """`function(team, *arguments)` on `size` ranks; what each returns, or None where it was killed at `stop`."""
    with tempfile.TemporaryDirectory() as folder:
        started = []
        for rank in range(size):
            mine, theirs = _context.Pipe(duplex=False)
            target = (theirs, f"file://{folder}/rendezvous", rank, size, stop, function, arguments)
            process = _context.Process(target=_rank, args=target)
            process.start()
            theirs.close()
            started.append((process, mine))
        results = [_result(connection) for _, connection in started]
        for process, _ in started:
            process.join(PATIENCE)
            assert process.exitcode is not None, "a rank neither ended nor was killed"
            killed = process.exitcode == -9
            assert killed if stop else process.exitcode == 0, f"a rank ended with {process.exitcode}"
        return results


def _result(connection: Connection) -> Any:
    try:
        assert connection.poll(PATIENCE), "a rank neither ended nor was killed"
        return connection.recv()
    except EOFError:  # it died
        return None


def _rank(
    connection: Connection, url: str, rank: int, size: int, stop: str | None,
    function: Callable[..., Any], arguments: tuple[Any, ...],
) -> None:  # fmt: skip
    os.setsid()  # a stop kills a process group: this one
    torch.set_num_threads(1)
    if stop:
        os.environ["OMNI_RAY_STOP"] = stop
        faults.arm()
    if size > 1:
        dist.init_process_group("gloo", init_method=url, rank=rank, world_size=size)
    team = Team.joined(torch.device("cpu")) if size > 1 else Team.alone()
    connection.send(function(team, *arguments))
    if size > 1:
        dist.destroy_process_group()
