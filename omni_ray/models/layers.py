"""What transformers here are made of. Shapes: `[batch, time, d_model]`; a head is `d_model / n_heads` wide.

Norms and rotations are computed in fp32 whatever autocast does around them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody knows
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn

AUX_WEIGHT = 0.01  # of the load-balancing loss: arXiv 2101.03961


class Attend(NamedTuple):
    """Which positions see each other; one of the two forms, causal in both.

    `mask`: `[batch, 1, time, time]`, True where a query (third axis) sees a key. Works on every device.
    `bounds`: int32 `[documents + 1]`, where documents begin in the batch laid end to end, then its length, repeated up
    to a fixed size; for the flash kernel on CUDA.
    """

    mask: Tensor | None = None
    bounds: Tensor | None = None


def document_mask(documents: Tensor) -> Tensor:
    """The mask `[batch, 1, time, time]` under which a position sees those of its own document up to itself.

    `documents`: integer `[batch, time]`, equal within a document.
    """
    same = documents[:, None, :, None] == documents[:, None, None, :]
    return same & same.new_ones(documents.shape[1:] * 2).tril()


def documents_within(bounds: Tensor, batch: int, time: int) -> Tensor:
    """The number of each position's document, `[batch, time]`; `bounds` as `Attend` has them."""
    places = torch.arange(batch * time, device=bounds.device, dtype=bounds.dtype)
    return torch.bucketize(places, bounds, right=True).view(batch, time)


class RMSNorm(nn.Module):
    """Root mean square norm (arXiv 1910.07467), in fp32."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(x.dtype)


class Rotary(nn.Module):
    """Rotary position embedding (arXiv 2104.09864): pairs are the two halves of a head."""

    def __init__(self, width: int, positions: int, theta: float) -> None:
        super().__init__()
        frequency = theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        angle = torch.outer(torch.arange(positions, dtype=torch.float64), frequency)
        self.register_buffer("cos", angle.cos().float(), persistent=False)
        self.register_buffer("sin", angle.sin().float(), persistent=False)
        self.cos: Tensor
        self.sin: Tensor

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Rotate `[batch, time, heads, width]`, whose first position is `start`."""
        stop = start + x.shape[1]
        cos, sin = self.cos[start:stop, None, :], self.sin[start:stop, None, :]
        first, second = x.float().chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1).to(x.dtype)


class KeyValues:
    """Keys and values of the positions so far, of every layer; `[batch, positions, kv_heads, width]` each.

    And the last tokens, where a model looks them up several at once.
    """

    def __init__(self, layers: int) -> None:
        self._keys: list[Tensor | None] = [None] * layers
        self._values: list[Tensor | None] = [None] * layers
        self._tokens: Tensor | None = None
        self.length = 0

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        old_key, old_value = self._keys[layer], self._values[layer]
        if old_key is not None and old_value is not None:
            key, value = torch.cat((old_key, key), dim=1), torch.cat((old_value, value), dim=1)
        self._keys[layer], self._values[layer] = key, value
        return key, value

    def extend_tokens(self, tokens: Tensor, reach: int) -> Tensor:
        """`tokens` `[batch, time]` behind up to `reach` that came before them."""
        seen = tokens if self._tokens is None else torch.cat((self._tokens, tokens), dim=1)
        self._tokens = seen[:, -reach:]
        return seen


@dataclass(frozen=True)
class AttentionShape:
    """`kv_heads` heads of keys and values are shared by `n_heads` heads of queries (arXiv 2305.13245)."""

    d_model: int
    n_heads: int
    kv_heads: int
    positions: int
    rope_theta: float


class Attention(nn.Module):
    """Causal self-attention with shared key-value heads, rotary positions and normed queries and keys."""

    def __init__(self, shape: AttentionShape) -> None:
        super().__init__()
        self.n_heads, self.kv_heads = shape.n_heads, shape.kv_heads
        self.width = shape.d_model // shape.n_heads
        self.project_in = nn.Linear(shape.d_model, (shape.n_heads + 2 * shape.kv_heads) * self.width, bias=False)
        self.project_out = nn.Linear(shape.d_model, shape.d_model, bias=False)
        self.norm_query, self.norm_key = RMSNorm(self.width), RMSNorm(self.width)  # arXiv 2302.05442
        self.rotary = Rotary(self.width, shape.positions, shape.rope_theta)

    def forward(self, x: Tensor, attend: Attend, cache: KeyValues | None = None, layer: int = 0) -> Tensor:
        batch, time, _ = x.shape
        heads = self.project_in(x).view(batch, time, -1, self.width)
        query, key, value = heads.split((self.n_heads, self.kv_heads, self.kv_heads), dim=2)
        start = 0 if cache is None else cache.length
        query = self.rotary(self.norm_query(query), start)
        key = self.rotary(self.norm_key(key), start)
        if cache is not None:
            key, value = cache.extend(layer, key, value)
        shared = self.n_heads // self.kv_heads
        if shared > 1:
            key, value = key.repeat_interleave(shared, dim=2), value.repeat_interleave(shared, dim=2)
        mixed: Tensor = self.project_out(self._mix(query, key, value, attend, start).reshape(batch, time, -1))
        return mixed

    def _mix(self, query: Tensor, key: Tensor, value: Tensor, attend: Attend, start: int) -> Tensor:
        """`[batch, time, heads, width]` in and out."""
        batch, time = query.shape[:2]
        if attend.bounds is not None:
            flat = [x.reshape(batch * time, self.n_heads, self.width) for x in (query, key, value)]
            mixed = varlen_attn(
                flat[0], flat[1], flat[2], attend.bounds, attend.bounds, time, time, window_size=(-1, 0)
            )
            assert isinstance(mixed, Tensor)
            return mixed.view(batch, time, self.n_heads, self.width)
        mask = attend.mask
        if mask is None and start and time > 1:  # several new positions behind cached ones
            mask = torch.ones(time, start + time, dtype=torch.bool, device=query.device).tril(start)
        causal = mask is None and start == 0
        query, key, value = (x.transpose(1, 2) for x in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
        return mixed.transpose(1, 2)


class FeedForward(nn.Module):
    """SwiGLU (arXiv 2002.05202), or a GELU layer."""

    def __init__(self, d_model: int, d_ff: int, swiglu: bool) -> None:
        super().__init__()
        self.swiglu = swiglu
        self.project_in = nn.Linear(d_model, d_ff * (2 if swiglu else 1), bias=False)
        self.project_out = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.project_out(_activate(self.project_in(x), self.swiglu)), None


class Experts(nn.Module):
    """A feed-forward layer of which each position uses the best `chosen` of `experts` (arXiv 2101.03961).

    Positions are sorted by expert and multiplied group by group, so that shapes do not depend on the routing. The
    second result is the load-balancing loss, 1 where the load is even.
    """

    def __init__(self, d_model: int, d_ff: int, swiglu: bool, experts: int, chosen: int) -> None:
        super().__init__()
        self.swiglu, self.experts, self.chosen = swiglu, experts, chosen
        self.router = nn.Linear(d_model, experts, bias=False)
        self.project_in = nn.Parameter(torch.empty(experts, d_model, d_ff * (2 if swiglu else 1)))
        self.project_out = nn.Parameter(torch.empty(experts, d_ff, d_model))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        flat = x.reshape(-1, x.shape[-1])
        share = self.router(flat).float().softmax(dim=-1)
        weight, expert = share.topk(self.chosen, dim=-1)
        weight = weight / weight.sum(dim=-1, keepdim=True)
        order = expert.flatten().argsort(stable=True)
        load = F.one_hot(expert.flatten(), self.experts).sum(dim=0)
        ends = load.cumsum(dim=0).to(torch.int32)
        kind = flat.device.type  # autocast does not know this multiplication, and a GPU has it in bf16 only
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else flat.dtype
        inner = F.grouped_mm(flat[order // self.chosen].to(dtype), self.project_in.to(dtype), offs=ends)
        outer = F.grouped_mm(_activate(inner, self.swiglu), self.project_out.to(dtype), offs=ends)
        weighted = outer * weight.flatten()[order, None].to(outer.dtype)
        mixed = torch.zeros_like(flat, dtype=outer.dtype).index_add(0, order // self.chosen, weighted)
        balance = self.experts * (load / load.sum() * share.mean(dim=0)).sum()
        return mixed.view_as(x).to(x.dtype), balance


def _activate(x: Tensor, swiglu: bool) -> Tensor:
    if not swiglu:
        return F.gelu(x)
    gate, up = x.chunk(2, dim=-1)
    return F.silu(gate) * up
