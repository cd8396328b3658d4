"""What a GPU needs and a CPU can show: one graph, traced once."""

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from omni_ray.errors import ConfigError
from omni_ray.train import token_store
from omni_ray.train.engine import Engine, seed_step
from omni_ray.train.stages.text import TextTask
from omni_ray.train.team import Team
from tests.train import small


@pytest.mark.parametrize("changes", [{}, {"use_moe": True, "num_experts": 4}], ids=["dense", "experts"])
def test_a_step_is_one_graph_that_is_traced_once(
    ready: token_store.Ready, changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`eager` traces as on a GPU, and leaves out only the compiler behind it."""
    monkeypatch.setattr(Engine, "autocast", lambda engine: torch.autocast("cpu", torch.bfloat16))
    torch._dynamo.reset()
    config = small.config(**changes)
    task = TextTask(config, ready, "cpu")
    engine = Engine(task, config, Team.alone())
    engine._objective = torch.compile(engine._objective, backend="eager", fullgraph=True, dynamic=False)
    before = counters["stats"]["unique_graphs"]
    for step in range(4):
        batch = task.batch(np.arange(4) + 4 * step, "train")
        engine.step(step, [batch.tensors], batch.targets, 1e-3)
        with engine.evaluating() as model:
            task.measure(model, task.batch(np.arange(4), "validation").tensors)
    assert counters["stats"]["unique_graphs"] - before == 1


def test_a_step_s_random_numbers_are_its_own() -> None:
    drawn = []
    for place in ((7, 3, 0), (7, 3, 0), (7, 4, 0), (7, 3, 1), (8, 3, 0)):
        seed_step(*place)
        drawn.append(torch.rand(2).tolist())
    assert drawn[0] == drawn[1]
    assert len({tuple(pair) for pair in drawn}) == 4


def test_only_matrices_decay(ready: token_store.Ready) -> None:
    config = small.config()
    engine = Engine(TextTask(config, ready, "cpu"), config, Team.alone())
    decayed, plain = engine.optimizer.param_groups
    assert all(parameter.dim() >= 2 for parameter in decayed["params"]) and decayed["weight_decay"] == 0.1
    assert all(parameter.dim() == 1 for parameter in plain["params"]) and plain["weight_decay"] == 0.0
    assert len(decayed["params"]) + len(plain["params"]) == len(list(engine.model.parameters()))


def test_a_gradient_is_clipped_to_its_norm(ready: token_store.Ready) -> None:
    config = small.config(max_grad_norm=0.01)
    task = TextTask(config, ready, "cpu")
    engine = Engine(task, config, Team.alone())
    batch = task.batch(np.arange(4), "train")
    stepped = engine.step(0, [batch.tensors], batch.targets, 1e-3)
    assert stepped.grad_norm > 0.1  # as it was
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in engine.model.parameters()])
    assert norm == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_cpu_multiplies_in_bf16_where_it_is_told_to(ready: token_store.Ready, bf16: bool) -> None:
    config = small.config(use_amp=True, use_amp_cpu=bf16)
    task = TextTask(config, ready, "cpu")
    engine = Engine(task, config, Team.alone())
    found = []
    layer = engine.model.blocks[0].forward_layer  # type: ignore[index, union-attr]
    layer.project_in.register_forward_hook(lambda _layer, _x, y: found.append(y.dtype))  # type: ignore[operator, union-attr]
    batch = task.batch(np.arange(4), "train")
    engine.step(0, [batch.tensors], batch.targets, 1e-3)
    with engine.evaluating() as model:
        task.measure(model, batch.tensors)
    assert found == [torch.bfloat16 if bf16 else torch.float32] * 2
    assert all(parameter.dtype == torch.float32 for parameter in engine.model.parameters())


def test_a_missing_compiler_is_named_before_training(ready: token_store.Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    config = small.config(use_compile_cpu=True)
    with pytest.raises(ConfigError, match="use_compile_cpu = true: there is no no-such-compiler here"):
        Engine(TextTask(config, ready, "cpu"), config, Team.alone())
