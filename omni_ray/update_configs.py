"""Deriving the five figures of every stage config from the data on disk, and writing them back.

All configs change together or none does (`journal`); key order, formatting and every other key stay.
"""

import argparse
import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from omni_ray import config, datafiles, faults, journal, json_text
from omni_ray.config import STAGES, StageConfig
from omni_ray.datafiles import KINDS, Found
from omni_ray.entry import guarded
from omni_ray.errors import ConfigError, UsageError
from omni_ray.runtime import resolve_out
from omni_ray.schedule import Figure, Policy, Schedule, Table, by_hand, derive
from omni_ray.storage import LocalStorage, open_storage

# The kinds of data that a stage trains on, by the key of its config that names the file.
DATA_KEYS: dict[str, dict[json_text.KeyPath, str]] = {
    "text": {("train_text",): "text"},
    "audio": {("train_csv",): "audio"},
    "vision": {("train_manifest",): "image"},
    "talker": {("tts_csv",): "speech"},
    "sft": {("sft_mix", "text_path"): "text", ("sft_mix", "image_manifest"): "image", ("sft_mix", "asr_csv"): "audio"},
}
LABELS = {  # of the figures; the last two only where they were set by hand
    "max_epochs": "Recommended epochs",
    "max_steps": "Max steps",
    "warmup_steps": "Warmup steps",
    "val_freq": "Validation every",
    "checkpoint_freq": "Checkpoint every",
}
DIFF_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


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


def new_text(stage: str, current: Current, derived: Derived, found: Mapping[str, Found | None]) -> str:
    """The config's text with the derived figures, the data paths and the record.

    Raises:
        ConfigError: where the result would not be a valid config.
    """
    changes: dict[json_text.KeyPath, object] = {}
    for path, kind in DATA_KEYS[stage].items():
        if there := found[kind]:
            changes[path] = there.path
            if kind == "image":
                changes[*path[:-1], "image_root"] = there.path.rpartition("/")[0]
    figures = derived.schedule.figures()
    changes |= {(key,): value for key, value in figures.items()}  # those set by hand are as they were
    record: dict[str, object] = {
        "policy": "table",
        "samples": derived.samples,
        "batch_size": current.config.batch_size,
        "gradient_accumulation_steps": current.config.gradient_accumulation_steps,
        "world_size": derived.world_size,
    }
    if derived.hand:
        record["by_hand"] = [key for key in figures if key in derived.hand]
    changes["derived_from",] = record | {"values": figures}
    text = json_text.edit(current.text, changes)
    config.parse(text, STAGES[stage].config, str(current.path))
    return text


def heading(stage: str) -> str:
    """How a stage is called."""
    letter, title, file, _ = STAGES[stage]
    return f"[Stage {letter}] {title} ({file})"


def block(stage: str, derived: Derived) -> Iterator[str]:
    """The lines that are printed of a stage."""
    yield heading(stage)
    yield f"  Samples: {derived.samples:,}"
    yield f"  Steps/epoch: {derived.schedule.steps_per_epoch:,}"
    alone = derived.alone.figures()
    for key, label in LABELS.items():
        value: Figure = derived.schedule.figures()[key]
        if key in derived.hand:
            yield f"  {label}: {value:,} (set by hand; the data give {alone[key]:,})"
        elif key not in ("val_freq", "checkpoint_freq"):
            yield f"  {label}: {value:,}"


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


def update(data_dir: str, configs_dir: str, world_size: int, dry_run: bool) -> None:
    """Derive every stage's figures from the data and write them, all or none; only show them with `dry_run`.

    Raises:
        ConfigError: where a config is wrong; DataError: where a data file is. Nothing is written then.
        Refused: where a config changed meanwhile.
    """
    folder = Path(configs_dir)
    pending = journal.pending(folder) if dry_run else {}
    if not dry_run and (finished := journal.finish(folder)):
        print(f"Finished an interrupted update of {', '.join(finished)}\n")
    current = read_configs(folder, pending)
    texts: dict[str, str] = {}
    hand = False
    for counted in analyse(data_dir):
        there = current.get(counted.stage)
        if there is None or counted.missing:
            why = counted.missing if there else f"no such file in {configs_dir}"
            print(f"{heading(counted.stage)}\n  Left alone: {why}\n")
            continue
        derived = derive_stage(there, counted.samples, world_size)
        print("\n".join(block(counted.stage, derived)) + "\n")
        hand |= bool(derived.hand)
        texts[there.path.name] = new_text(counted.stage, there, derived, counted.found)
    if hand:
        print("What was set by hand stands; to let the data decide, take its name out of derived_from.by_hand.")
    old = {there.path.name: there.text for there in current.values()}
    changed = {name: text for name, text in texts.items() if text != old[name]}
    if not texts:
        print(f"Nothing to change: {data_dir} holds no data for these configs; name another folder with --data-dir.")
    elif not changed:
        print("Nothing to change.")
    elif dry_run:
        show_difference(folder, old, changed)
        print(f"Dry run: nothing written; {_files(changed)} would change.")
    else:
        journal.write_together(folder, changed, {name: old[name] for name in changed})
        print(f"Updated {_files(changed)} in {folder}: {', '.join(changed)}")


def _files(changed: Mapping[str, str]) -> str:
    return "1 config" if len(changed) == 1 else f"{len(changed)} configs"


def show_difference(folder: Path, old: Mapping[str, str], new: Mapping[str, str]) -> None:
    """A unified difference, in colours on a terminal."""
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    for name, text in new.items():
        path = str(folder / name)
        before, after = old[name].splitlines(), text.splitlines()
        for line in difflib.unified_diff(before, after, path, f"{path} (new)", n=1, lineterm=""):
            bold = "bold" if line.startswith(("---", "+++")) else ""
            console.print(line, style=bold or DIFF_COLOURS.get(line[:1], ""))
        console.print()


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


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Derive steps, epochs, warmup and intervals of every stage from the data on disk, and write them "
        "with the data paths into the stage configs. Values that you set by hand stay."
    )
    add_places(parser)
    parser.add_argument("--dry-run", action="store_true", help="show it all with the difference; write nothing")
    arguments = parser.parse_args(argv)
    faults.arm()

    def act() -> int:
        update(arguments.data_dir, arguments.configs_dir, arguments.world_size, arguments.dry_run)
        return 0

    return guarded(act)
