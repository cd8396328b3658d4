"""What a training run shows to Prometheus (docs/metrics.md).

The driver shows it, not the rank that it comes from: Ray ends the processes of the ranks by SIGKILL, and with them goes
what they have not sent yet; and a rank may be another process on another node after each failure.
"""

from collections.abc import Mapping

from omni_ray.runtime import count, show
from omni_ray.train.metrics import Progress

_GAUGES = {
    "step": "Optimizer steps taken since the run began",
    "loss": "Training loss of the newest step that was reported",
    "learning_rate": "Learning rate of that step",
    "grad_norm": "Norm of the gradients of that step, before clipping",
    "tokens_per_second": "Targets that count in the loss, a second, over the steps of the last report",
    "samples_per_second": "Samples (rows) a second, over the same steps",
    "padding_ratio": "Share of the positions that are padding, over the same steps",
    "data_wait_ratio": "Share of the time in which the device waited for data, over the same steps",
}
_COUNTERS = {
    "steps": "Optimizer steps of this launch, those that were done again included",
    "tokens": "Targets of these steps",
    "samples": "Samples of these steps",
    "skipped_steps": "Those of these steps that were not finite and changed nothing",
}


class Figures:
    """The newest figures of a stage."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._gauges: dict[str, float] = {}
        self._validation: dict[str, float] = {}

    def take(self, progress: Progress) -> None:
        interval = progress.interval
        self._gauges = {
            "step": progress.step,
            "loss": progress.loss,
            "learning_rate": progress.lr,
            "grad_norm": progress.grad_norm,
            "tokens_per_second": interval.targets_per_second,
            "samples_per_second": interval.samples_per_second,
            "padding_ratio": interval.padding,
            "data_wait_ratio": interval.data_wait,
        }
        amounts = {
            "steps": interval.steps,
            "tokens": interval.targets,
            "samples": interval.samples,
            "skipped_steps": progress.skipped,
        }
        for name, amount in amounts.items():
            count(f"omni_ray_train_{name}_total", _COUNTERS[name], amount, stage=self._stage)

    def take_validation(self, figures: Mapping[str, float]) -> None:
        self._validation = dict(figures)

    def show(self) -> None:
        """To be called every few seconds: a gauge that is not set again is forgotten."""
        for name, value in self._gauges.items():
            show(f"omni_ray_train_{name}", _GAUGES[name], value, stage=self._stage)
        for figure, value in self._validation.items():
            means = "Figures of the newest validation"
            show("omni_ray_train_validation", means, value, stage=self._stage, figure=figure)
