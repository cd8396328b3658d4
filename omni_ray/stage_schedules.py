"""What the data on disk, or any number of samples, give for the stage configs: shared by `update_configs` and
`schedule_cli`.
"""

import argparse
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from omni_ray import config, datafiles, json_text
from omni_ray.config import STAGES, StageConfig
from omni_ray.datafiles import KINDS, Found
from omni_ray.errors import ConfigError, UsageError
from omni_ray.jobs import resolve_out
from omni_ray.schedule import Policy, Schedule, Table, by_hand, derive
from omni_ray.storage import LocalStorage, open_storage

# The kinds of data that a stage trains on, by the key of its config that names the file.
DATA_KEYS: dict[str, dict[json_text.KeyPath, str]] = {
    "text": {("train_text",): "text"},
    "audio": {("train_csv",): "audio"},
    "vision": {("train_manifest",): "image"},
    "talker": {("tts_csv",): "speech"},
    "sft": {("sft_mix", "text_path"): "text", ("sft_mix", "image_manifest"): "image", ("sft_mix", "asr_csv"): "audio"},
}


def heading(stage: str) -> str:
    """How a stage is called."""
    letter, title, file, _ = STAGES[stage]
    return f"[Stage {letter}] {title} ({file})"


@dataclass(frozen=True)
class Current:
    """A config as it is: its text, and what it says."""

    path: Path
    text: str
    config: StageConfig


@dataclass(frozen=True)
class Derived:
    """What the data give for a stage. `schedule` respects what was set by hand, `alone` is the data's word."""

    samples: int
    world_size: int
    schedule: Schedule
    alone: Schedule
    hand: frozenset[str]


def read_configs(folder: Path, pending: Mapping[str, str]) -> dict[str, Current]:
    """The stage configs of a folder, by stage; a stage whose file is not there is left out.

    `pending` holds texts that an interrupted update has still to write.

    Raises:
        ConfigError: naming all that is wrong in all of them, or that there is none.
    """
    storage = LocalStorage(folder)
    found: dict[str, Current] = {}
    wrong: list[str] = []
    for name, stage in STAGES.items():
        path = folder / stage.file
        if not storage.exists(stage.file):
            continue
        try:
            text = pending.get(stage.file) or json_text.decode(storage.read(stage.file), str(path))
            found[name] = Current(path, text, config.parse(text, stage.config, str(path)))
        except ConfigError as error:
            wrong.append(str(error))
    if wrong:
        raise ConfigError("\n".join(wrong))
    if not found:
        files = ", ".join(stage.file for stage in STAGES.values())
        raise ConfigError(f"{folder}: holds none of {files}; name the folder that does with --configs-dir")
    return found


def derive_stage(current: Current, samples: int, world_size: int, policy: Policy | None = None) -> Derived:
    """What so many samples give for a stage, by the table policy unless another is given.

    Raises:
        ConfigError: where a figure set by hand does not go with them.
    """
    cfg = current.config
    batch, accumulation = cfg.batch_size, cfg.gradient_accumulation_steps
    policy = policy or Table(cfg.lr_schedule, cfg.decay_fraction)
    hand = by_hand(cfg.figures, cfg.recorded)
    alone = derive(samples, batch, accumulation, world_size, policy)
    stands = {key: value for key, value in cfg.figures.items() if key in hand}
    try:
        schedule = derive(samples, batch, accumulation, world_size, policy, stands)
    except UsageError as error:
        raise ConfigError(f"{current.path}: {error}") from error
    return Derived(samples, world_size, schedule, alone, hand)


class Counted(NamedTuple):
    """A stage and its data: `found` by kind; the largest of them is what the stage counts."""

    stage: str
    found: dict[str, Found | None]

    @property
    def samples(self) -> int:
        """0 where one of the kinds is missing."""
        return 0 if self.missing else max(there.samples for there in self.found.values() if there)

    @property
    def missing(self) -> str:
        """The kinds that are not there, in words."""
        return " and ".join(f"no {kind} data" for kind, there in self.found.items() if there is None)


def analyse(data_dir: str, stages: Collection[str] = tuple(STAGES)) -> Iterator[Counted]:
    """Count the data of the stages, one after the other, saying what is found.

    Raises:
        DataError: where a file is not what it should be.
    """
    storage = open_storage(resolve_out(data_dir))
    known: dict[str, Found | None] = {}
    for stage in STAGES:
        if stage not in stages:
            continue
        kinds = DATA_KEYS[stage].values()
        for kind in (kind for kind in kinds if kind not in known):
            title, keys, _ = KINDS[kind]
            print(f"[{len(known) + 1}] Analyzing {title} Dataset...", flush=True)
            there = known[kind] = datafiles.find(storage, KINDS[kind], data_dir)
            if there is None:
                print(f"  No {kind} data: neither {' nor '.join(datafiles.join(data_dir, key) for key in keys)}\n")
            else:
                print(f"  {title} samples: {there.samples:,} (from {there.path})\n")
        yield Counted(stage, {kind: known[kind] for kind in kinds})


def count(text: str) -> int:
    """A command line's whole number of 1 or more."""
    if not text.isdecimal() or not 1 <= int(text[:20]) <= config.MOST:
        raise argparse.ArgumentTypeError(f"{text[:80]!r}: give a whole number of 1 to {config.MOST:,}")
    return int(text)


def _folder(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("give a folder")
    return text


def add_places(parser: argparse.ArgumentParser) -> None:
    """The options that say where data and configs are, and how many workers train."""
    parser.add_argument(
        "--data-dir", type=_folder, default="data", metavar="DIR", help="where the data are (default: data)"
    )
    parser.add_argument(
        "--configs-dir", type=_folder, default="configs", metavar="DIR", help="the stage configs (default: configs)"
    )
    parser.add_argument(
        "--world-size", type=count, default=1, metavar="N", help="workers that will train together (default: 1)"
    )
