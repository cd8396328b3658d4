"""Does stage A learn? Bits per byte on held-out documents, against an interpolated Kneser-Ney 5-gram.

python scripts/bench/learn.py --corpus data/text/production_corpus.txt --out /tmp/learn [--stop-at STEP] [--set k=v]

Both see the same documents as the same BPE tokens, and both are charged for every held-out byte (the newline that ends
a document included). The thinker is trained by the loop that `omni-ray train` runs, on this process's threads; the same
command goes on where it stopped, so that a run can be cut into pieces. Seconds of training are added up over the
pieces: wall time, and CPU time, which other work on the machine does not add to.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from omni_ray.config import ThinkerConfig, validate
from omni_ray.schedule import rederive
from omni_ray.storage import LocalStorage
from omni_ray.train import token_store
from omni_ray.train import tokenizer as tokenizers
from omni_ray.train.corpus import find
from omni_ray.train.loop import Hooks, Training
from omni_ray.train.packing import END, PAD
from omni_ray.train.plan import Orders, make_plan
from omni_ray.train.stages.text import TextTask
from omni_ray.train.team import Team
from omni_ray.train.token_store import TokenStore
from scripts.bench import _measure
from scripts.bench.kneser_ney import KneserNey

ORDER = 5
CONFIG: dict[str, Any] = {
    "vocab_size": 4096, "n_layers": 4, "d_model": 192, "d_ff": 512, "n_heads": 3, "kv_groups": 3, "ctx_len": 256,
    "ngram_sizes": [2, 3], "ngram_rows": 65536, "ngram_dim": 32, "use_amp_cpu": True, "use_compile_cpu": True,
    "dropout": 0.0, "lr": 4e-3, "lr_schedule": "wsd", "decay_fraction": 0.9, "wd": 0.1, "batch_size": 8,
    "max_steps": 1600, "max_epochs": 1, "warmup_steps": 100, "val_freq": 200, "val_batches": 20,
    "checkpoint_freq": 200, "print_freq": 50, "seed": 42, "save_dir": "learn", "train_text": "corpus.txt",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpus", required=True, help="a prepared corpus")
    parser.add_argument("--out", required=True, help="a folder for the store, the run and the result")
    parser.add_argument("--stop-at", type=int, help="end this piece after that step")
    parser.add_argument("--threads", type=int, default=1, help="(default: 1)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="another config value")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    changes = {key: json.loads(value) for key, _, value in (one.partition("=") for one in arguments.set)}
    config = validate({**CONFIG, **changes}, ThinkerConfig, "learn")
    storage = LocalStorage(arguments.out)
    corpus = find(arguments.corpus)
    ready = token_store.build(storage, corpus, config.vocab_size, config.ctx_len, config.val_split, run_here)
    task = TextTask(config, ready, "cpu")
    plan = make_plan(
        "text", config, rederive(config.figures, None, task.rows, config.batch_size, 1, 1, config.lr_schedule,
        config.decay_fraction), task.rows, config.batch_size, config.lr, task.fingerprints,
    )  # fmt: skip
    run = Training(task, config, plan, Orders(str(storage.root), "run", arguments.stop_at), Team.alone(), storage)
    result = Path(arguments.out) / "result.json"
    spent = json.loads(result.read_text()) if result.exists() and run.step else {"wall_s": 0.0, "cpu_s": 0.0}
    began, cpu = time.perf_counter(), time.process_time()
    run.run(Hooks(say=lambda line: print(line, flush=True)))
    spent["wall_s"] += time.perf_counter() - began
    spent["cpu_s"] += time.process_time() - cpu
    spent["step"] = run.step
    if run.step == plan.max_steps:
        spent |= compare(run, task, token_store.TokenStore(ready), config)
    result.write_text(json.dumps(spent, indent=1) + "\n")
    print(json.dumps(spent, indent=1))
    if "better_by" in spent:
        _measure.ratio(
            "Kneser-Ney's bits per byte / the thinker's",
            spent["kneser_ney_bits_per_byte"] / spent["thinker_bits_per_byte"],
            1,
        )


def run_here(work: Any, tasks: Sequence[tuple[bytes, int]]) -> Iterator[bytes]:
    for task, _ in tasks:
        yield from work(task)


def compare(run: Training, task: TextTask, store: TokenStore, config: ThinkerConfig) -> dict[str, Any]:
    """Both models on all held-out documents."""
    sums = dict.fromkeys(("loss", "targets", "bytes"), 0.0)
    with run.engine.evaluating() as model:
        for start in range(0, task.validation_rows, config.batch_size):
            rows = np.arange(start, min(start + config.batch_size, task.validation_rows), dtype=np.int64)
            for name, value in task.measure(model, task.batch(rows, "validation").tensors).items():
                sums[name] += float(value)
    held_out, train = documents(store, "validation"), documents(store, "train")
    counts = tokenizers.bytes_of_tokens(tokenizers.load(store.tokenizer), config.vocab_size)
    size = sum(int(counts[document[1:]].sum()) for document in held_out)
    if (size, sum(len(document) - 1 for document in held_out)) != (sums["bytes"], sums["targets"]):
        raise SystemExit("the two models were not charged for the same bytes")
    grams = KneserNey(train, ORDER, config.vocab_size, END)
    ours = sums["loss"] / np.log(2) / size
    theirs = sum(grams.bits(document) for document in held_out) / size
    return {
        "parameters": sum(parameter.numel() for parameter in run.engine.model.parameters()),
        "train_documents": len(train),
        "held_out_documents": len(held_out),
        "held_out_bytes": size,
        "tokens_seen": run.step * config.batch_size * config.ctx_len,
        "thinker_bits_per_byte": round(float(ours), 4),
        "kneser_ney_bits_per_byte": round(theirs, 4),
        "better_by": round(1 - float(ours) / theirs, 4),
    }


def documents(store: TokenStore, split: str) -> list[Any]:
    """The documents of a split as `END t1 ... tn END`, put together again where packing cut them."""
    inputs = store.rows(split, np.arange(store.count(split)))[:, :-1].ravel().astype(np.int64)
    inputs = inputs[inputs != PAD]
    return [np.append(part, END) for part in np.split(inputs, np.flatnonzero(inputs == END))[1:] if len(part) > 1]


if __name__ == "__main__":
    main()
