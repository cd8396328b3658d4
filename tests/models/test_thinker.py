"""The thinker: what a document sees, what the cache gives, what is written and read again."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from omni_ray.config import ThinkerShape
from omni_ray.models.generate import generate
from omni_ray.models.layers import (
    Attend,
    Attention,
    AttentionShape,
    Experts,
    KeyValues,
    RMSNorm,
    Rotary,
    document_mask,
    documents_within,
)
from omni_ray.models.ngrams import NGrams
from omni_ray.models.thinker import Thinker
from omni_ray.train.packing import document_bounds, document_numbers, pack

SHAPE = ThinkerShape(vocab_size=90, n_layers=2, d_model=32, d_ff=48, n_heads=4, kv_groups=2, ctx_len=24)
VARIANTS = {
    "plain": {},
    "all key-value heads": {"use_gqa": False},
    "gelu": {"use_swiglu": False},
    "experts": {"use_moe": True, "num_experts": 4},
    "grams": {"ngram_sizes": [3, 2], "ngram_rows": 50, "ngram_dim": 8},
    "long grams": {"ngram_sizes": [9], "ngram_rows": 1000, "ngram_dim": 16},
}


def make(**changes: object) -> Thinker:
    torch.manual_seed(0)
    return Thinker(SHAPE.model_copy(update=changes)).eval()


def logits(model: Thinker, tokens: torch.Tensor, attend: Attend, documents: torch.Tensor | None = None) -> torch.Tensor:
    hidden, _ = model(model.embed(tokens, documents), attend)
    return model.logits(hidden)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("cuts", [[24], [1] * 24, [5, 1, 1, 10, 7]], ids=["at once", "one by one", "mixed"])
def test_cached_decoding_equals_the_full_pass(changes: dict[str, object], cuts: list[int]) -> None:
    model = make(**changes)
    tokens = torch.randint(0, 90, (2, 24))
    cache = KeyValues(SHAPE.n_layers)
    parts = []
    with torch.no_grad():
        full = logits(model, tokens, Attend())
        for part in tokens.split(cuts, dim=1):
            hidden, _ = model(model.embed(part, cache=cache), Attend(), cache)
            parts.append(model.logits(hidden))
    torch.testing.assert_close(torch.cat(parts, dim=1), full, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_document_in_a_row_sees_only_itself(changes: dict[str, object]) -> None:
    model = make(**changes)
    first, second = torch.randint(0, 90, (1, 10)), torch.randint(0, 90, (1, 14))
    documents = torch.tensor([[1] * 10 + [2] * 14])
    packed = logits(model, torch.cat((first, second), dim=1), Attend(mask=document_mask(documents)), documents)
    torch.testing.assert_close(packed[:, :10], logits(model, first, Attend()), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(packed[:, 10:], logits(model, second, Attend()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_position_does_not_see_what_comes_after(changes: dict[str, object]) -> None:
    model = make(**changes)
    tokens = torch.randint(0, 90, (1, 24))
    changed = tokens.clone()
    changed[0, 15] = (changed[0, 15] + 1) % 90
    one, other = logits(model, tokens, Attend()), logits(model, changed, Attend())
    assert torch.equal(one[:, :15], other[:, :15])
    assert not torch.allclose(one[:, 15:], other[:, 15:])


def test_generation_takes_the_likeliest_and_stops() -> None:
    model = make()
    prompt = [3, 4, 5]
    found = list(generate(model, prompt, stop=-1, limit=50))
    assert len(found) == SHAPE.ctx_len - len(prompt) + 1, "it goes on to the end of the context and no further"
    assert max(found) < SHAPE.vocab_size
    so_far = [*prompt]
    for token in found:
        assert token == int(logits(model, torch.tensor([so_far]), Attend())[0, -1, : SHAPE.vocab_size].argmax())
        so_far.append(token)
    assert list(generate(model, prompt, stop=found[0], limit=50)) == []


def test_drawn_text_depends_on_the_seed_alone() -> None:
    model = make()
    drawn = [list(generate(model, [1], -1, 20, temperature=1.0, top_p=0.9, seed=seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_rotary_positions_are_relative() -> None:
    rotary = Rotary(8, 50, 10000.0)
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    products = [(rotary(query, start + 5) * rotary(key, start)).sum().item() for start in (0, 7, 40)]
    assert products == pytest.approx([products[0]] * 3, abs=1e-5)


def test_norm_has_unit_mean_square() -> None:
    normed = RMSNorm(64)(torch.randn(3, 64) * 100)
    assert normed.square().mean(dim=-1).tolist() == pytest.approx([1.0] * 3, rel=1e-4)


def test_shared_heads_are_the_full_ones_with_equal_weights() -> None:
    """Two key-value heads for four queries are four of which two pairs are the same."""
    torch.manual_seed(0)
    shared = Attention(AttentionShape(32, 4, 2, 10, 1e4))
    full = Attention(AttentionShape(32, 4, 4, 10, 1e4))
    query, key, value = shared.project_in.weight.data.split((32, 16, 16))
    twice = [part.view(2, 8, 32).repeat_interleave(2, dim=0).reshape(32, 32) for part in (key, value)]
    full.project_in.weight.data = torch.cat((query, *twice))
    full.project_out.load_state_dict(shared.project_out.state_dict())
    x = torch.randn(2, 10, 32)
    torch.testing.assert_close(full(x, Attend()), shared(x, Attend()), atol=1e-6, rtol=1e-5)


def test_experts_are_what_a_loop_over_positions_gives() -> None:
    torch.manual_seed(0)
    layer = Experts(16, 24, True, experts=4, chosen=2)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 7, 16, requires_grad=True)
    mixed, balance = layer(x)
    expected = torch.zeros_like(x)
    for row in range(2):
        for at in range(7):
            share = layer.router(x[row, at]).softmax(dim=-1)
            best = share.topk(2)
            for weight, expert in zip(best.values / best.values.sum(), best.indices, strict=True):
                gate, up = (x[row, at] @ layer.project_in[expert]).chunk(2)
                expected[row, at] += weight * ((torch.nn.functional.silu(gate) * up) @ layer.project_out[expert])
    torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=1e-5)
    assert balance is not None and balance.item() >= 0.5
    (mixed.square().sum() + balance).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_initial_logits_are_near_uniform() -> None:
    loss = torch.nn.functional.cross_entropy(
        logits(make(), torch.randint(0, 90, (4, 24)), Attend()).flatten(0, 1), torch.randint(0, 90, (96,))
    )
    assert loss.item() == pytest.approx(np.log(128), abs=0.3)


def test_floating_point_operations_count_the_experts_that_are_used() -> None:
    dense, experts = make(), make(use_moe=True, num_experts=8, num_experts_per_tok=1)
    router = SHAPE.n_layers * SHAPE.d_model * 8
    assert experts.flops_per_token(24) == pytest.approx(dense.flops_per_token(24) + 6 * router)


def test_bounds_say_the_same_as_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU's way of attention, with a kernel that does one document after the other in its place."""

    def kernel(query, key, value, bounds, _bounds, longest, _longest, *, window_size):  # type: ignore[no-untyped-def]
        assert window_size == (-1, 0), "causal"
        mixed = torch.empty_like(query)
        for start, stop in pairwise(bounds.tolist()):
            assert stop - start <= longest
            one = [x[start:stop].transpose(0, 1) for x in (query, key, value)]
            mixed[start:stop] = torch.nn.functional.scaled_dot_product_attention(*one, is_causal=True).transpose(0, 1)
        return mixed

    monkeypatch.setattr("omni_ray.models.layers.varlen_attn", kernel)
    model = make()
    documents = [np.arange(2, 2 + length) for length in (9, 30, 5, 13, 40, 7)]
    rows, pieces = pack(documents, SHAPE.ctx_len, np.int64)
    inputs = torch.from_numpy(rows[:, :-1])
    bounds = torch.from_numpy(document_bounds(rows[:, :-1], pieces))
    numbers = torch.from_numpy(document_numbers(rows[:, :-1]))
    expected = logits(model, inputs, Attend(mask=document_mask(numbers)))
    torch.testing.assert_close(logits(model, inputs, Attend(bounds=bounds)), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(document_mask(documents_within(bounds, *inputs.shape)), document_mask(numbers))


def test_a_gram_is_the_last_tokens_of_its_document_in_their_order() -> None:
    with torch.device("meta"):  # a table without collisions
        grams = NGrams([2, 4], rows=1 << 40, width=1, d_model=1)
    tokens = torch.tensor([[5, 6, 7, 8, 9, 5, 6, 7, 8, 9, 6, 7, 8, 9, 0, 0]])
    documents = torch.tensor([[0] * 5 + [1] * 5 + [2] * 6])
    pairs, fours = (places[0].tolist() for places in grams.places(tokens, documents))
    assert pairs[5:10] == pairs[:5] and fours[5:10] == fours[:5], "documents that are the same have the same grams"
    assert pairs[11:14] == pairs[2:5], "a pair is the same wherever it stands"
    assert pairs[10] != pairs[1] and fours[12] != fours[3], "what begins a document is not what stands within"
    assert len(set(fours[:5] + fours[10:])) == 10 and len(set(pairs)) == 5 + 1 + 2
    alone = [places[0].tolist() for places in grams.places(tokens, None)]
    assert alone[0][5] != pairs[5] and alone[1][7] != fours[7] and alone[1][8] == fours[8]
    swapped = grams.places(torch.tensor([[6, 5]]), None)[0]
    assert swapped[0, 1] != pairs[1], "the order counts"


def test_one_token_alone_has_grams() -> None:
    (found,) = make(ngram_sizes=[5]).ngrams.places(torch.tensor([[7]]), torch.tensor([[0]]))  # type: ignore[union-attr]
    assert found.shape == (1, 1)
