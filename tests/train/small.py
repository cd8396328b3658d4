"""A small corpus, store and config, so that a whole run takes a second."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omni_ray import schedule
from omni_ray.config import ThinkerConfig
from omni_ray.storage import LocalStorage
from omni_ray.train import checkpoint, corpus, metrics, plan, token_store
from omni_ray.train.loop import Hooks, Training
from omni_ray.train.stages.text import TextTask
from omni_ray.train.team import Team

WORDS = "the a cat dog bird sees hears likes one two red old house tree in on under and then it sleeps"  # fmt: skip
CTX = 32
VOCAB = 300


def run_here(work: Any, tasks: Sequence[tuple[bytes, int]]) -> Iterator[bytes]:
    """What the Ray Data door does, in this process."""
    for task, _ in tasks:
        yield from work(task)


def write_corpus(path: Path, lines: int = 400, seed: int = 0) -> Path:
    dice = random.Random(seed)
    text = "".join(" ".join(dice.choices(WORDS.split(), k=dice.randint(2, 30))) + "\n" for _ in range(lines))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def make_store(folder: Path, lines: int = 400) -> token_store.Ready:
    path = write_corpus(folder / "corpus.txt", lines)
    return token_store.build(LocalStorage(folder), corpus.find(str(path)), VOCAB, CTX, 0.1, run_here)


def config(**changes: object) -> ThinkerConfig:
    values: dict[str, Any] = {
        "vocab_size": VOCAB, "n_layers": 2, "d_model": 32, "d_ff": 48, "n_heads": 2, "kv_groups": 1, "ctx_len": CTX,
        "wd": 0.1, "lr": 3e-3, "dropout": 0.1, "batch_size": 4, "max_epochs": 1, "max_steps": 12, "warmup_steps": 3,
        "val_freq": 5, "checkpoint_freq": 4, "val_batches": 2, "print_freq": 2, "seed": 7, "num_workers": 1,
        "save_dir": "run", "train_text": "corpus.txt",
    }  # fmt: skip
    return ThinkerConfig(**{**values, **changes})


def make_plan(settings: ThinkerConfig, task: TextTask, global_batch: int | None = None) -> plan.Plan:
    batch = global_batch or settings.batch_size
    launch = schedule.rederive(settings.figures, None, task.rows, batch, 1, 1)
    return plan.make_plan("text", settings, launch, task.rows, batch, settings.lr, task.fingerprints)


def training(
    folder: Path, ready: token_store.Ready, settings: ThinkerConfig, team: Team | None = None,
    global_batch: int | None = None, stop_at: int | None = None,
) -> Training:  # fmt: skip
    """A run in `folder`/run."""
    task = TextTask(settings, ready, "cpu")
    orders = plan.Orders(str(folder), "run", stop_at=stop_at, record_ids=True)
    made = make_plan(settings, task, global_batch)
    return Training(task, settings, made, orders, team or Team.alone(), checkpoint.open_held(orders))


def rows(folder: Path) -> list[metrics.Row]:
    """What `metrics.jsonl` says, without the times."""
    return [
        {key: value for key, value in row.items() if key != "at"}
        for row in metrics.read_rows(LocalStorage(folder), "run")
    ]


def weights(folder: Path, step: int) -> tuple[bytes, bytes]:
    place = folder / f"run/step_{step:08d}"
    return (place / "model.safetensors").read_bytes(), (place / "optimizer.safetensors").read_bytes()


def run_rank(
    team: Team, folder: Path, ready: token_store.Ready, changes: dict[str, object], global_batch: int,
    stop_at: int | None,
) -> None:  # fmt: skip
    """A run on one of several ranks; picklable."""
    training(folder, ready, config(**changes), team, global_batch, stop_at).run(Hooks())
