"""The thinker: a decoder-only language model (stage A; the core of stage E)."""

import math

import torch
from torch import Tensor, nn

from omni_ray.config import ThinkerShape
from omni_ray.models.layers import (
    AUX_WEIGHT,
    Attend,
    Attention,
    AttentionShape,
    Experts,
    FeedForward,
    KeyValues,
    RMSNorm,
)
from omni_ray.models.ngrams import NGrams

VOCAB_MULTIPLE = 128  # matrix sizes that fit the hardware; the added rows are never a target
INIT_STD = 0.02


class Block(nn.Module):
    """Pre-norm attention and feed-forward, each added to its input."""

    def __init__(self, shape: ThinkerShape, dropout: float) -> None:
        super().__init__()
        kv_heads = shape.kv_groups if shape.use_gqa else shape.n_heads
        self.norm_attention, self.norm_forward = RMSNorm(shape.d_model), RMSNorm(shape.d_model)
        self.attention = Attention(
            AttentionShape(shape.d_model, shape.n_heads, kv_heads, shape.ctx_len, shape.rope_theta)
        )
        self.forward_layer: FeedForward | Experts = (
            Experts(shape.d_model, shape.d_ff, shape.use_swiglu, shape.num_experts, shape.num_experts_per_tok)
            if shape.use_moe
            else FeedForward(shape.d_model, shape.d_ff, shape.use_swiglu)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, attend: Attend, cache: KeyValues | None, layer: int) -> tuple[Tensor, Tensor | None]:
        x = x + self.dropout(self.attention(self.norm_attention(x), attend, cache, layer))
        mixed, balance = self.forward_layer(self.norm_forward(x))
        return x + self.dropout(mixed), balance


class Thinker(nn.Module):
    """Token ids to hidden states to logits; the output layer is the embedding, transposed."""

    def __init__(self, shape: ThinkerShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        rows = -(-shape.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE
        self.embedding = nn.Embedding(rows, shape.d_model)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(shape, dropout) for _ in range(shape.n_layers))
        self.norm = RMSNorm(shape.d_model)
        self.ngrams = (
            NGrams(shape.ngram_sizes, shape.ngram_rows, shape.ngram_dim, shape.d_model) if shape.ngram_sizes else None
        )
        self._initialise()

    def forward(self, embedded: Tensor, attend: Attend, cache: KeyValues | None = None) -> tuple[Tensor, Tensor]:
        """Hidden states `[batch, time, d_model]`, and the load-balancing loss of all layers, weighted (a scalar).

        `embedded`: `[batch, time, d_model]`, tokens through `embed`, or features in their place. With a cache these are
        the positions behind the cached ones, of one document.
        """
        x = self.dropout(embedded)
        balance = x.new_zeros((), dtype=torch.float32)
        for layer, block in enumerate(self.blocks):
            x, uneven = block(x, attend, cache, layer)
            if uneven is not None:
                balance = balance + AUX_WEIGHT * uneven
        if cache is not None:
            cache.length += embedded.shape[1]
        return self.norm(x), balance

    def embed(self, tokens: Tensor, documents: Tensor | None = None, cache: KeyValues | None = None) -> Tensor:
        """`[batch, time]` integers to `[batch, time, d_model]`.

        `documents`: integers `[batch, time]`, equal within a document; None where a row is one. With a cache these are
        the tokens behind the cached ones, of one document.
        """
        embedded: Tensor = self.embedding(tokens)
        if self.ngrams is None:
            return embedded
        seen = tokens if cache is None else cache.extend_tokens(tokens, self.ngrams.reach)
        grams: Tensor = self.ngrams(seen, documents)
        return embedded + grams[:, -tokens.shape[1] :]

    def logits(self, hidden: Tensor) -> Tensor:
        """`[..., d_model]` to `[..., vocabulary, rounded up]`."""
        return nn.functional.linear(hidden, self.embedding.weight)

    def flops_per_token(self, context: int) -> float:
        """Floating point operations of a forward and backward pass, for one token (arXiv 2204.02311, appendix B).

        Counts the layers that a token goes through and the whole attention matrix over `context` positions.
        """
        shape = self.shape
        active = self.embedding.weight.numel() + sum(
            parameter.numel() for block in self.blocks for parameter in block.parameters()
        )
        if shape.use_moe:
            expert = shape.d_model * shape.d_ff * (3 if shape.use_swiglu else 2)
            active -= shape.n_layers * (shape.num_experts - shape.num_experts_per_tok) * expert
        if self.ngrams is not None:  # a look-up is no multiplication
            active += self.ngrams.project.weight.numel()
        return 6.0 * active + 12.0 * shape.n_layers * shape.d_model * context

    def _initialise(self) -> None:
        """Normal weights; what writes into the residual stream is smaller by the number of writes (GPT-2)."""
        into_residual = INIT_STD / math.sqrt(2 * self.shape.n_layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2:
                nn.init.normal_(parameter, std=into_residual if "project_out" in name else INIT_STD)
        if self.ngrams is not None:  # grams come out as large as tokens
            nn.init.normal_(self.ngrams.project.weight, std=self.ngrams.project.in_features**-0.5)
