import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_ray.schedule import derive, lr_factor


def test_the_contracts_example() -> None:
    schedule = derive(2_500_000, 8, 1, 1)
    assert (schedule.steps_per_epoch, schedule.epochs) == (312_500, 2)
    assert (schedule.max_steps, schedule.warmup_steps) == (625_000, 31_250)


@pytest.mark.parametrize(
    ("samples", "epochs"),
    [(49_999, 15), (50_000, 7), (99_999, 7), (100_000, 4), (499_999, 4), (500_000, 3), (999_999, 3), (1_000_000, 2)],
)
def test_epochs_at_every_boundary(samples: int, epochs: int) -> None:
    schedule = derive(samples, 8, 1, 1)
    assert schedule.epochs == epochs
    assert schedule.max_steps == samples // 8 * epochs


@given(st.integers(1, 10**8), st.integers(1, 64), st.integers(1, 64), st.integers(1, 1024))
def test_figures_are_possible(samples: int, batch: int, accumulation: int, world: int) -> None:
    if samples < batch * accumulation * world:
        return
    schedule = derive(samples, batch, accumulation, world)
    assert schedule.steps_per_epoch == samples // (batch * accumulation * world)
    assert 1 <= schedule.warmup_steps <= schedule.max_steps
    assert 1 <= schedule.val_freq <= schedule.max_steps
    assert 1 <= schedule.checkpoint_freq <= schedule.max_steps
    assert all(0 <= lr_factor(step, schedule) <= 1 for step in (0, schedule.warmup_steps, schedule.max_steps))
