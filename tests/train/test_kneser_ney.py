"""The model that learning is measured against: a distribution, and the textbook's figures on a tiny case."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts/bench"))
from kneser_ney import KneserNey  # type: ignore[import-not-found]

VOCABULARY = 7


def documents(seed: int, count: int) -> list[np.ndarray]:
    dice = np.random.default_rng(seed)
    return [np.concatenate(([0], dice.integers(2, VOCABULARY, dice.integers(1, 9)), [0])) for _ in range(count)]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_sum_to_one(order: int) -> None:
    model = KneserNey(documents(0, 40), order, VOCABULARY, begin=0)
    for document in documents(1, 8):
        context = document[:-1]
        before = model.bits(context) if len(context) > 1 else 0.0
        total = sum(2 ** (before - model.bits(np.append(context, token))) for token in range(VOCABULARY))
        assert total == pytest.approx(1.0)


def test_lower_orders_count_contexts_not_tokens() -> None:
    """A token that is frequent, but always after the same one, is unlikely after any other (the "San Francisco")."""
    train = [np.array([0, 2, 3, 0])] * 20 + [np.array([0, token, 4, 0]) for token in (4, 5, 6)]
    model = KneserNey(train, 2, VOCABULARY, begin=0)
    after = {token: model.bits(np.array([0, 5, 1, token])) - model.bits(np.array([0, 5, 1])) for token in (3, 4)}
    assert after[4] < after[3]


def test_it_learns_what_repeats() -> None:
    train = documents(2, 300)
    assert KneserNey(train * 2, 5, VOCABULARY, 0).bits(train[0]) < KneserNey(documents(3, 600), 5, VOCABULARY, 0).bits(
        train[0]
    )
