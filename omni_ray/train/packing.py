"""Packing: documents into rows of a fixed number of tokens. Pure and deterministic.

A document `t1 ... tn` is trained as the sequence `END t1 ... tn END`: END says that a document begins, and is what its
last token predicts. A row has `ctx_len` inputs and one token more, the last input's target, so it is stored as
`ctx_len + 1` tokens of which inputs are all but the last and targets all but the first. The END that a document
predicts is the one that begins the next. A row that is not full ends in END, then PAD; only there a target is PAD.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

END, PAD = 0, 1  # token ids of every tokenizer here
Tokens = npt.NDArray[np.integer]

MOST_GAP = 128  # a gap of up to 1/128 of a row is left; a larger one is filled with the beginning of a document


class Piece(NamedTuple):
    """Inputs [start, stop) of the sequence of a document; a whole one has len(tokens) + 1 inputs."""

    document: int
    start: int
    stop: int


def pack(documents: Sequence[Tokens], ctx_len: int, dtype: npt.DTypeLike) -> tuple[Tokens, int]:
    """Rows `[rows, ctx_len + 1]`, and the most pieces in one row."""
    plan = plan_rows([len(document) + 1 for document in documents], ctx_len)
    rows = np.full((len(plan), ctx_len + 1), PAD, dtype)
    for row, pieces in zip(rows, plan, strict=True):
        at = 0
        for document, start, stop in pieces:
            sequence = np.concatenate(([END], documents[document], [END]))
            row[at : at + stop - start + 1] = sequence[start : stop + 1]
            at += stop - start
    return rows, max((len(pieces) for pieces in plan), default=0)


def plan_rows(lengths: Sequence[int], ctx_len: int) -> list[list[Piece]]:
    """Which pieces make up each row, for documents of these many inputs.

    Best fit, longest first. A document is cut only where it is longer than a row, or where no whole one fits a gap that
    is too large to leave; its rest then begins the next row, so that a piece without END is always a row's first.
    """
    waiting = _Waiting(lengths)
    plan: list[list[Piece]] = []
    rest: Piece | None = None
    while rest is not None or waiting.any():
        row: list[Piece] = []
        space = ctx_len
        while space and (rest is not None or waiting.any()):
            piece = rest or waiting.longest_within(space)
            if piece is None:
                if row and space <= ctx_len // MOST_GAP:
                    break
                piece = waiting.longest()
            rest = None
            if piece.stop - piece.start > space:
                rest = piece._replace(start=piece.start + space)
                piece = piece._replace(stop=rest.start)
            row.append(piece)
            space -= piece.stop - piece.start
        plan.append(row)
    return plan


class _Waiting:
    """Documents by length; `_there` has a bit set for every length that has one."""

    def __init__(self, lengths: Sequence[int]) -> None:
        self._by_length: dict[int, list[int]] = {}
        self._there = 0
        for document in reversed(range(len(lengths))):  # so that equal ones leave in their order
            self._by_length.setdefault(lengths[document], []).append(document)
            self._there |= 1 << lengths[document]

    def any(self) -> bool:
        return self._there != 0

    def longest(self) -> Piece:
        return self._take(self._there.bit_length() - 1)

    def longest_within(self, space: int) -> Piece | None:
        fits = self._there & ((1 << (space + 1)) - 1)
        return self._take(fits.bit_length() - 1) if fits else None

    def _take(self, length: int) -> Piece:
        documents = self._by_length[length]
        document = documents.pop()
        if not documents:
            self._there ^= 1 << length
        return Piece(document, 0, length)


def document_numbers(inputs: Tokens) -> npt.NDArray[np.int32]:
    """For each input `[rows, ctx_len]` the number of its document in its row."""
    return np.cumsum(inputs == END, axis=1, dtype=np.int32)


def document_bounds(inputs: Tokens, most_pieces: int) -> npt.NDArray[np.int32]:
    """Where documents begin in `[rows, ctx_len]` laid end to end, then the length, repeated up to a fixed size.

    `most_pieces`: the most pieces in one row; what is padded is one more.
    """
    begins = inputs == END
    begins[:, 0] = True
    starts = np.flatnonzero(begins)
    bounds = np.full(len(inputs) * (most_pieces + 1) + 1, inputs.size, np.int32)
    bounds[: len(starts)] = starts
    return bounds


def valid_targets(rows: Tokens) -> int:
    """How many positions of stored rows have a target."""
    return int(np.count_nonzero(rows[:, 1:] != PAD))
