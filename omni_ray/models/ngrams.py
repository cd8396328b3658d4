"""Embeddings of the last few tokens taken together, looked up by a hash (arXiv 2501.16975).

A table costs a look-up per token and no multiplication, so a small model gets for next to nothing what it would
otherwise spend its layers on: which tokens follow the last two or three.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn

# Odd numbers that spread bits (splitmix64: Steele, Lea and Flood, 2014), as signed 64-bit: products may overflow.
_MULTIPLY = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)


class NGrams(nn.Module):
    """One table for each size; two grams that meet in a row share it.

    A gram ends at its token, and holds no token of another document: what would be before the first is a token of its
    own kind, so the first tokens of a document have grams too.
    """

    def __init__(self, sizes: Sequence[int], rows: int, width: int, d_model: int) -> None:
        super().__init__()
        self.sizes, self.rows = tuple(sizes), rows
        self.tables = nn.ModuleList(nn.Embedding(rows, width) for _ in sizes)
        self.project = nn.Linear(width * len(sizes), d_model, bias=False)

    @property
    def reach(self) -> int:
        """How many tokens before its own the longest gram has."""
        return max(self.sizes) - 1

    def forward(self, tokens: Tensor, documents: Tensor | None = None) -> Tensor:
        """`[batch, time]` integers to `[batch, time, d_model]`.

        `documents`: integers `[batch, time]`, equal within a document; None where there is one alone.
        """
        found = [table(place) for table, place in zip(self.tables, self.places(tokens, documents), strict=True)]
        embedded: Tensor = self.project(torch.cat(found, dim=-1))
        return embedded

    def places(self, tokens: Tensor, documents: Tensor | None) -> list[Tensor]:
        """The row of each gram in its table, `[batch, time]` for each size."""
        codes = {1: tokens + 1}
        for back in range(1, self.reach + 1):
            earlier = F.pad(tokens[:, :-back] + 1, (min(back, tokens.shape[1]), 0))
            if documents is not None:
                same = F.pad(documents[:, :-back] == documents[:, back:], (min(back, tokens.shape[1]), 0))
                earlier = torch.where(same, earlier, 0)
            codes[back + 1] = _mix(codes[back]) + earlier
        return [_mix(codes[size]) % self.rows for size in self.sizes]


def _mix(values: Tensor) -> Tensor:
    values = (values ^ (values >> 30)) * _MULTIPLY[0]
    values = (values ^ (values >> 27)) * _MULTIPLY[1]
    return values ^ (values >> 31)
