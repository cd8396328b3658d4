"""Stage A: the thinker learns to predict the next token of packed text."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

from omni_ray.config import StageConfig, ThinkerConfig
from omni_ray.models.generate import generate
from omni_ray.models.layers import Attend, document_mask, documents_within
from omni_ray.models.thinker import Thinker
from omni_ray.storage import Storage
from omni_ray.train import packing
from omni_ray.train import tokenizer as tokenizers
from omni_ray.train.corpus import find
from omni_ray.train.packing import END, PAD
from omni_ray.train.task import Batch, Rows, Task, Tensors
from omni_ray.train.token_store import TOKENIZER, Ready, RunTasks, TokenStore, build

EXAMPLE_TOKENS = 64


SMOKE: Mapping[str, Any] = {
    "vocab_size": 2048,
    "n_layers": 2,
    "d_model": 128,
    "d_ff": 384,
    "n_heads": 2,
    "kv_groups": 1,
    "ctx_len": 128,
    "dropout": 0.0,
    "lr": 3e-3,
    "batch_size": 16,
    "gradient_accumulation_steps": 1,
    "max_epochs": 1,
    "max_steps": 200,
    "warmup_steps": 20,
    "val_freq": 100,
    "val_batches": 8,
    "checkpoint_freq": 100,
    "print_freq": 20,
    "derived_from": None,
}


def prepare(config: StageConfig, storage: Storage, run_tasks: RunTasks) -> bytes:
    """Tokenizer and token store, made where they are not there yet; what `open_task` needs to find them.

    Raises:
        DataError: where the corpus cannot be used.
    """
    assert isinstance(config, ThinkerConfig)
    corpus = find(config.train_text)
    ready = build(storage, corpus, config.vocab_size, config.ctx_len, config.val_split, run_tasks)
    return msgspec.json.encode(ready)


def open_task(config: StageConfig, prepared: bytes, device: str) -> "TextTask":
    assert isinstance(config, ThinkerConfig)
    return TextTask(config, msgspec.json.decode(prepared, type=Ready), device)


class TextTask(Task):
    """Rows of a token store; cross-entropy summed over tokens."""

    stage = "text"

    def __init__(self, config: ThinkerConfig, ready: Ready, device: str) -> None:
        self._config, self._store = config, TokenStore(ready)
        self.rows, self.validation_rows = self._store.count("train"), self._store.count("validation")
        recipe = self._store.manifest.recipe
        self.fingerprints = {"corpus": recipe.corpus, "tokenizer": recipe.tokenizer, "rows": recipe.fingerprint}
        self.files = {TOKENIZER: self._store.tokenizer.encode()}
        self._tokenizer = tokenizers.load(self._store.tokenizer)
        self._bytes = torch.from_numpy(tokenizers.bytes_of_tokens(self._tokenizer, config.vocab_size)).to(device)
        self._flash = device == "cuda" and config.use_flash and config.use_amp  # the kernel takes half precision only

    def build(self) -> Thinker:
        return Thinker(self._config, self._config.dropout)

    def batch(self, rows: Rows, split: str) -> Batch:
        stored = self._store.rows(split, rows)
        inputs = stored[:, :-1]
        tensors = {"tokens": torch.from_numpy(stored.astype("int64"))}
        if self._flash:
            bounds = packing.document_bounds(inputs, self._store.most_pieces(split))
            tensors["bounds"] = torch.from_numpy(bounds)
        else:
            tensors["documents"] = torch.from_numpy(packing.document_numbers(inputs))
        return Batch(tensors, packing.valid_targets(stored), inputs.size)

    def loss(self, model: nn.Module, tensors: Tensors) -> Tensor:
        assert isinstance(model, Thinker)
        return text_loss(model, tensors, "sum")

    def measure(self, model: nn.Module, tensors: Tensors) -> Tensors:
        assert isinstance(model, Thinker)
        targets = tensors["tokens"][:, 1:]
        return {
            "loss": text_loss(model, tensors, "sum"),
            "targets": (targets != PAD).sum(),
            "bytes": self._bytes[targets].sum(),
        }

    def summarise(self, sums: Mapping[str, float]) -> dict[str, float]:
        loss = sums["loss"] / sums["targets"]
        return {"loss": loss, "bits_per_byte": sums["loss"] / math.log(2) / sums["bytes"]}

    def flops_per_target(self, model: nn.Module) -> float:
        assert isinstance(model, Thinker)
        return model.flops_per_token(self._config.ctx_len)

    def examples(self, model: nn.Module) -> Mapping[str, bytes]:
        """What the model writes when nothing is given."""
        assert isinstance(model, Thinker)
        drawn = generate(model, [END], END, EXAMPLE_TOKENS, temperature=0.8, top_p=0.95, seed=self._config.seed)
        text = self._tokenizer.decode(list(drawn))
        return {"text.txt": f"{text}\n".encode()}


def text_loss(model: Thinker, tensors: Tensors, reduction: str) -> Tensor:
    """Cross-entropy of the targets, summed (`sum`) or one by one (`none`) as `[batch, time]`; PAD does not count."""
    inputs, targets = tensors["tokens"][:, :-1], tensors["tokens"][:, 1:]
    if "bounds" in tensors:
        attend = Attend(bounds=tensors["bounds"])
        documents = documents_within(tensors["bounds"], *inputs.shape) if model.ngrams is not None else None
    else:
        documents = tensors["documents"]
        attend = Attend(mask=document_mask(documents))
    hidden, balance = model(model.embed(inputs, documents), attend)
    logits = model.logits(hidden).float()
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction=reduction)
    if reduction == "none":
        return losses.view_as(targets)
    if model.training and model.shape.use_moe:
        losses = losses + balance * (targets != PAD).sum()
    return losses
