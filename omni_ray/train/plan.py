"""What a run is, fixed when it starts and recorded in every checkpoint; and whether a later launch still means it."""

from collections.abc import Mapping
from typing import Any

import msgspec

from omni_ray.config import StageConfig
from omni_ray.schedule import Launch, Schedule, Shape, lr_factor

# What may differ between a launch and the checkpoint that it goes on from: nothing here decides on a weight.
NEUTRAL = {
    "batch_size",  # the global batch is recorded; this is how it is cut
    "gradient_accumulation_steps",
    "print_freq",
    "val_freq",
    "val_batches",
    "checkpoint_freq",
    "keep_checkpoints",
    "num_workers",
    "save_dir",
    "derived_from",
    "max_epochs",  # the recorded schedule stands
    "use_compile",
    "use_compile_cpu",
    "use_flash",
    "train_text",  # where data lies; what they are has a fingerprint
    "train_csv",
    "train_manifest",
    "image_root",
    "tts_csv",
}


class Plan(msgspec.Struct, frozen=True):
    """A run from its first step to its last. `lr` is the peak, scaled where that was asked for."""

    stage: str
    config: dict[str, Any]
    fingerprints: dict[str, str]
    rows: int
    global_batch: int
    lr: float
    min_lr_ratio: float
    steps_per_epoch: int
    epochs: float
    max_steps: int
    warmup_steps: int
    decay_steps: int
    shape: Shape
    val_freq: int
    checkpoint_freq: int

    def lr_at(self, step: int) -> float:
        """The learning rate of optimizer step `step`, from 0: a closed form."""
        return self.lr * lr_factor(step, self._schedule, self.min_lr_ratio)

    @property
    def _schedule(self) -> Schedule:
        return Schedule(
            self.steps_per_epoch,
            self.epochs,
            self.max_steps,
            self.warmup_steps,
            self.val_freq,
            self.checkpoint_freq,
            self.shape,
            self.decay_steps,
            {},
        )


class Orders(msgspec.Struct, frozen=True):
    """What this launch was asked for beside the plan."""

    root: str  # of the storage that the run's folder is in
    folder: str
    stop_at: int | None = None
    record_ids: bool = False
    epoch: int = 0  # of the lease on the run's folder; 0 where nobody else can be writing there


def make_plan(
    stage: str,
    config: StageConfig,
    launch: Launch,
    rows: int,
    global_batch: int,
    lr: float,
    fingerprints: Mapping[str, str],
) -> Plan:
    schedule = launch.schedule
    return Plan(
        stage=stage,
        config=config.model_dump(mode="json"),
        fingerprints=dict(fingerprints),
        rows=rows,
        global_batch=global_batch,
        lr=lr,
        min_lr_ratio=config.min_lr_ratio,
        steps_per_epoch=schedule.steps_per_epoch,
        epochs=schedule.epochs,
        max_steps=schedule.max_steps,
        warmup_steps=schedule.warmup_steps,
        decay_steps=schedule.decay_steps,
        shape=schedule.shape,
        val_freq=schedule.val_freq,
        checkpoint_freq=schedule.checkpoint_freq,
    )


def resumed(old: Plan, config: StageConfig) -> Plan:
    """The recorded plan under a config that differs in neutral keys only; an interval that was changed counts."""
    intervals = {"val_freq": config.val_freq, "checkpoint_freq": config.checkpoint_freq}
    changed = {key: value for key, value in intervals.items() if old.config.get(key) != value}
    return msgspec.structs.replace(old, config=config.model_dump(mode="json"), **changed)


def differences(old: Plan, config: StageConfig, rows: int, fingerprints: Mapping[str, str]) -> list[str]:
    """What this launch means otherwise than the run that it would go on with: `key: old -> new`, one a line."""
    defaults = {key: field.default for key, field in type(config).model_fields.items() if not field.is_required()}
    before, now = {**defaults, **old.config}, config.model_dump(mode="json")  # a run from before a key had its default
    found = [
        f"config {key}: {before.get(key)} -> {now.get(key)}"
        for key in sorted(before.keys() | now.keys())
        if key not in NEUTRAL and before.get(key) != now.get(key)
    ]
    found += [
        f"{name}: {old.fingerprints.get(name)} -> {fingerprints.get(name)}"
        for name in sorted(old.fingerprints.keys() | fingerprints.keys())
        if old.fingerprints.get(name) != fingerprints.get(name)
    ]
    if old.rows != rows:
        found.append(f"training rows: {old.rows:,} -> {rows:,}")
    return found
