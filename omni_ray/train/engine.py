"""One optimizer step: gradients over micro-batches and ranks, clipping, AdamW. No step waits for the device.

A step whose loss or gradient is not finite changes nothing on any rank: both are sums over all ranks before anybody
looks at them, and the decision is taken on the device by the optimizer itself (`found_inf`).
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from omni_ray.config import StageConfig
from omni_ray.errors import ConfigError
from omni_ray.train.task import Task, Tensors
from omni_ray.train.team import Team

BETAS = (0.9, 0.95)
EPS = 1e-8


class Stepped(NamedTuple):
    """What a step did; scalars on the device."""

    loss: Tensor  # summed over all targets of the step
    grad_norm: Tensor  # before clipping
    skipped: Tensor  # 1 where the step was not finite


class _Loss(nn.Module):
    """The model with the loss on top, so that both compile into one graph."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._task = task

    def forward(self, tensors: Tensors) -> Tensor:
        return self._task.loss(self.model, tensors)


class Engine:
    """Model, optimizer and how a step is taken with them."""

    def __init__(self, task: Task, config: StageConfig, team: Team) -> None:
        self._task, self._config, self._team = task, config, team
        torch.manual_seed(config.seed)
        self.model = task.build().to(team.device)
        self.optimizer = _optimizer(self.model, config)
        self._found_inf = torch.zeros((), device=team.device)
        on_gpu = team.device.type == "cuda"
        self._amp = config.use_amp if on_gpu else config.use_amp_cpu
        objective: nn.Module = _Loss(task, self.model)
        if config.use_compile if on_gpu else config.use_compile_cpu:
            if not on_gpu:
                _need_compiler()
            objective = torch.compile(objective, fullgraph=True, dynamic=False)  # type: ignore[assignment]
        self._replicas: DistributedDataParallel | None = None
        if team.size > 1:
            # With find_unused_parameters a modality may be missing on a rank; and gradients keep the places in their
            # buckets, so that a resumed run adds them up in the same order as one that was not stopped.
            objective = self._replicas = DistributedDataParallel(
                objective, find_unused_parameters=True, gradient_as_bucket_view=True, broadcast_buffers=False
            )
        self._objective = objective

    def __call__(self, tensors: Tensors) -> Tensor:
        with self.autocast():
            loss: Tensor = self._objective(tensors)
        return loss

    def without_sync(self) -> AbstractContextManager[None]:
        return nullcontext() if self._replicas is None else self._replicas.no_sync()

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self._team.device.type, torch.bfloat16, enabled=self._amp)

    def step(self, number: int, batches: Sequence[Tensors], targets: int, lr: float) -> Stepped:
        """Take optimizer step `number` with this rank's micro-batches; `targets` counts those of all ranks."""
        seed_step(self._config.seed, number, self._team.rank)
        self.model.train()
        self.optimizer.zero_grad()
        loss = self._task.gradients(self, batches, self._team.size / max(1, targets))
        loss = self._team.sum_tensor(loss)
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        self._found_inf = (~finite).float()
        self.optimizer.grad_scale = (norm / self._config.max_grad_norm).clamp(min=1.0)  # type: ignore[attr-defined]
        self.optimizer.found_inf = self._found_inf  # type: ignore[attr-defined]
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self._task.after_step(self.model)
        return Stepped(loss, norm, self._found_inf)

    @contextmanager
    def evaluating(self) -> Iterator[nn.Module]:
        """The bare model in evaluation mode."""
        self.model.eval()
        with torch.no_grad(), self.autocast():
            yield self.model
        self.model.train()


def seed_step(seed: int, step: int, rank: int) -> None:
    """Random numbers of a step depend on (seed, step, rank) alone: nothing has to be saved to go on exactly."""
    digest = hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8]) >> 1)


def _need_compiler() -> None:
    """Torch would say so in the middle of a trace.

    Raises:
        ConfigError: where there is no C++ compiler.
    """
    name = os.environ.get("CXX", "g++")
    if shutil.which(name) is None:
        raise ConfigError(
            f"use_compile_cpu = true: there is no {name} here, and torch.compile needs a C++ compiler; install one, "
            "name another in CXX, or set use_compile_cpu to false"
        )


def _optimizer(model: nn.Module, config: StageConfig) -> torch.optim.AdamW:
    """Fused AdamW (arXiv 1711.05101); matrices decay, norms and biases do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.dim() >= 2], "weight_decay": config.wd},
        {"params": [parameter for parameter in trained if parameter.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=BETAS, eps=EPS, fused=True)
