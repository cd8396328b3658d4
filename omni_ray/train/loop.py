"""The training loop: the only one. It runs on one process without Ray, or as one of many ranks under Ray Train.

The ranks agree once a step, in a few numbers on the CPU, on what must be decided alike: how many targets the step has,
whether it is time to report, whether a checkpoint is wanted soon. Losses stay on the device until they are reported.
"""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from omni_ray.config import StageConfig
from omni_ray.errors import OmniRayError
from omni_ray.faults import stop_here
from omni_ray.storage import Storage
from omni_ray.train import checkpoint, metrics, sampler
from omni_ray.train.engine import Engine, Stepped
from omni_ray.train.feed import feeding
from omni_ray.train.peak import peak_flops
from omni_ray.train.plan import Orders, Plan
from omni_ray.train.task import Batch, Task, Tensors
from omni_ray.train.team import Team

REPORT_SECONDS = 10.0  # the longest time without a line on the terminal
MOST_SKIPPED = 100  # steps in a row that are not finite, before the run gives up
VALIDATION = "validation"


def _silent(_line: str) -> None:
    return None


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Hooks:
    """What the loop asks of where it runs.

    `ask_preempted` is called on all ranks at the same step, every `ask_seconds`; a true answer, the same on all ranks,
    means that a node will go soon and brings a checkpoint at once. `checked` gets the figures of each validation,
    `progressed` what each line on the terminal tells, on the rank that leads.
    """

    say: Callable[[str], None] = _silent
    ask_preempted: Callable[[], bool] = _never
    ask_seconds: float = float("inf")
    checked: Callable[[int, dict[str, float]], None] = lambda step, figures: None
    progressed: Callable[[metrics.Progress], None] = lambda progress: None


@dataclass
class _Interval:
    """Sums since the last line on the terminal."""

    began: float = field(default_factory=time.perf_counter)
    waited: float = 0.0
    steps: int = 0
    samples: int = 0
    targets: int = 0
    positions: int = 0


class Training:
    """A run on one rank."""

    def __init__(
        self, task: Task, config: StageConfig, plan: Plan, orders: Orders, team: Team, storage: Storage
    ) -> None:
        self.task, self.config, self.plan, self.orders, self.team = task, config, plan, orders, team
        self.storage, self.folder = storage, orders.folder
        self.engine = Engine(task, config, team)
        self.step = 0
        self.skipped = 0
        self.stop = min(plan.max_steps, orders.stop_at or plan.max_steps)
        self._restore()

    def run(self, hooks: Hooks) -> None:
        """Train to the end of the plan, or to where this launch was told to stop."""
        writer = checkpoint.Writer(self.storage, self.folder, self.config.keep_checkpoints)
        reports = None
        if self.team.leads:
            checkpoint.remove_incomplete(self.storage, self.folder)
            reports = metrics.Metrics(self.storage, self.folder, self.step, hooks.say)
            workers = f"{self.team.size} worker" + ("s" if self.team.size > 1 else "")
            hooks.say(f"training on {workers} ({self.team.device.type}) from step {self.step:,}")
        began_at = self.step
        session = _Session(self, hooks, writer, reports)
        with feeding(self._micro_batches, self.step, self.stop, self.config.num_workers) as feed, _quiet_collector():
            while self.step < self.stop:
                waited = feed.waited
                session.take_step(feed.next(), feed.waited - waited if self.step > began_at else 0.0)
        if self.step > began_at:
            session.finish()
        writer.wait()
        if reports is not None:
            reports.close()
            if self.step == self.plan.max_steps:
                self._write_results(hooks)

    def validate(self) -> dict[str, float]:
        """Figures over the held-out rows; the same rows each time, whatever the ranks. Empty where there are none."""
        count = min(self.task.validation_rows, self.config.val_batches * self.config.batch_size)
        if not count:
            return {}
        rows = np.arange(count, dtype=np.int64) * self.task.validation_rows // count
        sums: dict[str, Tensor] = {}
        with self.engine.evaluating() as model:
            for mine in sampler.micro_batches(rows, self.team.rank, self.team.size, self.config.batch_size):
                batch = self.task.batch(mine, VALIDATION)
                for name, value in self.task.measure(model, self._to_device(batch.tensors)).items():
                    sums[name] = sums[name] + value if name in sums else value
        names = sorted(sums)
        totals = self.team.sum([float(sums[name]) for name in names])
        return self.task.summarise(dict(zip(names, totals, strict=True)))

    def snapshot(self) -> checkpoint.Snapshot:
        state = checkpoint.State(
            step=self.step,
            cursor=self.step * self.plan.global_batch,
            seed=self.config.seed,
            skipped=self.skipped,
            world_size=self.team.size,
            plan=self.plan,
        )
        return checkpoint.take_snapshot(state, self.engine.model, self.engine.optimizer, self.task.files)

    def take(self, batches: list[Tensors], targets: int) -> Stepped:
        """One optimizer step."""
        stepped = self.engine.step(self.step, batches, targets, self.plan.lr_at(self.step))
        self.step += 1
        return stepped

    def to_device(self, batches: Sequence[Batch]) -> list[Tensors]:
        return [self._to_device(batch.tensors) for batch in batches]

    def rows_of(self, step: int) -> sampler.Rows:
        """The rows that step `step` sees, over all ranks."""
        start = step * self.plan.global_batch
        return self.task.rows_at(np.arange(start, start + self.plan.global_batch, dtype=np.int64), self.config.seed)

    def _micro_batches(self, step: int) -> list[Batch]:
        parts = sampler.micro_batches(self.rows_of(step), self.team.rank, self.team.size, self.config.batch_size)
        return [self.task.batch(part, "train") for part in parts]

    def _to_device(self, tensors: Tensors) -> Tensors:
        if self.team.device.type == "cpu":
            return tensors
        return {name: value.pin_memory().to(self.team.device, non_blocking=True) for name, value in tensors.items()}

    def _restore(self) -> None:
        """Go on from the newest whole checkpoint; the rank that leads says which, so that all take the same."""
        found = checkpoint.newest(self.storage, self.folder) if self.team.leads else None
        step = int(self.team.sum([-1 if found is None else found] if self.team.leads else [0])[0])
        if step < 0:
            return
        saved = checkpoint.Checkpoint(self.storage, self.folder, step)
        saved.load_model(self.engine.model)
        saved.load_optimizer(self.engine.model, self.engine.optimizer)
        self.step, self.skipped = saved.state.step, saved.state.skipped

    def _write_results(self, hooks: Hooks) -> None:
        """The curve, and examples of what the model does."""
        rows = metrics.read_rows(self.storage, self.folder)
        self.storage.put(f"{self.folder}/{metrics.CURVE}", metrics.draw_curve(rows, self.plan.stage))
        hooks.say(metrics.sketch_curve(rows))
        with self.engine.evaluating() as model:
            for name, data in self.task.examples(model).items():
                self.storage.put(f"{self.folder}/examples/{name}", data)
                if name.endswith(".txt"):
                    hooks.say(f"example: {data.decode().strip()}")
        where = f"{self.storage.uri}/{self.folder}"
        hooks.say(f"finished after {self.step:,} steps: {where} (curve: {metrics.CURVE}; tensorboard --logdir {where})")


class _Session:
    """The part of a run between a start and a stop: what happens around a step."""

    def __init__(self, run: Training, hooks: Hooks, writer: checkpoint.Writer, reports: metrics.Metrics | None) -> None:
        self._run, self._hooks, self._writer, self._reports = run, hooks, writer, reports
        self._pending: list[tuple[metrics.Row, Stepped]] = []
        self._interval = _Interval()
        self._asked = time.monotonic()
        self._in_a_row = 0
        self._preempted = False
        self._flops = run.task.flops_per_target(run.engine.model)
        self._peak = peak_flops(run.team.device, run.team.size)

    def take_step(self, batches: Sequence[Batch], waited: float) -> None:
        run, plan = self._run, self._run.plan
        late = time.perf_counter() - self._interval.began > REPORT_SECONDS
        ask = time.monotonic() - self._asked > self._hooks.ask_seconds
        targets, positions, late_ranks, asking = run.team.sum(
            [
                sum(batch.targets for batch in batches),
                sum(batch.positions for batch in batches),
                run.team.leads and late,
                run.team.leads and ask,
            ]
        )
        row: metrics.Row = {"step": run.step + 1, "lr": plan.lr_at(run.step), "targets": int(targets)}
        row["padding"] = round(1 - targets / max(1.0, positions), 6)
        if run.orders.record_ids:
            row["ids"] = run.rows_of(run.step).tolist()
        stepped = run.take(run.to_device(batches), int(targets))
        stop_here("training")
        self._pending.append((row, stepped))
        self._count(waited, int(targets), int(positions))
        if late_ranks or run.step % run.config.print_freq == 0:
            self._report()
        if run.step % plan.val_freq == 0 and run.step != run.stop:
            self._validate()
        urgent = bool(asking) and self._ask_preempted()
        if (run.step % plan.checkpoint_freq == 0 and run.step != run.stop) or urgent:
            self._save()
            if urgent:
                self._writer.wait()
                self._tell(f"a node will be taken away: checkpoint at step {run.step:,}")

    def finish(self) -> None:
        """The last validation and checkpoint."""
        self._report()
        self._validate()
        self._save()

    def _count(self, waited: float, targets: int, positions: int) -> None:
        interval = self._interval
        interval.waited += waited
        interval.steps += 1
        interval.samples += self._run.plan.global_batch
        interval.targets += targets
        interval.positions += positions

    def _report(self) -> None:
        """Fetch the losses of the last steps from the device, note them, and say how it goes."""
        if not self._pending:
            return
        fetched = torch.stack([torch.stack(list(stepped)) for _, stepped in self._pending]).tolist()
        for (row, _), (loss, norm, skipped) in zip(self._pending, fetched, strict=True):
            row["loss"], row["grad_norm"] = loss / max(1, row["targets"]), norm
            if skipped:
                row["skipped"] = True
                self._run.skipped += 1
            self._in_a_row = self._in_a_row + 1 if skipped else 0
            if self._reports is not None:
                self._reports.add(row)
        self._say(self._pending[-1][0], sum(bool(skipped) for _, _, skipped in fetched))
        self._pending.clear()
        if self._in_a_row >= MOST_SKIPPED:
            raise OmniRayError(
                f"the loss was not finite for {self._in_a_row} steps in a row, up to step {self._run.step:,}; lower lr "
                "or look at the data, and start again with --fresh"
            )

    def _tell(self, line: str) -> None:
        if self._reports is not None:
            self._reports.tell(line)

    def _say(self, row: metrics.Row, skipped_now: int) -> None:
        interval = self._interval
        seconds = time.perf_counter() - interval.began
        if self._reports is not None:
            figures = metrics.Interval(
                interval.steps, seconds, interval.waited, interval.samples, interval.targets, interval.positions
            )
            skipped = f"  not finite so far: {self._run.skipped:,}" if self._run.skipped else ""
            line = metrics.line(row, figures, self._run.plan.max_steps, self._flops, self._peak)
            self._reports.tell(line + skipped)
            self._reports.write(now=False)
            told = (row["step"], row["loss"], row["lr"], row["grad_norm"], skipped_now, figures)
            self._hooks.progressed(metrics.Progress(*told))
        self._interval = _Interval()

    def _validate(self) -> None:
        self._report()
        figures = self._run.validate()
        if figures and self._reports is not None:
            self._reports.add({"step": self._run.step, **{f"val_{name}": value for name, value in figures.items()}})
            told = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
            self._tell(f"step {self._run.step:,}  validation: {told}")
        self._hooks.checked(self._run.step, figures)
        self._interval = _Interval()

    def _ask_preempted(self) -> bool:
        """Whether a notice has come since the last time; all ranks ask at the same step and get the same answer."""
        self._asked = time.monotonic()
        told = self._hooks.ask_preempted()
        news = told and not self._preempted
        self._preempted = told
        return news

    def _save(self) -> None:
        self._report()
        if self._reports is not None:
            self._reports.write(now=True)
            self._writer.write(self._run.snapshot())


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """Python's cycle collector stops the loop at moments of its own choice; steps leave no cycles behind."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
