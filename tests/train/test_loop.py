"""What a run promises: the same result whatever kills it and however many ranks it has."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omni_ray.errors import OmniRayError
from omni_ray.schedule import lr_factor, rederive
from omni_ray.storage import LocalStorage
from omni_ray.train import checkpoint, loop, metrics, token_store
from omni_ray.train.engine import Engine
from omni_ray.train.packing import PAD, valid_targets
from omni_ray.train.plan import Orders
from omni_ray.train.sampler import micro_batches
from omni_ray.train.stages.text import TextTask
from omni_ray.train.task import Batch, Rows
from omni_ray.train.team import Team
from tests.train import small
from tests.train.ranks import run_ranks

STEPS = 12
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, ready: token_store.Ready) -> Path:
    """A run on one rank, in a process of its own as the killed ones are."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_ranks(small.run_rank, 1, folder, ready, {}, 4, None)
    return folder


def assert_same(folder: Path, other: Path, step: int = STEPS) -> None:
    assert small.rows(folder) == small.rows(other)
    assert small.weights(folder, step) == small.weights(other, step)


@pytest.mark.parametrize(
    "stops",
    [
        ["training@6"],  # in mid-epoch, between checkpoints
        pytest.param(["training@4"], marks=slow),  # where a checkpoint is due
        pytest.param(["training@1"], marks=slow),  # before there is a checkpoint
        pytest.param(["training@6", "training@1"], marks=slow),  # twice in a row, without a step done between
        pytest.param(["training@5", "training@3", "checkpointing@1", "training@2"], marks=slow),
    ],
    ids="+".join,
)
def test_killed_and_resumed_is_bitwise_the_undisturbed_run(
    tmp_path: Path, ready: token_store.Ready, undisturbed: Path, stops: list[str]
) -> None:
    for stop in stops:
        run_ranks(small.run_rank, 1, tmp_path, ready, {}, 4, None, stop=stop)
    run_ranks(small.run_rank, 1, tmp_path, ready, {}, 4, None)
    assert_same(tmp_path, undisturbed)


@slow
def test_killed_at_the_edge_of_an_epoch(tmp_path: Path) -> None:
    ready = small.make_store(tmp_path, lines=35)
    task = TextTask(small.config(), ready, "cpu")
    edge = task.rows // 4  # the step in which the second epoch begins
    assert 2 < edge < STEPS - 2 and task.rows % 4, "the corpus no longer has its epoch's edge inside a step"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_ranks(small.run_rank, 1, whole, ready, {"checkpoint_freq": 1}, 4, None)
    run_ranks(small.run_rank, 1, killed, ready, {"checkpoint_freq": 1}, 4, None, stop=f"training@{edge + 1}")
    run_ranks(small.run_rank, 1, killed, ready, {"checkpoint_freq": 1}, 4, None)
    assert_same(killed, whole)


@slow
def test_killed_where_a_cpu_compiles_and_multiplies_in_bf16(tmp_path: Path, ready: token_store.Ready) -> None:
    changes = {"use_amp_cpu": True, "use_compile_cpu": True}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_ranks(small.run_rank, 1, whole, ready, changes, 4, None)
    run_ranks(small.run_rank, 1, killed, ready, changes, 4, None, stop="training@6")
    run_ranks(small.run_rank, 1, killed, ready, changes, 4, None)
    assert_same(killed, whole)


@slow
def test_two_ranks_killed_in_the_middle_of_accumulation(tmp_path: Path, ready: token_store.Ready) -> None:
    changes = {"batch_size": 2, "gradient_accumulation_steps": 2}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_ranks(small.run_rank, 2, whole, ready, changes, 8, None)
    run_ranks(small.run_rank, 2, killed, ready, changes, 8, None, stop="accumulating@15")  # the first of two of step 8
    run_ranks(small.run_rank, 2, killed, ready, changes, 8, None)
    assert_same(killed, whole)


def test_a_changed_world_size_keeps_the_stream(tmp_path: Path, ready: token_store.Ready, undisturbed: Path) -> None:
    for size, stop_at in ((2, 4), (1, 7), (2, None)):
        run_ranks(small.run_rank, size, tmp_path, ready, {}, 4, stop_at)
    ids = [row["ids"] for row in small.rows(tmp_path) if "ids" in row]
    assert ids == [row["ids"] for row in small.rows(undisturbed) if "ids" in row]
    assert [row["step"] for row in small.rows(tmp_path) if "ids" in row] == list(range(1, STEPS + 1))


def test_an_epoch_sees_every_row_once(undisturbed: Path, ready: token_store.Ready) -> None:
    rows = TextTask(small.config(), ready, "cpu").rows
    seen = [number for row in small.rows(undisturbed) if "ids" in row for number in row["ids"]]
    assert len(seen) == 4 * STEPS < rows
    assert len(set(seen)) == len(seen)


def test_learning_rates_are_the_closed_form(undisturbed: Path) -> None:
    def expected(step: int) -> float:
        warmup, total = 3, STEPS
        if step < warmup:
            return 3e-3 * (step + 1) / warmup
        return 3e-3 * (1 + torch.cos(torch.tensor(torch.pi * (step - warmup + 1) / (total - warmup + 1)))).item() / 2

    rates = [row["lr"] for row in small.rows(undisturbed) if "lr" in row]
    assert rates == pytest.approx([expected(step) for step in range(STEPS)], rel=1e-6)


@pytest.mark.parametrize("shape", ["cosine", "wsd"])
def test_a_plan_gives_the_schedule_s_rates(ready: token_store.Ready, shape: str) -> None:
    config = small.config(lr_schedule=shape, min_lr_ratio=0.1)
    plan = small.make_plan(config, TextTask(config, ready, "cpu"))
    schedule = rederive(config.figures, None, 100, 4, 1, 1).schedule
    assert [plan.lr_at(step) for step in range(15)] == [
        config.lr * lr_factor(step, schedule, 0.1) for step in range(15)
    ]


class Ragged(TextTask):
    """Rows of which only a part has targets, a different one each."""

    def batch(self, rows: Rows, split: str) -> Batch:
        made = super().batch(rows, split)
        tokens = made.tensors["tokens"]
        for place, number in enumerate(rows):
            tokens[place, 3 + (number * 7) % (tokens.shape[1] - 3) :] = PAD
        return Batch(made.tensors, valid_targets(tokens.numpy()), made.positions)


def gradients(team: Team, ready: token_store.Ready, batch_size: int) -> dict[str, np.ndarray]:
    config = small.config(batch_size=batch_size, dropout=0.0, max_grad_norm=1e9)
    task = Ragged(config, ready, "cpu")
    engine = Engine(task, config, team)
    step = task.rows_at(np.arange(8), 1)
    batches = [task.batch(part, "train") for part in micro_batches(step, team.rank, team.size, batch_size)]
    targets = int(team.sum([sum(batch.targets for batch in batches)])[0])
    engine.step(0, [batch.tensors for batch in batches], targets, 0.0)
    return {name: parameter.grad.numpy().copy() for name, parameter in engine.model.named_parameters()}


@pytest.mark.parametrize(
    ("ranks", "accumulation"), [(2, 4), pytest.param(4, 2, marks=slow), pytest.param(8, 1, marks=slow)]
)
def test_ranks_and_accumulation_leave_the_gradient_alone(
    ready: token_store.Ready, ranks: int, accumulation: int
) -> None:
    expected = gradients(Team.alone(), ready, 8)
    alone = gradients(Team.alone(), ready, 1)  # 1 rank x 8 micro-batches
    for found in [alone, *run_ranks(gradients, ranks, ready, 8 // ranks // accumulation)]:
        for name, gradient in expected.items():
            np.testing.assert_allclose(found[name], gradient, atol=1e-6, rtol=0, err_msg=name)


@slow
def test_blank_places_do_not_change_the_gradient(ready: token_store.Ready) -> None:
    """Eight rows over three ranks leave one place blank."""
    expected = gradients(Team.alone(), ready, 8)
    for found in run_ranks(gradients, 3, ready, 3):
        for name, gradient in expected.items():
            np.testing.assert_allclose(found[name], gradient, atol=1e-6, rtol=0, err_msg=name)


def test_a_batch_can_be_learnt_by_heart(tmp_path: Path, ready: token_store.Ready) -> None:
    config = small.config(dropout=0.0, lr=1e-2, wd=0.0, max_steps=200, warmup_steps=5)
    task = TextTask(config, ready, "cpu")
    engine = Engine(task, config, Team.alone())
    batch = task.batch(np.arange(4), "train")
    for step in range(200):
        loss = engine.step(step, [batch.tensors], batch.targets, 1e-2).loss / batch.targets
    # what no model can know: the first word of a line, and where a line ends, are drawn at random
    assert loss < 0.15


class Poisoned(TextTask):
    """One row of the batches of rank 1 makes the loss infinite."""

    def loss(self, model: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
        loss = super().loss(model, tensors)
        return loss * float("inf") if int(tensors["tokens"].sum()) % 3 == 0 else loss


def run_poisoned(team: Team, folder: Path, ready: token_store.Ready) -> list[np.ndarray]:
    config = small.config(batch_size=1, num_workers=0)
    task = Poisoned(config, ready, "cpu")
    made, orders = small.make_plan(config, task, 2), Orders(str(folder), "run")
    run = loop.Training(task, config, made, orders, team, LocalStorage(folder))
    run.run(loop.Hooks())
    return [parameter.detach().numpy().copy() for parameter in run.engine.model.parameters()]


def test_a_loss_that_is_not_finite_on_one_rank_skips_the_step_on_all(tmp_path: Path, ready: token_store.Ready) -> None:
    first, second = run_ranks(run_poisoned, 2, tmp_path, ready)
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    assert all(np.isfinite(one).all() for one in first)
    rows = [row for row in small.rows(tmp_path) if "loss" in row]
    skipped = [row["step"] for row in rows if row.get("skipped")]
    assert 0 < len(skipped) < len(rows)
    assert all((row["loss"] is None) == (row["step"] in skipped) for row in rows)
    newest = checkpoint.Checkpoint(LocalStorage(tmp_path), "run", STEPS)
    assert newest.state.skipped == len(skipped)


def test_a_run_that_is_never_finite_gives_up(
    tmp_path: Path, ready: token_store.Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MOST_SKIPPED", 4)
    run = small.training(tmp_path, ready, small.config())
    monkeypatch.setattr(run.task, "loss", lambda model, tensors: model.embedding.weight.sum() * float("nan"))
    with pytest.raises(OmniRayError, match="not finite for 4 steps in a row"):
        run.run(loop.Hooks())


def test_a_preemption_notice_brings_a_checkpoint_at_once(tmp_path: Path, ready: token_store.Ready) -> None:
    steps: list[int] = []
    run = small.training(tmp_path, ready, small.config(checkpoint_freq=100, keep_checkpoints=9))

    def ask() -> bool:
        steps.append(run.step)
        return len(steps) in (3, 4)  # a notice stands; it is news once

    run.run(loop.Hooks(ask_preempted=ask, ask_seconds=-1.0))
    assert steps == list(range(1, STEPS + 1))
    assert checkpoint.complete_steps(LocalStorage(tmp_path), "run") == {3, STEPS}


def test_a_run_reports(tmp_path: Path, ready: token_store.Ready) -> None:
    lines: list[str] = []
    run = small.training(tmp_path, ready, small.config())
    run.run(loop.Hooks(say=lines.append))
    assert lines[0] == "training on 1 worker (cpu) from step 0"
    for part in ("loss", "lr", "samples/s", "tokens/s", "padding", "data-wait"):
        assert part in lines[1], f"{part} is missing in {lines[1]!r}"
    assert [row["step"] for row in small.rows(tmp_path) if "val_loss" in row] == [5, 10, 12]
    assert (tmp_path / "run/curve.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "run/tensorboard").glob("events.out.tfevents.*"))
    assert (tmp_path / "run/examples/text.txt").read_text().strip()
    assert len(metrics.sketch_curve(small.rows(tmp_path)).splitlines()) == 10


def validate(team: Team, folder: Path, ready: token_store.Ready) -> dict[str, float]:
    return small.training(folder, ready, small.config(), team).validate()


def test_validation_does_not_depend_on_the_ranks(tmp_path: Path, ready: token_store.Ready) -> None:
    alone = validate(Team.alone(), tmp_path, ready)
    for figures in run_ranks(validate, 2, tmp_path, ready):
        assert figures == pytest.approx(alone, rel=1e-6)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 50), st.integers(1, 7), st.integers(1, 5))
def test_micro_batches_share_out_a_step(rows: int, ranks: int, batch_size: int) -> None:
    step = np.arange(rows) + 100
    parts = [micro_batches(step, rank, ranks, batch_size) for rank in range(ranks)]
    assert {len(part) for part in parts} == {-(-rows // (ranks * batch_size))}
    shared = [int(row) for part in parts for batch in part for row in batch if row >= 0]
    assert sorted(shared) == list(step)
