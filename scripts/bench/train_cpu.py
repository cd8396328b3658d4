"""What training costs around the arithmetic, on CPUs with one torch thread.

python scripts/bench/train_cpu.py --corpus FILE --out DIR [--pairs 7] [--steps 40]     throughput
python scripts/bench/train_cpu.py --memory --out DIR [--gigabytes 5]                   memory

Throughput: valid tokens/s of stage A under Ray Train with one worker, against a bare PyTorch loop over the same batches
(interleaved pairs), and against a bare loop that puts one line in a row and pads it. Memory: growth of anonymous memory
of a worker over the rows that a corpus of so many GB has; the rows are made up, since tokenising is not what is asked.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msgspec
import numpy as np
import torch

from omni_ray import blocks
from omni_ray.config import ThinkerConfig, validate
from omni_ray.models.thinker import Thinker
from omni_ray.runtime import connected
from omni_ray.schedule import rederive
from omni_ray.storage import LocalStorage
from omni_ray.train import token_store, trainer
from omni_ray.train.corpus import find
from omni_ray.train.loop import Hooks, Training
from omni_ray.train.packing import END, PAD
from omni_ray.train.plan import Orders, Plan, make_plan
from omni_ray.train.stages.text import TextTask, text_loss
from omni_ray.train.team import Team
from scripts.bench import _measure

WARMUP = 10  # steps that are not measured
BYTES_PER_TOKEN = 3.5  # of English text at this vocabulary, for --memory
CONFIG: dict[str, Any] = {
    "vocab_size": 4096, "n_layers": 4, "d_model": 192, "d_ff": 512, "n_heads": 3, "kv_groups": 1, "ctx_len": 512,
    "dropout": 0.0, "lr": 1e-3, "wd": 0.1, "batch_size": 2, "max_steps": 50, "max_epochs": 1, "warmup_steps": 5,
    "val_freq": 10**9, "checkpoint_freq": 10**9, "print_freq": 10**9, "save_dir": "run", "train_text": "corpus",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpus")
    parser.add_argument("--out", required=True)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--context", type=int, default=512, help="tokens of a row (default: 512; configs have 1,024)")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--bare", choices=("packed", "padded"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        print(bare(arguments.out, arguments.bare, arguments.steps, arguments.context))
    elif arguments.memory:
        print(json.dumps(memory(Path(arguments.out), arguments.gigabytes), indent=1))
    else:
        found = throughput(arguments.corpus, arguments.out, arguments.pairs, arguments.steps, arguments.context)
        print(json.dumps(found, indent=1))
        _measure.ratio("training under Ray / a bare loop", found["ratio_median"], 0.97)
        _measure.ratio("packed / padded rows, valid tokens", found["over_padded"], 10)


def throughput(corpus: str, out: str, pairs: int, steps: int, context: int) -> dict[str, Any]:
    storage = LocalStorage(out)
    config = configured(steps, context)
    # Ray's workers give way to other processes, as a bare loop does not; the name is Ray's own
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    with connected("local", os.cpu_count()):
        run_tasks = partial(blocks.run_blocks, address="local", workers=os.cpu_count())
        ready = token_store.build(storage, find(corpus), config.vocab_size, config.ctx_len, 0.1, run_tasks)
        (Path(out) / "ready.json").write_bytes(msgspec.json.encode(ready))
        measured = []
        for number in range(pairs):
            ray_first = number % 2 == 0  # so that neither side always comes second
            if ray_first:
                under_ray = with_ray(storage, ready, config, number)
            alone = float(_run_bare(out, "packed", steps, context))
            if not ray_first:
                under_ray = with_ray(storage, ready, config, number)
            measured.append((*under_ray, alone))
            print(f"pair {number + 1}: Ray Train {under_ray[0]:,.0f}, bare {alone:,.0f} tokens/s", flush=True)
    ratios = [under / alone for under, _, alone in measured]
    padded = float(_run_bare(out, "padded", steps, context))
    packed = median(under for under, _, _ in measured)
    return {
        "ray_train_tokens_per_s": round(packed),
        "bare_tokens_per_s": round(median(alone for _, _, alone in measured)),
        "ratio_median": round(median(ratios), 4),
        "ratio_95_interval": interval(ratios),
        "data_wait": round(max(wait for _, wait, _ in measured), 4),
        "padded_tokens_per_s": round(padded),
        "over_padded": round(packed / padded, 1),
    }


def interval(values: Sequence[float]) -> list[float]:
    """95 % of the mean, by Student's t for up to ten values."""
    if len(values) < 2:
        return []
    quantile = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)[len(values) - 2]
    half = quantile * stdev(values) / len(values) ** 0.5
    return [round(mean(values) - half, 4), round(mean(values) + half, 4)]


def configured(steps: int, context: int) -> ThinkerConfig:
    changes = {"max_steps": steps + WARMUP, "print_freq": WARMUP, "ctx_len": context}
    return validate({**CONFIG, **changes}, ThinkerConfig, "train_cpu")


def planned(config: ThinkerConfig, task: TextTask) -> Plan:
    launch = rederive(config.figures, None, task.rows, config.batch_size, 1, 1)
    return make_plan("text", config, launch, task.rows, config.batch_size, config.lr, task.fingerprints)


def with_ray(
    storage: LocalStorage, ready: token_store.Ready, config: ThinkerConfig, number: int
) -> tuple[float, float]:
    """Valid tokens/s and the share of time that waited for data, from the run's own lines after the warmup."""
    task = TextTask(config, ready, "cpu")
    orders = Orders(storage.location, f"run-{time.time_ns()}-{number}")
    lines: list[str] = []
    job = trainer.Job("text", msgspec.json.encode(ready), planned(config, task), orders)
    trainer.fit(job, trainer.Workers(1, 1, False, 1, 60.0), lambda event: lines.append(event.line or ""))
    found = [re.search(r"step (\d+)/.* ([\d,]+) tokens/s .*data-wait ([\d.]+)%", line) for line in lines]
    told = [match for match in found if match and int(match[1]) > WARMUP]
    rates = [float(match[2].replace(",", "")) for match in told]
    return len(rates) / sum(1 / rate for rate in rates), max(float(match[3]) for match in told) / 100


def _run_bare(out: str, kind: str, steps: int, context: int) -> str:
    command = [sys.executable, __file__, "--out", out, "--bare", kind, "--steps", str(steps), "--context", str(context)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[-1]


def bare(out: str, kind: str, steps: int, context: int) -> float:
    """Valid tokens/s of a plain loop: the same model, loss, clipping and optimizer, and nothing else."""
    torch.set_num_threads(1)
    config = configured(steps, context)
    ready = msgspec.json.decode((Path(out) / "ready.json").read_bytes(), type=token_store.Ready)
    task = TextTask(config, ready, "cpu")
    torch.manual_seed(config.seed)
    model = Thinker(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, fused=True)
    batches = [_padded(task, config, step) if kind == "padded" else _packed(task, config, step) for step in range(40)]
    valid, began = 0, 0.0
    for step in range(steps + WARMUP):
        if step == WARMUP:
            valid, began = 0, time.perf_counter()
        tensors = batches[step % len(batches)]
        targets = int((tensors["tokens"][:, 1:] != PAD).sum())
        optimizer.zero_grad()
        (text_loss(model, tensors, "sum") / targets).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        valid += targets
    return valid / (time.perf_counter() - began)


def _packed(task: TextTask, config: ThinkerConfig, step: int) -> dict[str, torch.Tensor]:
    start = step * config.batch_size
    return task.batch(task.rows_at(np.arange(start, start + config.batch_size), config.seed), "train").tensors


def _padded(task: TextTask, config: ThinkerConfig, step: int) -> dict[str, torch.Tensor]:
    """One line a row, as loaders do that pad: one document of each packed row, drawn by chance, and nothing else."""
    dice = np.random.default_rng(step)
    tensors = _packed(task, config, step)
    tokens = tensors["tokens"].clone()
    for row in tokens:
        begins = [*(row == END).nonzero().flatten().tolist(), len(row) - 1]
        chosen = int(dice.integers(max(1, len(begins) - 1)))
        first, following = begins[chosen], begins[min(chosen + 1, len(begins) - 1)]
        line = row[first : following + 1].clone()
        row.fill_(PAD)
        row[: len(line)] = line
    return {**tensors, "tokens": tokens, "documents": torch.ones_like(tensors["documents"])}


def memory(out: Path, gigabytes: float) -> dict[str, Any]:
    """Growth of anonymous memory over many steps that read all over the rows."""
    config = validate({**CONFIG, "max_steps": 200, "d_model": 64, "d_ff": 128, "n_heads": 1, "n_layers": 1, "lr": 1e-4},
                      ThinkerConfig, "train_cpu")  # fmt: skip
    ready = _made_up(out, config, int(gigabytes * 1e9 / BYTES_PER_TOKEN))
    torch.set_num_threads(1)
    task = TextTask(config, ready, "cpu")
    run = Training(task, config, planned(config, task), Orders(str(out), "run", 20), Team.alone(), LocalStorage(out))
    run.run(Hooks())
    before = anonymous()
    run.stop = 200
    run.run(Hooks())
    every = np.random.default_rng(0).integers(0, task.rows, 200_000)
    for start in range(0, len(every), 64):
        task.batch(every[start : start + 64], "train")
    return {
        "rows": task.rows,
        "store_gb": round(task.rows * (config.ctx_len + 1) * 2 / 1e9, 2),
        "anonymous_mb_before": round(before / 1e6),
        "growth_mb": round((anonymous() - before) / 1e6, 1),
    }


def anonymous() -> int:
    text = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", text)[1]) * 1024  # type: ignore[index]


def _made_up(out: Path, config: ThinkerConfig, tokens: int) -> token_store.Ready:
    """A store of random rows."""
    dice, rows_a_block = np.random.default_rng(0), 16_384
    recipe = token_store.Recipe("made up", "made up", config.vocab_size, config.ctx_len, 0.0)
    folder = f"stores/text-{recipe.fingerprint}"
    storage = LocalStorage(out)
    block = dice.integers(2, config.vocab_size, (rows_a_block, config.ctx_len + 1)).astype("<u2")
    part, none = token_store.Part(rows_a_block, rows_a_block * config.ctx_len, 1), token_store.Part(0, 0, 0)
    count = tokens // (rows_a_block * config.ctx_len) + 1
    for number in range(count):
        storage.put(f"{folder}/train-{number:06d}.bin", block.tobytes())
    receipts = [token_store.Receipt(number, rows_a_block, 0, part, none) for number in range(count)]
    from omni_ray.train import tokenizer

    storage.put(f"{folder}/{token_store.TOKENIZER}", tokenizer.train(["made up"], 300).encode())
    storage.put(f"{folder}/{token_store.MANIFEST}", msgspec.json.encode(token_store.Manifest(recipe, receipts)))
    return token_store.Ready(storage.location, folder)


if __name__ == "__main__":
    main()
