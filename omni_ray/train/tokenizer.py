"""Byte-level BPE, trained on the corpus. Any text can be encoded, and decodes to itself."""

import os
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from omni_ray.train.packing import END, PAD

SPECIAL = {END: "<|end|>", PAD: "<|pad|>"}
LEAST_VOCABULARY = 256 + len(SPECIAL)


def train(lines: Iterable[str], vocab_size: int) -> str:
    """A tokenizer of at most `vocab_size` tokens, as JSON. The same lines give the same bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        show_progress=False,
        special_tokens=[SPECIAL[number] for number in sorted(SPECIAL)],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(lines, trainer)
    return str(tokenizer.to_str())


def load(text: str) -> Tokenizer:
    """The tokenizer that `train` wrote. Text that spells a special token is text: it never becomes one."""
    tokenizer = Tokenizer.from_str(text)
    tokenizer.encode_special_tokens = True
    return tokenizer


def single_threaded() -> None:
    """In a worker that has one CPU: the library would take them all. Called before its first use."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def bytes_of_tokens(tokenizer: Tokenizer, vocab_size: int) -> npt.NDArray[np.int64]:
    """How many bytes of a corpus each token stands for; END stands for the newline, PAD for nothing."""
    counts = np.zeros(vocab_size, np.int64)
    for token, number in tokenizer.get_vocab().items():
        counts[number] = len(token)  # a character of a byte-level token is a byte
    counts[END], counts[PAD] = 1, 0
    return counts
