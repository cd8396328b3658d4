"""What a stage is to the loop: data, a model, a loss, figures of validation. The loop knows nothing else of it.

How the five stages fit:

A text: rows are packed token rows; the loss is cross-entropy summed over tokens.
B audio: rows are utterances, batches have the fixed shapes of their length bucket; the loss is CTC summed over
  utterances, and the count is that of target units. `measure` adds edits and words for the error rates.
C vision: rows are pairs. The loss of a pair depends on all others of the step, so C overrides `gradients`: a first pass
  gathers features over micro-batches and ranks, a second one runs backward with the cached gradients.
D talker: two tasks in turn, codec and talker; the codec's `after_step` updates its codebooks once for each step.
E sft: `rows_at` is overridden to draw from three sets by weight, still as a pure function of the position.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from omni_ray.faults import stop_here
from omni_ray.train import sampler

Rows = npt.NDArray[np.int64]
Tensors = dict[str, Tensor]


class Batch(NamedTuple):
    """Tensors of fixed shapes, the targets that count in them, and the positions that are computed."""

    tensors: Tensors
    targets: int
    positions: int


class Objective(Protocol):
    """The model with the loss on top, as the loop wraps it (compiled, replicated)."""

    def __call__(self, tensors: Tensors) -> Tensor:
        """The loss of a micro-batch, summed over its targets."""

    def without_sync(self) -> AbstractContextManager[None]:
        """Backward passes inside leave gradients on this rank."""


class Task(ABC):
    """A stage, or one of the things that a stage trains. Made anew in every rank."""

    stage: str
    rows: int
    validation_rows: int
    fingerprints: Mapping[str, str]  # of what decides on the weights and is not in the config
    files: Mapping[str, bytes]  # what a checkpoint needs beside the weights to be used

    @abstractmethod
    def build(self) -> nn.Module:
        """The model, freshly initialised from the global random state."""

    @abstractmethod
    def batch(self, rows: Rows, split: str) -> Batch:
        """A micro-batch on the CPU; negative rows are blank. Called from a thread."""

    @abstractmethod
    def loss(self, model: nn.Module, tensors: Tensors) -> Tensor:
        """The loss summed over the valid targets, a scalar in fp32. What `torch.compile` sees."""

    @abstractmethod
    def measure(self, model: nn.Module, tensors: Tensors) -> Tensors:
        """Sums over a validation batch, scalars that can be added up over batches and ranks."""

    @abstractmethod
    def summarise(self, sums: Mapping[str, float]) -> dict[str, float]:
        """The figures of validation from these sums; `loss` is among them."""

    def rows_at(self, positions: Rows, seed: int) -> Rows:
        """The rows at these positions of the training stream."""
        return sampler.rows_at(positions, self.rows, seed)

    def gradients(self, objective: Objective, batches: Sequence[Tensors], weight: float) -> Tensor:
        """Leave the gradient of `weight` x the summed loss, averaged over the ranks; the sum over this rank's batches.

        `weight` is ranks / valid targets of the whole step, so that neither accumulation nor ranks change a gradient.
        """
        total: Tensor | None = None
        for number, tensors in enumerate(batches):
            if number + 1 < len(batches):
                with objective.without_sync():
                    loss = objective(tensors)
                    (loss * weight).backward()  # type: ignore[no-untyped-call]
            else:
                loss = objective(tensors)
                (loss * weight).backward()  # type: ignore[no-untyped-call]
            total = loss.detach() if total is None else total + loss.detach()
            stop_here("accumulating")
        assert total is not None
        return total

    def after_step(self, model: nn.Module) -> None:  # noqa: B027 - most stages have nothing to do
        """Called once after each optimizer step."""

    def flops_per_target(self, model: nn.Module) -> float | None:
        """Floating point operations of training on one target; None where nobody has counted."""
        return None

    def examples(self, model: nn.Module) -> Mapping[str, bytes]:
        """Files for a person to look at or listen to, made at the end of a run."""
        return {}
