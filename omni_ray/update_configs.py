"""Deriving the five figures of every stage config from the data on disk, and writing them back.

All configs change together or none does (`journal`); key order, formatting and every other key stay.
"""

import argparse
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from omni_ray import config, faults, journal, json_text
from omni_ray.config import STAGES
from omni_ray.datafiles import Found
from omni_ray.entry import guarded
from omni_ray.schedule import Figure
from omni_ray.stage_schedules import (
    DATA_KEYS,
    Current,
    Derived,
    add_places,
    analyse,
    derive_stage,
    heading,
    read_configs,
)

LABELS = {  # of the figures; the last two only where they were set by hand
    "max_epochs": "Recommended epochs",
    "max_steps": "Max steps",
    "warmup_steps": "Warmup steps",
    "val_freq": "Validation every",
    "checkpoint_freq": "Checkpoint every",
}
DIFF_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


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
