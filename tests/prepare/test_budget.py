"""Dividing the budget over sources, against a literal reading of the contract."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_ray.errors import UsageError
from omni_ray.prepare.budget import Share, quotas

CATEGORIES = ("general", "scientific", "tools")
weights = st.fractions(min_value=Fraction(1, 20), max_value=9, max_denominator=20)


@st.composite
def shares_of(draw: st.DrawFn, most: int = 7) -> list[Share]:
    category_weights = {category: draw(weights) for category in CATEGORIES}
    categories = draw(st.lists(st.sampled_from(CATEGORIES), min_size=1, max_size=most))
    return [
        Share(f"s{number}", category, draw(weights), category_weights[category])
        for number, category in enumerate(categories)
    ]


def used_of(shares: Sequence[Share]) -> st.SearchStrategy[dict[str, int]]:
    return st.dictionaries(st.sampled_from([share.name for share in shares]), st.integers(0, 120))


budgets = st.integers(0, 400)


def literal_quotas(max_bytes: int, shares: Sequence[Share], used: Mapping[str, int]) -> dict[str, Fraction]:
    """Shares first; who is exhausted below its share keeps its use, what it leaves is shared again; to the fixpoint."""
    members = {share.category: [peer for peer in shares if peer.category == share.category] for share in shares}

    def divide(total: Fraction, weight: Mapping[str, Fraction], ends: Mapping[str, int]) -> dict[str, Fraction]:
        settled: dict[str, Fraction] = {}
        while True:
            rest = [key for key in weight if key not in settled]
            left = total - sum(settled.values())
            share = {key: left * weight[key] / sum(weight[other] for other in rest) for key in rest}
            exhausted = {key: Fraction(ends[key]) for key in rest if key in ends and ends[key] <= share[key]}
            if not exhausted:
                return {**settled, **share}
            settled.update(exhausted)

    ends = {
        category: sum(used[peer.name] for peer in peers)
        for category, peers in members.items()
        if all(peer.name in used for peer in peers)
    }
    totals = divide(Fraction(max_bytes), {share.category: share.category_weight for share in shares}, ends)
    result: dict[str, Fraction] = {}
    for category, peers in members.items():
        result.update(divide(totals[category], {peer.name: peer.weight for peer in peers}, used))
    return result


@given(st.data(), budgets, shares_of())
def test_agrees_with_the_contract_read_literally(data: st.DataObject, max_bytes: int, shares: list[Share]) -> None:
    used = data.draw(used_of(shares))
    exact = literal_quotas(max_bytes, shares, used)
    assert quotas(max_bytes, shares, used) == {share.name: int(exact[share.name]) for share in shares}


@given(st.data(), budgets, shares_of())
def test_never_gives_more_than_there_is_and_wastes_less_than_a_byte_per_source(
    data: st.DataObject, max_bytes: int, shares: list[Share]
) -> None:
    used = data.draw(used_of(shares))
    result = quotas(max_bytes, shares, used)
    given_out = sum(result.values())
    assert given_out <= max_bytes
    assert all(result[name] <= size for name, size in used.items())
    if any(share.name not in used for share in shares):
        assert given_out > max_bytes - len(shares)


@given(st.data(), budgets, shares_of())
def test_knowing_more_exhausted_sources_lowers_nobody_else(
    data: st.DataObject, max_bytes: int, shares: list[Share]
) -> None:
    used = data.draw(used_of(shares))
    name = data.draw(st.sampled_from([share.name for share in shares]))
    before = quotas(max_bytes, shares, used)
    after = quotas(max_bytes, shares, {**used, name: data.draw(st.integers(0, used.get(name, 120)))})
    assert all(after[other] >= before[other] for other in before if other != name)


@given(st.data(), budgets, shares_of(), st.integers(0, 200))
def test_a_larger_budget_lowers_nobody(data: st.DataObject, max_bytes: int, shares: list[Share], more: int) -> None:
    used = data.draw(used_of(shares))
    before, after = quotas(max_bytes, shares, used), quotas(max_bytes + more, shares, used)
    assert all(after[name] >= before[name] for name in before)


@given(st.data(), budgets, shares_of())
def test_the_order_of_sources_does_not_matter(data: st.DataObject, max_bytes: int, shares: list[Share]) -> None:
    used = data.draw(used_of(shares))
    assert quotas(max_bytes, data.draw(st.permutations(shares)), used) == quotas(max_bytes, shares, used)


def share(name: str, category: str, weight: int = 1, category_weight: int = 1) -> Share:
    return Share(name, category, Fraction(weight), Fraction(category_weight))


def test_categories_share_equally_whatever_the_number_of_their_sources() -> None:
    shares = [share("a", "general"), share("b", "general"), share("c", "tools")]
    assert quotas(120, shares, {}) == {"a": 30, "b": 30, "c": 60}


def test_weights_settle_both_levels() -> None:
    shares = [share("a", "general", 3, 2), share("b", "general", 1, 2), share("c", "tools", 5, 1)]
    assert quotas(120, shares, {}) == {"a": 60, "b": 20, "c": 40}


def test_a_shortfall_stays_in_the_category_while_it_can() -> None:
    shares = [share("a", "general"), share("b", "general"), share("c", "tools")]
    assert quotas(120, shares, {"a": 10}) == {"a": 10, "b": 50, "c": 60}


def test_a_wholly_exhausted_category_gives_to_the_others_by_weight() -> None:
    shares = [share("a", "general"), share("b", "general"), share("c", "tools", 1, 1), share("d", "art", 1, 3)]
    assert quotas(100, shares, {"a": 10, "b": 2}) == {"a": 10, "b": 2, "c": 22, "d": 66}


def test_use_above_the_share_counts_as_not_exhausted() -> None:
    shares = [share("a", "general"), share("b", "general")]
    assert quotas(100, shares, {"a": 70}) == {"a": 50, "b": 50}


def test_use_above_the_share_by_a_fraction_of_a_byte_counts_as_not_exhausted() -> None:
    shares = [share("a", "general", 92), share("b", "general", 2), share("c", "general", 6)]
    assert quotas(20, shares, {"a": 19}) == {"a": 18, "b": 0, "c": 1}  # of shares 18.4, 0.4 and 1.2


def test_everything_exhausted_leaves_the_rest_of_the_budget_unused() -> None:
    shares = [share("a", "general"), share("b", "tools")]
    assert quotas(100, shares, {"a": 7, "b": 0}) == {"a": 7, "b": 0}


def test_no_sources_get_nothing() -> None:
    assert quotas(100, [], {}) == {}


@pytest.mark.parametrize(
    ("max_bytes", "shares", "used", "message"),
    [
        (-1, [share("a", "general")], {}, "max_bytes"),
        (1, [share("a", "general"), share("a", "tools")], {}, "'a': it has two shares"),
        (1, [share("a", "general", 0)], {}, "'a': weights must be above 0"),
        (1, [share("a", "general", 1, 0)], {}, "'a': weights must be above 0"),
        (1, [share("a", "general"), share("b", "general", 1, 2)], {}, "'b': category 'general' weighs 2"),
        (1, [share("a", "general")], {"b": 1}, "'b': it has used bytes but no share"),
        (1, [share("a", "general")], {"a": -1}, "'a': -1 used bytes"),
    ],
)
def test_refuses_what_cannot_be(max_bytes: int, shares: list[Share], used: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        quotas(max_bytes, shares, used)
