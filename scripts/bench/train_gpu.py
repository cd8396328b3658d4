"""Tokens/s and MFU of stage A on one GPU, without Ray: the engine that training uses, on made-up packed rows.

python scripts/bench/train_gpu.py [--out result.json] [--steps 30] [--tiny]

For 17M and 124M parameters at a context of 1,024: micro-batches of several sizes, compiled and not. After the warmup
nothing may be compiled again; the table shows how often it was. MFU counts 6 operations for each parameter that a token
goes through and the whole attention matrix (arXiv 2204.02311), by the data sheet's dense bf16 peak. `--tiny` runs a toy
on whatever device there is, to see that the script works.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch._dynamo.utils import counters

from omni_ray.config import ThinkerConfig, validate
from omni_ray.models.thinker import Thinker
from omni_ray.train import packing
from omni_ray.train.engine import Engine
from omni_ray.train.peak import peak_flops
from omni_ray.train.stages.text import text_loss
from omni_ray.train.task import Batch, Rows, Task, Tensors
from omni_ray.train.team import Team

WARMUP = 10
SHAPES: dict[str, dict[str, Any]] = {
    "17M": {"vocab_size": 1024, "n_layers": 9, "d_model": 512, "d_ff": 1024, "n_heads": 8, "kv_groups": 4},
    "124M": {"vocab_size": 50304, "n_layers": 12, "d_model": 768, "d_ff": 2048, "n_heads": 12, "kv_groups": 12},
    "tiny": {"vocab_size": 256, "n_layers": 1, "d_model": 32, "d_ff": 64, "n_heads": 2, "kv_groups": 1},
}
COMMON: dict[str, Any] = {
    "ctx_len": 1024, "wd": 0.1, "dropout": 0.0, "max_epochs": 1, "max_steps": 1000, "warmup_steps": 10,
    "save_dir": "run", "train_text": "made up", "lr": 1e-3,
}  # fmt: skip


class Variant(NamedTuple):
    shape: str
    ctx_len: int
    batch_size: int
    compiled: bool
    flash: bool


class MadeUp(Task):
    """Rows of documents of 20 to 2,000 random tokens, packed as a corpus is."""

    stage = "text"
    fingerprints: Mapping[str, str] = {}
    files: Mapping[str, bytes] = {}

    def __init__(self, config: ThinkerConfig, flash: bool) -> None:
        self._config, self._flash = config, flash
        dice = np.random.default_rng(0)
        lengths = dice.integers(20, 2000, 40 * config.ctx_len * config.batch_size // 1000)
        documents = [dice.integers(2, config.vocab_size, length).astype(np.int64) for length in lengths]
        self._rows, self._pieces = packing.pack(documents, config.ctx_len, np.int64)
        self.rows, self.validation_rows = len(self._rows), 0

    def build(self) -> Thinker:
        return Thinker(self._config, self._config.dropout)

    def batch(self, rows: Rows, split: str) -> Batch:
        stored = self._rows[rows]
        tensors = {"tokens": torch.from_numpy(stored)}
        if self._flash:
            tensors["bounds"] = torch.from_numpy(packing.document_bounds(stored[:, :-1], self._pieces))
        else:
            tensors["documents"] = torch.from_numpy(packing.document_numbers(stored[:, :-1]))
        return Batch(tensors, packing.valid_targets(stored), stored[:, :-1].size)

    def loss(self, model: nn.Module, tensors: Tensors) -> Tensor:
        return text_loss(model, tensors, "sum")  # type: ignore[arg-type]

    def measure(self, model: nn.Module, tensors: Tensors) -> Tensors:
        return {"loss": self.loss(model, tensors)}

    def summarise(self, sums: Mapping[str, float]) -> dict[str, float]:
        return dict(sums)


def variants(tiny: bool, cuda: bool) -> Iterator[Variant]:
    if tiny:
        yield Variant("tiny", 64, 4, False, False)
        return
    for shape, sizes in (("17M", (32, 64, 128)), ("124M", (16, 32, 64))):
        for batch_size in sizes:
            yield Variant(shape, 1024, batch_size, True, cuda)
        yield Variant(shape, 1024, sizes[1], False, cuda)
        yield Variant(shape, 1024, sizes[1], True, False)


def measure(variant: Variant, device: torch.device, steps: int) -> dict[str, Any]:
    """Seconds of `steps` optimizer steps after the warmup, on batches that are on the device already."""
    values = {**COMMON, **SHAPES[variant.shape], "ctx_len": variant.ctx_len, "batch_size": variant.batch_size}
    config = validate({**values, "use_compile": variant.compiled}, ThinkerConfig, "train_gpu")
    task = MadeUp(config, variant.flash)
    torch._dynamo.reset()
    engine = Engine(task, config, Team(0, 1, device))
    batches = []
    for number in range(8):
        rows = (np.arange(config.batch_size) + number * config.batch_size) % task.rows
        batch = task.batch(rows, "train")
        batches.append(({name: value.to(device) for name, value in batch.tensors.items()}, batch.targets))
    valid, began, graphs = 0, 0.0, 0
    for step in range(steps + WARMUP):
        if step == WARMUP:
            _wait(device)
            valid, began, graphs = 0, time.perf_counter(), counters["stats"]["unique_graphs"]
        tensors, targets = batches[step % len(batches)]
        engine.step(step, [tensors], targets, config.lr)
        valid += targets
    _wait(device)
    rate = valid / (time.perf_counter() - began)
    peak = peak_flops(device, 1)
    flops = engine.model.flops_per_token(config.ctx_len)  # type: ignore[operator]
    return {
        **variant._asdict(),
        "parameters": sum(parameter.numel() for parameter in engine.model.parameters()),
        "tokens_per_s": round(rate),
        "mfu": None if peak is None else round(rate * flops / peak, 4),
        "memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2) if device.type == "cuda" else None,
        "recompiles": counters["stats"]["unique_graphs"] - graphs,
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", help="write the figures as JSON here")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--tiny", action="store_true", help="a toy, on any device")
    arguments = parser.parse_args()
    cuda = torch.cuda.is_available()
    if not cuda and not arguments.tiny:
        raise SystemExit("no GPU here: nothing is measured; --tiny shows that the script runs")
    device = torch.device("cuda" if cuda else "cpu")
    torch.set_float32_matmul_precision("high")
    found = []
    for variant in variants(arguments.tiny, cuda):
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        found.append(measure(variant, device, arguments.steps))
        print(json.dumps(found[-1]), flush=True)
    name = torch.cuda.get_device_name() if cuda else "cpu"
    if arguments.out:
        Path(arguments.out).write_text(
            json.dumps({"device": name, "torch": torch.__version__, "runs": found}, indent=1)
        )
    table = Table(title=name)
    for column in found[0]:
        table.add_column(column)
    for row in found:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
