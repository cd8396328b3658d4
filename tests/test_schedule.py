import csv
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from omni_ray.errors import Refused, UsageError
from omni_ray.schedule import (
    BY_HAND,
    FIGURES,
    Figure,
    Policy,
    Record,
    Table,
    Tokens,
    by_hand,
    derive,
    lr_factor,
    rederive,
    scale_lr,
)

GOLDEN = Path(__file__).parent / "data/golden_schedules.csv"
SAMPLES, BATCH, ACCUMULATION, WORLD = (
    st.integers(1, 10**9),
    st.integers(1, 64),
    st.integers(1, 64),
    st.integers(1, 1024),
)
POLICIES = st.one_of(
    st.builds(Table, st.sampled_from(["cosine", "wsd"]), st.sampled_from([0.1, 0.2, 0.9, 1.0])),
    st.builds(Tokens, st.integers(1, 10**12), st.integers(1, 10**9), st.integers(12, 20), st.just(True)),
)
STANDS = st.fixed_dictionaries(
    {},
    optional={
        "max_steps": st.integers(1, 10**9),
        "max_epochs": st.integers(1, 100) | st.sampled_from([0.25, 1.5]),
        "warmup_steps": st.integers(0, 1_000),
        "val_freq": st.integers(1, 10**6),
        "checkpoint_freq": st.integers(1, 10**6),
    },
)


def test_every_golden_schedule() -> None:
    with GOLDEN.open(newline="") as stream:
        rows = [{key: int(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    assert {row["world_size"] for row in rows} == set(range(1, 1025))
    assert {row["accumulation"] for row in rows} == set(range(1, 65))
    for row in rows:
        inputs = [row.pop(key) for key in ("samples", "batch", "accumulation", "world_size")]
        schedule = derive(*inputs)
        assert {key: getattr(schedule, key) for key in row} == row, inputs


@given(SAMPLES, BATCH, ACCUMULATION, WORLD, POLICIES)
def test_figures_are_possible(samples: int, batch: int, accumulation: int, world: int, policy: Policy) -> None:
    schedule = derive(samples, batch, accumulation, world, policy)
    assert schedule.steps_per_epoch == max(1, samples // (batch * accumulation * world))
    assert schedule.max_steps == int(schedule.steps_per_epoch * Fraction(str(schedule.epochs)))
    assert 1 <= schedule.warmup_steps <= schedule.max_steps
    assert 1 <= schedule.val_freq <= schedule.max_steps
    assert 1 <= schedule.checkpoint_freq <= schedule.max_steps
    assert 0 <= schedule.decay_steps <= schedule.max_steps - schedule.warmup_steps
    assert set(schedule.why) == set(vars(schedule)) - {"shape", "why"}
    assert all(schedule.why.values())


@given(SAMPLES, BATCH, ACCUMULATION, WORLD, POLICIES, STANDS)
def test_what_was_set_by_hand_stands_and_the_rest_follows(
    samples: int, batch: int, accumulation: int, world: int, policy: Policy, stands: Mapping[str, Figure]
) -> None:
    try:
        schedule = derive(samples, batch, accumulation, world, policy, stands)
    except UsageError:
        alone = derive(samples, batch, accumulation, world, policy, {**stands, "warmup_steps": 1})
        assert stands["warmup_steps"] > alone.max_steps
        return
    assert {key: schedule.figures()[key] for key in stands} == dict(stands)
    if "max_steps" not in stands:
        assert schedule.max_steps == max(1, int(schedule.steps_per_epoch * Fraction(str(schedule.epochs))))
    if "warmup_steps" not in stands:
        assert schedule.warmup_steps == policy.warmup(schedule.max_steps)[0]
    for key in stands:
        assert schedule.why[key.replace("max_epochs", "epochs")] == BY_HAND


@given(SAMPLES, BATCH, ACCUMULATION, WORLD, st.integers(1, 10**8), st.integers(1, 1024), POLICIES)
def test_a_launch_keeps_the_recorded_proportions(
    samples: int, batch: int, accumulation: int, world: int, rows: int, at_launch: int, policy: Policy
) -> None:
    written = derive(samples, batch, accumulation, world, policy)
    figures = written.figures()
    launch = rederive(figures, Record(figures), rows, batch, accumulation, at_launch, "wsd", 0.2)
    found = launch.schedule
    assert not launch.by_hand
    assert found.epochs == written.epochs
    assert found.steps_per_epoch == max(1, rows // (batch * accumulation * at_launch))
    exact = Fraction(written.warmup_steps, written.max_steps) * found.max_steps
    assert found.warmup_steps == max(1, int(exact))
    assert found.decay_steps == min(max(1, found.max_steps // 5), found.max_steps - found.warmup_steps)
    same = rederive(figures, Record(figures), samples, batch, accumulation, world)
    assert same.schedule.figures() == figures  # nothing changed, so nothing changes


@given(SAMPLES, SAMPLES, WORLD, STANDS)
def test_a_launch_leaves_what_was_set_by_hand(samples: int, rows: int, world: int, stands: dict[str, Figure]) -> None:
    recorded = derive(samples, 8, 1, 1).figures()
    current = recorded | stands
    changed = {key for key in FIGURES if current[key] != recorded[key]}
    assume("warmup_steps" not in changed)
    launch = rederive(current, Record(recorded), rows, 8, 1, world)
    assert launch.by_hand == changed
    assert {key: launch.schedule.figures()[key] for key in changed} == {key: current[key] for key in changed}


def test_a_launch_says_old_and_new_in_one_line() -> None:
    figures = derive(2_500_000, 8, 1, 1).figures()
    launch = rederive({**figures, "val_freq": 50}, Record(figures), 60_000, 8, 1, 2)
    assert launch.line == (
        "schedule for 60,000 rows at global batch 16: max_steps 625,000 -> 7,500, epochs 2, "
        "warmup 31,250 -> 375, val_freq 50 (by hand), checkpoint_freq 10,000 -> 3,750"
    )


def test_without_a_record_all_figures_stand() -> None:
    current: dict[str, Figure] = {
        "max_steps": 70, "max_epochs": 3, "warmup_steps": 0, "val_freq": 5, "checkpoint_freq": 9,
    }  # fmt: skip
    launch = rederive(current, None, 10**6, 8, 1, 1)
    assert launch.schedule.figures() == current
    assert launch.by_hand == set(FIGURES)


def test_a_figure_that_stood_when_the_others_were_derived_stands_on() -> None:
    figures = derive(1_000, 8, 1, 1, stands={"max_steps": 500}).figures()
    record = Record(figures, frozenset({"max_steps"}))
    assert by_hand(figures, record) == {"max_steps"}
    launch = rederive(figures, record, 10**6, 8, 1, 1)
    assert (launch.schedule.max_steps, launch.schedule.warmup_steps) == (500, 25)


def test_a_warmup_longer_than_the_run_is_refused() -> None:
    with pytest.raises(UsageError, match=r"warmup_steps = 200: longer than the run.* at most max_steps = 180"):
        derive(100, 8, 1, 1, stands={"warmup_steps": 200})


@pytest.mark.parametrize(
    ("unique", "parameters", "epochs", "why"),
    [
        (10**9, 10**6, 1, "each is seen once"),
        (20 * 10**6, 10**6, 1, "1.00 times"),
        (8 * 10**6, 10**6, 2.5, "2.50 times"),
        (7 * 10**6, 10**6, 2.86, "2.86 times"),  # 2.857..., upwards
        (2 * 10**6, 10**6, 4, "4 epochs are the most that repay"),
    ],
)
def test_epochs_by_tokens(unique: int, parameters: int, epochs: float, why: str) -> None:
    schedule = derive(100_000, 8, 1, 1, Tokens(unique, parameters))
    assert schedule.epochs == epochs
    assert why in schedule.why["epochs"]
    assert schedule.max_steps == int(12_500 * Fraction(str(epochs)))
    assert schedule.warmup_steps == schedule.max_steps // 50
    assert (schedule.shape, schedule.decay_steps) == ("wsd", schedule.max_steps // 5)


@pytest.mark.parametrize(("steps", "warmup"), [(10, 10), (900, 20), (1_500, 30), (10**6, 2_000)])
def test_warmup_by_tokens_lies_in_20_to_2000(steps: int, warmup: int) -> None:
    assert Tokens(10**9, 10**6).warmup(steps)[0] == warmup


def test_over_16_repetitions_are_refused_unless_allowed() -> None:
    assert derive(1_000, 8, 1, 1, Tokens(1_250_000, 10**6)).epochs == 4  # exactly 16
    with pytest.raises(Refused, match=r"16.00 times.*more than 16.*--allow-repetition"):
        derive(1_000, 8, 1, 1, Tokens(1_249_999, 10**6))
    assert derive(1_000, 8, 1, 1, Tokens(1_249_999, 10**6, allow_repetition=True)).epochs == 4


@pytest.mark.parametrize("ratio", [11, 21])
def test_tokens_per_parameter_have_a_range(ratio: int) -> None:
    with pytest.raises(UsageError, match=f"ratio = {ratio}.*12 to 20"):
        Tokens(1, 1, ratio)


@pytest.mark.parametrize("wrong", [(0, 8, 1, 1), (9, 0, 1, 1), (9, 8, -1, 1), (9, 8, 1, 0)])
def test_figures_that_are_not_positive_are_named(wrong: tuple[int, int, int, int]) -> None:
    name = ("samples", "batch_size", "grad_accum", "world_size")[next(n for n, value in enumerate(wrong) if value < 1)]
    with pytest.raises(UsageError, match=f"{name} = .*greater than 0"):
        derive(*wrong)


@given(st.integers(1, 5_000), POLICIES, st.sampled_from([0.0, 0.1]))
def test_the_rate_rises_to_its_peak_and_never_again(samples: int, policy: Policy, floor: float) -> None:
    schedule = derive(samples, 8, 1, 1, policy)
    rates = [lr_factor(step, schedule, floor) for step in range(schedule.max_steps)]
    warm = schedule.warmup_steps
    assert rates[:warm] == [(step + 1) / warm for step in range(warm)]
    assert all(later <= earlier for earlier, later in pairwise(rates[warm - 1 :]))
    assert all(floor < rate <= 1 for rate in rates[warm:])
    assert lr_factor(schedule.max_steps, schedule, floor) == pytest.approx(floor)
    if schedule.shape == "wsd":
        assert rates[warm - 1 : schedule.max_steps - schedule.decay_steps] == [1.0] * (
            schedule.max_steps - schedule.decay_steps - warm + 1
        )


@pytest.mark.parametrize(("how", "lr"), [("none", 3e-4), ("sqrt", 6e-4), ("linear", 12e-4)])
def test_the_rate_is_scaled_only_when_asked(how: str, lr: float) -> None:
    found, words = scale_lr(3e-4, how, 8, 2, 4)  # type: ignore[arg-type]
    assert found == pytest.approx(lr)
    assert "global batch 64" in words
    assert ("not scaled" in words) == (how == "none")
