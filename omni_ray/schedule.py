"""Schedules: from samples, batch and world size to steps, warmup and intervals. Pure; the script, the trainer and the
sweeps use the same functions.

Steps are optimizer steps throughout. Proportions are computed in exact integer arithmetic, so that a figure never
depends on rounding of a float.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Literal, Protocol

from omni_ray.errors import Refused, UsageError

Shape = Literal["cosine", "wsd"]
LrScaling = Literal["none", "sqrt", "linear"]
FIGURES = ("max_steps", "max_epochs", "warmup_steps", "val_freq", "checkpoint_freq")  # as the configs name them

# Least samples, epochs, and the range that they were chosen from.
EPOCHS_BY_SAMPLES = (
    (1_000_000, 2, "1-3"),
    (500_000, 3, "2-4"),
    (100_000, 4, "3-6"),
    (50_000, 7, "5-10"),
    (0, 15, "10-20"),
)
MOST_USEFUL_EPOCHS = 4  # up to here repeated tokens are worth about as much as new ones: arXiv 2305.16264
MOST_EPOCHS = 16  # beyond, repeating adds next to nothing: the same
DECAY_FRACTION = 0.2
BY_HAND = "set by hand"
WHY_VAL = "ten times an epoch, in 100 to 1,000 steps, at most max_steps"
WHY_CHECKPOINT = "once an epoch, in 1,000 to 10,000 steps, at most max_steps"

Figure = int | float
Reasoned = tuple[Figure, str]  # a figure and the sentence that says why


class Policy(Protocol):
    """How epochs and warmup are chosen; everything else follows from them."""

    @property
    def shape(self) -> Shape: ...

    @property
    def decay_fraction(self) -> float: ...

    def epochs(self, samples: int) -> Reasoned: ...

    def warmup(self, max_steps: int) -> Reasoned: ...


@dataclass(frozen=True)
class Table:
    """Epochs by the number of samples and 5 % warmup: what users of the original know."""

    shape: Shape = "cosine"
    decay_fraction: float = DECAY_FRACTION

    def epochs(self, samples: int) -> Reasoned:
        least, epochs, span = next(row for row in EPOCHS_BY_SAMPLES if samples >= row[0])
        bound = f"from {least:,} samples on" if least else f"below {EPOCHS_BY_SAMPLES[-2][0]:,} samples"
        return epochs, f"{bound}, {span} epochs are usual"

    def warmup(self, max_steps: int) -> Reasoned:
        return max(1, max_steps // 20), f"5 % of {max_steps:,} steps, at least 1"


@dataclass(frozen=True)
class Tokens:
    """Epochs by how many tokens a model of this size is worth training on, 2 % warmup, WSD decay.

    `unique_tokens` is what the data hold, `parameters` what the model has, `ratio` the tokens per parameter.
    """

    unique_tokens: int
    parameters: int
    ratio: int = 20  # arXiv 2203.15556
    allow_repetition: bool = False
    shape: Shape = "wsd"
    decay_fraction: float = DECAY_FRACTION

    def __post_init__(self) -> None:
        _positive(unique_tokens=self.unique_tokens, parameters=self.parameters)
        if not 12 <= self.ratio <= 20:
            raise UsageError(f"ratio = {self.ratio}: tokens per parameter lie in 12 to 20")

    def epochs(self, samples: int) -> Reasoned:
        wanted = self.ratio * self.parameters
        passes = Fraction(wanted, self.unique_tokens)
        need = (
            f"{self.ratio} tokens for each of {self.parameters:,} parameters are {wanted:,} tokens, "
            f"{float(passes):,.2f} times the {self.unique_tokens:,} unique ones"
        )
        if passes > MOST_EPOCHS and not self.allow_repetition:
            raise Refused(
                f"{need}; more than {MOST_EPOCHS} repetitions teach next to nothing (arXiv 2305.16264): "
                "add data, take a smaller model, or allow it with --allow-repetition"
            )
        if passes > MOST_USEFUL_EPOCHS:
            return MOST_USEFUL_EPOCHS, f"{need}; {MOST_USEFUL_EPOCHS} epochs are the most that repay (arXiv 2305.16264)"
        if passes < 1:
            return 1, f"{need}; each is seen once"
        rounded = math.ceil(passes * 100) / 100  # in hundredths, upwards, so that no token of the wanted is left out
        return int(rounded) if rounded == int(rounded) else rounded, need

    def warmup(self, max_steps: int) -> Reasoned:
        steps = min(max(20, max_steps // 50), 2_000, max_steps)
        return steps, f"2 % of {max_steps:,} steps, in 20 to 2,000, at most all of them"


TABLE = Table()


@dataclass(frozen=True)
class Schedule:
    """A run's length in optimizer steps. `why` holds one sentence for each of the other figures, by its name."""

    steps_per_epoch: int
    epochs: Figure
    max_steps: int
    warmup_steps: int
    val_freq: int
    checkpoint_freq: int
    shape: Shape
    decay_steps: int
    why: Mapping[str, str]

    def figures(self) -> dict[str, Figure]:
        """The five values that a config holds, under its keys."""
        return {
            "max_steps": self.max_steps,
            "max_epochs": self.epochs,
            "warmup_steps": self.warmup_steps,
            "val_freq": self.val_freq,
            "checkpoint_freq": self.checkpoint_freq,
        }


def derive(
    samples: int,
    batch_size: int,
    grad_accum: int,
    world_size: int,
    policy: Policy = TABLE,
    stands: Mapping[str, Figure] = MappingProxyType({}),
) -> Schedule:
    """The schedule for so many samples. Figures in `stands`, under the configs' keys, were set by hand and stay; the
    others follow them.

    Raises:
        UsageError: where a figure is not positive, or a warmup set by hand is longer than the run.
        Refused: where the tokens policy would repeat the data more than 16 times.
    """
    _positive(samples=samples, batch_size=batch_size, grad_accum=grad_accum, world_size=world_size)
    per_epoch, why_per_epoch = _steps_per_epoch(samples, batch_size, grad_accum, world_size)
    why = {"steps_per_epoch": why_per_epoch}

    def figure(key: str, derived: Callable[[], Reasoned]) -> Figure:
        value, why[key.replace("max_epochs", "epochs")] = (stands[key], BY_HAND) if key in stands else derived()
        return value

    epochs = figure("max_epochs", lambda: policy.epochs(samples))
    max_steps = int(
        figure("max_steps", lambda: (_times(per_epoch, epochs), f"{per_epoch:,} steps/epoch x {epochs:,} epochs"))
    )
    warmup = int(figure("warmup_steps", lambda: policy.warmup(max_steps)))
    if warmup > max_steps:
        raise UsageError(
            f"warmup_steps = {warmup:,}: longer than the run; allowed is at most max_steps = {max_steps:,}"
        )
    val = figure("val_freq", lambda: (min(max(per_epoch // 10, 100), 1_000, max_steps), WHY_VAL))
    checkpoint = figure("checkpoint_freq", lambda: (min(max(per_epoch, 1_000), 10_000, max_steps), WHY_CHECKPOINT))
    decay, why["decay_steps"] = _decay(policy, max_steps, warmup)
    frozen = MappingProxyType(why)
    return Schedule(per_epoch, epochs, max_steps, warmup, int(val), int(checkpoint), policy.shape, decay, frozen)


@dataclass(frozen=True)
class Record:
    """What a config's figures were when they were written, and which of them stood as set by hand already."""

    values: Mapping[str, Figure]
    by_hand: frozenset[str] = frozenset()


def by_hand(current: Mapping[str, Figure], record: Record | None) -> frozenset[str]:
    """The figures that somebody set, before or after the others were derived; all five where nothing was recorded."""
    if record is None:
        return frozenset(FIGURES)
    return record.by_hand | {key for key in FIGURES if current[key] != record.values[key]}


@dataclass(frozen=True)
class Launch:
    """What a run starts with: the schedule, the keys that stand as set by hand, and old and new in one line."""

    schedule: Schedule
    by_hand: frozenset[str]
    line: str


@dataclass(frozen=True)
class _AsRecorded:
    """The epochs of a config, and the warmup that it recorded, as a share of all steps."""

    max_epochs: Figure
    record: Mapping[str, Figure]
    shape: Shape
    decay_fraction: float

    def epochs(self, samples: int) -> Reasoned:
        return self.max_epochs, "the config's"

    def warmup(self, max_steps: int) -> Reasoned:
        share = Fraction(int(self.record["warmup_steps"]), int(self.record["max_steps"]))
        steps = min(_times(max_steps, share), max_steps) if share else 0
        return steps, f"{100 * float(share):.3g} % of {max_steps:,} steps, as recorded"


def rederive(
    current: Mapping[str, Figure],
    record: Record | None,
    rows: int,
    batch_size: int,
    grad_accum: int,
    world_size: int,
    shape: Shape = "cosine",
    decay_fraction: float = DECAY_FRACTION,
) -> Launch:
    """Derive once more at launch, from the rows that are trained at the world size that runs.

    `current` holds the five figures of the config. Those set by hand stand. Epochs are the config's; the warmup keeps
    its recorded share of all steps, and `decay_fraction` is a share already.

    Raises:
        UsageError: as `derive`.
    """
    hand = by_hand(current, record)
    policy = _AsRecorded(current["max_epochs"], {} if record is None else record.values, shape, decay_fraction)
    schedule = derive(rows, batch_size, grad_accum, world_size, policy, {key: current[key] for key in hand})
    return Launch(schedule, hand, _line(current, schedule, hand, rows, batch_size * grad_accum * world_size))


def scale_lr(lr: float, how: LrScaling, batch_size: int, grad_accum: int, world_size: int) -> tuple[float, str]:
    """The peak learning rate, and the words that say what was done.

    A config's `lr` is meant for its own `batch_size` x `gradient_accumulation_steps` on one worker.
    """
    _positive(batch_size=batch_size, grad_accum=grad_accum, world_size=world_size)
    batch = f"global batch {batch_size * grad_accum * world_size:,}"
    if how == "none":
        return lr, f"lr {lr:g}, not scaled with the {batch} (--scale-lr sqrt|linear does)"
    factor = float(world_size) if how == "linear" else math.sqrt(world_size)
    return lr * factor, f"lr {lr:g} -> {lr * factor:g}, scaled by the {how} rule x{factor:g} to the {batch}"


def lr_factor(step: int, schedule: Schedule, floor: float = 0.0) -> float:
    """The learning rate of optimizer step `step` (from 0), as a share of the peak.

    Linear warmup that reaches the peak with its last step; then a cosine to `floor` (arXiv 1608.03983), or the peak
    and a linear decay to `floor` (WSD, arXiv 2404.06395). Steps after the last have `floor`.
    """
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    start = schedule.max_steps - schedule.decay_steps
    if step < start:
        return 1.0
    done = min(1.0, (step - start + 1) / (schedule.decay_steps + 1))
    left = 1 - done if schedule.shape == "wsd" else (1 + math.cos(math.pi * done)) / 2
    return floor + (1 - floor) * left


def _steps_per_epoch(samples: int, batch_size: int, grad_accum: int, world_size: int) -> tuple[int, str]:
    together = batch_size * grad_accum * world_size
    product = f"(batch {batch_size:,} x accumulation {grad_accum:,} x world size {world_size:,})"
    if samples < together:
        return 1, f"{samples:,} samples do not fill one step of {together:,} {product}: one step, which repeats some"
    return samples // together, f"{samples:,} samples // {product}"


def _decay(policy: Policy, max_steps: int, warmup: int) -> tuple[int, str]:
    if policy.shape == "cosine":
        return max_steps - warmup, "cosine over all steps after the warmup"
    steps = min(_times(max_steps, policy.decay_fraction), max_steps - warmup)
    return steps, f"linear over the last {100 * policy.decay_fraction:g} % of the steps, after a stable phase (WSD)"


def _line(current: Mapping[str, Figure], schedule: Schedule, hand: frozenset[str], rows: int, global_batch: int) -> str:
    names = {"max_epochs": "epochs", "warmup_steps": "warmup"}
    parts = []
    for key, new in schedule.figures().items():
        note = " (by hand)" if key in hand else ""
        change = f"{new:,}" if current[key] == new else f"{current[key]:,} -> {new:,}"
        parts.append(f"{names.get(key, key)} {change}{note}")
    return f"schedule for {rows:,} rows at global batch {global_batch:,}: " + ", ".join(parts)


def _times(steps: int, factor: float | Fraction) -> int:
    """`steps` x `factor`, rounded down, at least 1. A float counts as the decimal number that it prints as."""
    return max(1, math.floor(steps * Fraction(str(factor))))


def _positive(**figures: float) -> None:
    for name, value in figures.items():
        if value <= 0:
            raise UsageError(f"{name} = {value}: must be greater than 0")
