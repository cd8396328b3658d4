"""How many bytes each source may put into the production files.

The budget is poured twice by weight, over the categories and then over the sources of each. Whoever is exhausted keeps
what it uses and the rest rises to a common level (progressive filling, Bertsekas & Gallager, Data Networks, 6.5.2).
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from omni_ray.errors import UsageError


class Share(NamedTuple):
    """A source's claim on the budget: its weight inside its category, and the weight of that category."""

    name: str
    category: str
    weight: Fraction
    category_weight: Fraction


class _Demand(NamedTuple):
    weight: Fraction
    cap: int | None  # bytes; None where nobody knows an end


def quotas(max_bytes: int, shares: Sequence[Share], used: Mapping[str, int]) -> dict[str, int]:
    """Divide `max_bytes` over the sources.

    A source gets `min(used, share)`, or its share where it is not in `used`; so an exhausted one whose use exceeds its
    share counts as any other. What it leaves goes to its category's other sources, and once those are all exhausted to
    the other categories, by weight. Nothing is rounded before the end, where every quota is cut to whole bytes by
    itself: the sum may stay below `max_bytes` by less than one byte per source, never above.

    Monotone: more in `used`, or a lower value there, lowers no other source's quota; nor does a larger `max_bytes`.
    Both only raise the levels, and levels are compared exactly.

    Args:
        max_bytes: the whole budget of a modality, in bytes.
        shares: every source, in catalog order.
        used: bytes used by the sources that have nothing more to give.

    Returns:
        bytes by source name, in the order of `shares`.

    Raises:
        UsageError: for a negative number, a name in `used` without a share, and as `check_shares`.
    """
    check_shares(shares)
    _check_amounts(max_bytes, {share.name for share in shares}, used)
    categories: dict[str, list[Share]] = {}
    for share in shares:
        categories.setdefault(share.category, []).append(share)
    demands = {
        category: _Demand(members[0].category_weight, _total(used.get(member.name) for member in members))
        for category, members in categories.items()
    }
    level = _level(Fraction(max_bytes), list(demands.values()))
    result = dict.fromkeys((share.name for share in shares), 0)
    for category, members in categories.items():
        inside = [_Demand(member.weight, used.get(member.name)) for member in members]
        inner_level = _level(_poured(demands[category], level), inside)
        for member, demand in zip(members, inside, strict=True):
            poured = _poured(demand, inner_level)
            result[member.name] = poured.numerator // poured.denominator
    return result


def check_shares(shares: Sequence[Share]) -> None:
    """Refuse shares that contradict each other.

    Raises:
        UsageError: for a weight that is not positive, a name given twice, or a category with two weights.
    """
    names: set[str] = set()
    weights: dict[str, Fraction] = {}
    for share in shares:
        if share.name in names:
            raise UsageError(f"source {share.name!r}: it has two shares; name every source once")
        names.add(share.name)
        if share.weight <= 0 or share.category_weight <= 0:
            raise UsageError(f"source {share.name!r}: weights must be above 0 (leave a source out instead)")
        if weights.setdefault(share.category, share.category_weight) != share.category_weight:
            raise UsageError(
                f"source {share.name!r}: category {share.category!r} weighs {share.category_weight} here and "
                f"{weights[share.category]} at an earlier source; a category has one weight"
            )


def _level(total: Fraction, demands: Sequence[_Demand]) -> Fraction | None:
    """Bytes per unit of weight that the uncapped get when `total` is poured; None where all stay below it."""
    left, weight = total, sum((demand.weight for demand in demands), Fraction())
    capped = [(demand.cap / demand.weight, demand.cap, demand.weight) for demand in demands if demand.cap is not None]
    for reached_at, cap, own_weight in sorted(capped):
        if reached_at * weight > left:
            break
        left -= cap
        weight -= own_weight
    return left / weight if weight else None


def _poured(demand: _Demand, level: Fraction | None) -> Fraction:
    if level is None:
        assert demand.cap is not None  # a level is missing only where every demand has a cap
        return Fraction(demand.cap)
    share = level * demand.weight
    return share if demand.cap is None else min(share, Fraction(demand.cap))


def _total(caps: Iterable[int | None]) -> int | None:
    total = 0
    for cap in caps:
        if cap is None:
            return None
        total += cap
    return total


def _check_amounts(max_bytes: int, names: set[str], used: Mapping[str, int]) -> None:
    if max_bytes < 0:
        raise UsageError(f"max_bytes: {max_bytes} is negative; give the budget in bytes, 0 or more")
    for name, size in used.items():
        if name not in names:
            raise UsageError(f"source {name!r}: it has used bytes but no share; pass a share for it")
        if size < 0:
            raise UsageError(f"source {name!r}: {size} used bytes; a use is 0 or more")
