"""From a command to a run: the config as it counts, where everything lies, and a new plan or the recorded one."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni_ray import config as configs
from omni_ray.config import STAGES, StageConfig
from omni_ray.errors import ConfigError, FingerprintMismatch, UsageError
from omni_ray.jobs import resolve_out
from omni_ray.schedule import LrScaling, rederive, scale_lr
from omni_ray.storage import Storage
from omni_ray.train import checkpoint
from omni_ray.train.metrics import CURVE
from omni_ray.train.plan import Plan, differences, make_plan, resumed
from omni_ray.train.registry import room
from omni_ray.train.task import Task

DATA_KEYS = ("train_text", "train_csv", "train_manifest", "image_root", "tts_csv")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Changes:
    """What a command line changes in a config."""

    data: str | None = None
    sets: Sequence[str] = ()
    max_steps: int | None = None
    smoke: bool = False


def read_config(stage: str, path: Path, changes: Changes) -> StageConfig:
    """The config of a stage as it counts for this launch.

    Raises:
        ConfigError: naming file or flag, key, value and what is allowed.
    """
    model = STAGES[stage].config
    found = configs.load(path, model).model_dump(mode="json")
    if changes.smoke:
        found |= room(stage).SMOKE
        found["save_dir"] = f"{found['save_dir']}-smoke"
    for one in changes.sets:
        _set(found, one)
    if changes.max_steps is not None:
        _set_max_steps(found, changes.max_steps)
    for key in DATA_KEYS:
        if key in found:
            found[key] = resolve_out(_in_data(found[key], changes.data))
    return configs.validate(found, model, f"{path} with what the command line sets" if changes.sets else str(path))


def local_files(config: StageConfig) -> list[str]:
    """The data that a config names, where it lies on this machine."""
    paths = (Path(getattr(config, key)) for key in DATA_KEYS if hasattr(config, key))
    return [str(path.absolute()) for path in paths if path.exists()]


def place(config: StageConfig, storage: str | None) -> tuple[str, str]:
    """The storage that a run is in, and its folder there. Relative places lie below OMNI_RAY_HOME in a job."""
    above, _, folder = config.save_dir.rstrip("/").rpartition("/")
    if storage is None:
        return resolve_out(above or "."), folder
    if Path(config.save_dir).is_absolute():
        raise UsageError(
            f"--storage {storage}: save_dir = {config.save_dir} is absolute; make it relative to the storage"
        )
    return resolve_out(f"{storage.rstrip('/')}/{above}".rstrip("/")), folder


@dataclass(frozen=True)
class Scale:
    """What a new run is derived for."""

    world_size: int
    scale_lr: LrScaling


def settle(
    stage: str, config: StageConfig, task: Task, storage: Storage, folder: str, scale: Scale, say: Say
) -> Plan | None:
    """The plan to train by: that of the newest checkpoint, or a new one; None where the run is finished.

    Raises:
        FingerprintMismatch: with the differences, where data or config are not those of the run that is there.
    """
    step = checkpoint.newest(storage, folder)
    if step is None:
        return _begin(stage, config, task, scale, say)
    old = checkpoint.Checkpoint(storage, folder, step).state.plan
    found = differences(old, config, task.rows, task.fingerprints)
    if found:
        raise FingerprintMismatch(
            f"{storage.uri}/{folder}: this run was begun otherwise:\n  " + "\n  ".join(found) + "\n"
            "take back the difference to go on with it, or begin again with --fresh (the old run is moved aside)"
        )
    if step >= old.max_steps and storage.exists(f"{folder}/{CURVE}"):
        say(f"  finished: {storage.uri}/{folder} is at step {step:,} of {old.max_steps:,}")
        return None
    say(f"  going on from step {step:,} of {old.max_steps:,}, global batch {old.global_batch:,}")
    return resumed(old, config)


def _begin(stage: str, config: StageConfig, task: Task, scale: Scale, say: Say) -> Plan:
    shape = (config.batch_size, config.gradient_accumulation_steps, scale.world_size)
    launch = rederive(
        config.figures,
        config.recorded,
        task.rows,
        *shape,
        shape=config.lr_schedule,
        decay_fraction=config.decay_fraction,
    )
    lr, words = scale_lr(config.lr, scale.scale_lr, *shape)
    say(f"  {launch.line}")
    say(f"  {words}")
    if not task.validation_rows:
        say(f"  no rows are held out (val_split {config.val_split:g}): there will be no validation")
    return make_plan(stage, config, launch, task.rows, shape[0] * shape[1] * shape[2], lr, task.fingerprints)


def _set(found: dict[str, Any], one: str) -> None:
    """`key=value`, the value as JSON or else as text; `a.b=value` reaches into a section."""
    path, equals, text = one.partition("=")
    if not equals or not path:
        raise UsageError(f"--set {one}: give key=value")
    *sections, key = path.split(".")
    where: Any = found
    for section in sections:
        where = where.get(section) if isinstance(where, dict) else None
    if not isinstance(where, dict):
        raise ConfigError(f"--set {one}: there is no section {'.'.join(sections)}")
    try:
        where[key] = json.loads(text)
    except json.JSONDecodeError:
        where[key] = text


def _set_max_steps(found: dict[str, Any], max_steps: int) -> None:
    """The horizon by hand; the other figures keep their proportions to it where they were derived."""
    found["max_steps"] = max_steps
    record = found.get("derived_from")
    if record is None:
        found["warmup_steps"] = min(found["warmup_steps"], max_steps)
    else:
        found["derived_from"] = {**record, "by_hand": sorted({*record["by_hand"], "max_steps"})}


def _in_data(path: str, data: str | None) -> str:
    """A config's data path with the folder `data` replaced."""
    if data is None:
        return path
    if path != "data" and not path.startswith("data/"):
        raise UsageError(f"--data {data}: {path} does not lie in data/; name it with --set instead")
    return data.rstrip("/") + path.removeprefix("data")
