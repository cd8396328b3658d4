"""Generation with a KV cache."""

from collections.abc import Iterator, Sequence

import torch

from omni_ray.models.layers import Attend, KeyValues
from omni_ray.models.thinker import Thinker


@torch.inference_mode()
def generate(
    model: Thinker,
    prompt: Sequence[int],
    stop: int,
    limit: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> Iterator[int]:
    """Token ids that follow `prompt`, until `stop`, `limit` of them, or the context is full.

    Temperature 0 takes the likeliest token; above, a token is drawn from the likeliest that together have probability
    `top_p` (nucleus sampling, arXiv 1904.09751).
    """
    device = model.embedding.weight.device
    dice = torch.Generator(device).manual_seed(seed)
    cache = KeyValues(model.shape.n_layers)
    new = torch.tensor([list(prompt)], device=device)
    for _ in range(min(limit, model.shape.ctx_len - len(prompt) + 1)):
        hidden, _ = model(model.embed(new, cache=cache), Attend(), cache)
        logits = model.logits(hidden[0, -1]).float()[: model.shape.vocab_size]
        token = _choose(logits, temperature, top_p, dice)
        if token == stop:
            return
        yield token
        if cache.length == model.shape.ctx_len:
            return
        new = torch.tensor([[token]], device=device)


def _choose(logits: torch.Tensor, temperature: float, top_p: float, dice: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    share, order = (logits / temperature).softmax(dim=-1).sort(descending=True)
    share[share.cumsum(dim=-1) - share >= top_p] = 0
    return int(order[torch.multinomial(share, 1, generator=dice)])
