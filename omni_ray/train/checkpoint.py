"""Checkpoints: `step_%08d/` folders that are whole or do not count.

A folder holds the weights and the optimizer as safetensors, `state.json`, `config.json`, and what the stage needs to
use the weights. `COMPLETE` is written last and holds the size and sha256 of every other file; a folder without it does
not exist for anybody. Nothing in it is code: no pickle is ever read.
"""

import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import safetensors.torch
import torch
from torch import Tensor, nn

from omni_ray.errors import DataError, UsageError
from omni_ray.faults import stop_here
from omni_ray.lease import check_current
from omni_ray.storage import Slice, Storage, open_storage
from omni_ray.train.plan import Orders, Plan

COMPLETE = "COMPLETE"
MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "state.json"
CONFIG = "config.json"
VERSION = 1
_NAME = re.compile(r"step_(\d{8,})")


class State(msgspec.Struct, frozen=True):
    """Where a run is. `cursor` counts the positions of the training stream that are done."""

    step: int
    cursor: int
    seed: int  # random numbers of step s on rank r are a function of (seed, s, r)
    skipped: int  # steps so far whose loss or gradient was not finite
    world_size: int  # that wrote this; any other may go on
    plan: Plan
    version: int = VERSION


class FileFacts(msgspec.Struct, frozen=True):
    size: int
    sha256: str


def open_held(orders: Orders) -> Storage:
    """The storage of a run that holds its folder: after another run took it over, every change raises LeaseLost."""
    held = open_storage(f"{orders.root}/{orders.folder}")
    return open_storage(orders.root).fenced(lambda: check_current(held, orders.epoch))


class Snapshot(NamedTuple):
    """A checkpoint in memory, which training does not change any more."""

    state: State
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    files: Mapping[str, bytes]


def take_snapshot(
    state: State, model: nn.Module, optimizer: torch.optim.Optimizer, files: Mapping[str, bytes]
) -> Snapshot:
    """Copy everything to the CPU; the one part of writing a checkpoint that training waits for."""
    names = _names(model, optimizer)
    moments = {
        f"{names[number]}.{key}": _copy(value)
        for number, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }
    return Snapshot(state, {name: _copy(value) for name, value in model.state_dict().items()}, moments, files)


class Writer:
    """Writes snapshots in the background, one at a time; keeps the newest `keep`."""

    def __init__(self, storage: Storage, folder: str, keep: int) -> None:
        self._storage, self._folder, self._keep = storage, folder, keep
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def write(self, snapshot: Snapshot, done: Callable[[], None] = lambda: None) -> None:
        """Begin to write; waits for the one before. An error of that one is raised here."""
        self.wait()
        self._thread = threading.Thread(target=self._write, args=(snapshot, done), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Until nothing is being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write(self, snapshot: Snapshot, done: Callable[[], None]) -> None:
        try:
            write_snapshot(self._storage, self._folder, snapshot)
            for step in sorted(complete_steps(self._storage, self._folder))[: -self._keep]:
                _forget(self._storage, self._folder, step)
            done()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that trains
            self._error = error


def write_snapshot(storage: Storage, folder: str, snapshot: Snapshot) -> None:
    """Write a checkpoint; it exists once the last file is there."""
    place = step_folder(folder, snapshot.state.step)
    config = msgspec.json.format(msgspec.json.encode(snapshot.state.plan.config))
    facts: dict[str, FileFacts] = {}

    def put(name: str, data: bytes) -> None:
        storage.put(f"{place}/{name}", data)
        facts[name] = FileFacts(len(data), hashlib.sha256(data).hexdigest())

    put(MODEL, safetensors.torch.save(snapshot.model))
    put(OPTIMIZER, safetensors.torch.save(snapshot.optimizer))
    put(STATE, msgspec.json.encode(snapshot.state))
    put(CONFIG, config)
    for name, data in snapshot.files.items():
        put(name, data)
    stop_here("checkpointing")
    storage.put(f"{place}/{COMPLETE}", msgspec.json.encode(facts))


def step_folder(folder: str, step: int) -> str:
    return f"{folder}/step_{step:08d}".removeprefix("/")


def complete_steps(storage: Storage, folder: str) -> set[int]:
    """The steps of the checkpoints that are whole."""
    found = set()
    for stat in storage.list(folder):
        *_, place, name = ("", *stat.key.split("/"))
        match = _NAME.fullmatch(place)
        if name == COMPLETE and match:
            found.add(int(match[1]))
    return found


def newest(storage: Storage, folder: str) -> int | None:
    """The step of the newest whole checkpoint."""
    return max(complete_steps(storage, folder), default=None)


def remove_incomplete(storage: Storage, folder: str) -> None:
    """Remove what killed runs left half written."""
    whole = complete_steps(storage, folder)
    there = {match[1] for stat in storage.list(folder) if (match := _NAME.search(stat.key)) is not None}
    for name in there:
        if int(name) not in whole:
            storage.delete_tree(f"{folder}/step_{name}")
    storage.sweep(folder)


def move_aside(storage: Storage, folder: str) -> str:
    """Move a run to `<folder>-old-<n>`, so that another can begin; the new place. A kill on the way loses nothing."""
    number = 1
    while next(iter(storage.list(f"{folder}-old-{number}")), None) is not None:
        number += 1
    target = f"{folder}-old-{number}"
    keys = [stat.key for stat in storage.list(folder)]
    for key in sorted(keys, key=lambda key: key.endswith(COMPLETE)):  # marks last
        writer = storage.writer(f"{target}{key.removeprefix(folder)}")
        try:
            stat = storage.stat(key)
            writer.append_slice(Slice(key, 0, 0 if stat is None else stat.size))
            writer.commit()
        finally:
            writer.abort()
    for key in sorted(keys, key=lambda key: not key.endswith(COMPLETE)):  # marks first
        storage.delete(key)
    return target


class Checkpoint:
    """A whole checkpoint, read and checked file by file."""

    def __init__(self, storage: Storage, folder: str, step: int) -> None:
        self._storage, self.place = storage, step_folder(folder, step)
        self._facts = msgspec.json.decode(storage.read(f"{self.place}/{COMPLETE}"), type=dict[str, FileFacts])

    def read(self, name: str) -> bytes:
        """
        Raises:
            DataError: where the file is not there or not what was written.
        """
        facts = self._facts.get(name)
        if facts is None:
            raise DataError(f"{self._storage.uri}/{self.place}: has no {name}; was it made by another stage?")
        data = self._storage.read(f"{self.place}/{name}")
        if (len(data), hashlib.sha256(data).hexdigest()) != (facts.size, facts.sha256):
            raise DataError(
                f"{self._storage.uri}/{self.place}/{name}: is not what was written (its sha256 differs); delete that "
                "folder, and the checkpoint before it is taken"
            )
        return data

    @property
    def state(self) -> State:
        return msgspec.json.decode(self.read(STATE), type=State)

    @property
    def config(self) -> dict[str, Any]:
        return msgspec.json.decode(self.read(CONFIG), type=dict[str, Any])

    def load_model(self, model: nn.Module) -> None:
        """Raises: RuntimeError where names or shapes are not the model's."""
        model.load_state_dict(safetensors.torch.load(self.read(MODEL)), strict=True)

    def load_optimizer(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        saved = safetensors.torch.load(self.read(OPTIMIZER))
        states: dict[int, dict[str, Tensor]] = {}
        numbers = {name: number for number, name in _names(model, optimizer).items()}
        for key, value in saved.items():
            name, _, moment = key.rpartition(".")
            states.setdefault(numbers[name], {})[moment] = value
        optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def open_checkpoint(uri: str) -> Checkpoint:
    """The checkpoint at `uri`: one step's folder, or the newest of a run.

    Raises:
        UsageError: where there is none.
    """
    above, _, name = uri.rstrip("/").rpartition("/")
    match = _NAME.fullmatch(name)
    if match is not None:
        storage = open_storage(above or ".")
        if storage.exists(f"{name}/{COMPLETE}"):
            return Checkpoint(storage, "", int(match[1]))
    else:
        storage = open_storage(uri)
        step = newest(storage, "")
        if step is not None:
            return Checkpoint(storage, "", step)
    raise UsageError(f"{uri}: no whole checkpoint here; give a run's folder (its save_dir) or one of its step_ folders")


def _names(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[int, str]:
    """The names of parameters by their number in the optimizer's state."""
    by_identity = {id(parameter): name for name, parameter in model.named_parameters()}
    order = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {number: by_identity[id(parameter)] for number, parameter in enumerate(order)}


def _copy(value: Tensor) -> Tensor:
    return value.detach().to("cpu", copy=True).contiguous()


def _forget(storage: Storage, folder: str, step: int) -> None:
    """Delete a checkpoint, its mark first, so that no part of it is ever taken for the whole."""
    storage.delete(f"{step_folder(folder, step)}/{COMPLETE}")
    storage.delete_tree(step_folder(folder, step))
