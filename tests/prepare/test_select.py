"""The cut and the deduplication, against sets and loops written from the contract's sentences."""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni_ray.errors import DataError, UsageError
from omni_ray.prepare import select as module
from omni_ray.prepare.budget import Share, quotas
from omni_ray.prepare.select import Counts, Samples, Selection, select

CATEGORIES = ("general", "scientific", "tools")
Hash = tuple[int, int]
# Few contents, of which some agree in one of the two words.
ALPHABET: list[Hash] = [(first, second) for first in (0, 5, 2**64 - 1) for second in (0, 7, 2**64 - 1)]


class Source(NamedTuple):
    samples: list[tuple[int, Hash]]  # size in bytes, content
    complete: bool


class Case(NamedTuple):
    shares: list[Share]
    sources: dict[str, Source]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    weights = st.sampled_from([Fraction(1), Fraction(1), Fraction(2), Fraction(1, 3), Fraction("0.7")])
    category_weights = {category: draw(weights) for category in CATEGORIES}
    contents = st.sampled_from(ALPHABET) | st.tuples(st.integers(0, 30), st.integers(0, 1))
    samples = st.lists(st.tuples(st.integers(1, 9), contents), max_size=14)
    shares, sources = [], {}
    for number in range(draw(st.integers(1, 5))):
        category = draw(st.sampled_from(CATEGORIES))
        shares.append(Share(f"s{number}", category, draw(weights), category_weights[category]))
        sources[f"s{number}"] = Source(draw(samples), draw(st.booleans()))
    return Case(shares, sources)


budgets = st.integers(0, 150)


def arrays(sources: Mapping[str, Source]) -> dict[str, Samples]:
    result = {}
    for name, source in sources.items():
        sizes = np.array([size for size, _ in source.samples], np.uint32)
        hashes = np.array([content for _, content in source.samples], np.uint64).reshape(-1, 2)
        sizes.flags.writeable = hashes.flags.writeable = False  # as arrays mapped from files are
        result[name] = Samples(sizes, hashes, source.complete)
    return result


def run(max_bytes: int | None, case: Case, dedup: bool = True) -> Selection:
    return select(max_bytes, case.shares, arrays(case.sources), dedup)


class Walked(NamedTuple):
    position: int
    duplicates: list[int]
    size: int
    state: str


def walk(quota: dict[str, int] | None, case: Case, dedup: bool) -> dict[str, Walked]:
    """One cut at given quotas: sources in catalog order, samples in theirs."""
    cut: set[Hash] = set()
    walked = {}
    for share in case.shares:
        source = case.sources[share.name]
        position, size, duplicates = 0, 0, []
        for size_of_sample, content in source.samples:
            if dedup and content in cut:
                duplicates.append(position)
            elif quota is None or size + size_of_sample <= quota[share.name]:
                size += size_of_sample
                cut.add(content)
            else:
                break
            position += 1
        ended = position == len(source.samples)
        state = "filled" if not ended else "dry" if source.complete else "needs_more"
        walked[share.name] = Walked(position, duplicates, size, state)
    return walked


def literal_selection(max_bytes: int | None, case: Case, dedup: bool) -> dict[str, Walked]:
    """All cuts from the start; what exhausted sources leave goes to others; repeated until nothing changes."""
    if max_bytes is None:
        return walk(None, case, dedup)
    used: dict[str, int] = {}
    while True:
        walked = walk(quotas(max_bytes, case.shares, used), case, dedup)
        dry = {name: cut.size for name, cut in walked.items() if cut.state == "dry"}
        if dry == used:
            return walked
        used = dry


def plain(selection: Selection) -> dict[str, Walked]:
    return {
        name: Walked(cut.position, cut.duplicates.tolist(), cut.size, cut.state) for name, cut in selection.cuts.items()
    }


def output(selection: Selection, case: Case) -> dict[str, list[int]]:
    return {
        name: np.flatnonzero(cut.mask(0, len(case.sources[name].samples))).tolist()
        for name, cut in selection.cuts.items()
    }


def contents(selection: Selection, case: Case) -> set[Hash]:
    chosen = output(selection, case)
    return {case.sources[name].samples[number][1] for name in chosen for number in chosen[name]}


def assert_grew(before: Selection, after: Selection) -> None:
    for name in before.cuts:
        assert after.cuts[name].position >= before.cuts[name].position, name


@settings(max_examples=400)
@given(budgets | st.none(), cases(), st.booleans())
def test_agrees_with_the_contract_read_literally(max_bytes: int | None, case: Case, dedup: bool) -> None:
    assert plain(run(max_bytes, case, dedup)) == literal_selection(max_bytes, case, dedup)


@given(budgets | st.none(), cases(), st.integers(1, 5), st.integers(1, 3))
def test_partitions_chunks_and_windows_do_not_show(
    max_bytes: int | None, case: Case, partition: int, window: int
) -> None:
    whole = arrays(case.sources)

    def chunked(samples: Samples) -> Samples:
        def chunks() -> Iterator[np.ndarray]:
            assert isinstance(samples.hashes, np.ndarray)
            for at in range(0, len(samples.hashes), 3):
                yield samples.hashes[at : at + 3]

        return samples._replace(hashes=chunks, sizes=samples.sizes.astype(np.uint64))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PARTITION_SAMPLES", partition)
        patch.setattr(module, "FIRST_WINDOW", window)
        patch.setattr(module, "CHUNK_SAMPLES", 4)
        small = select(max_bytes, case.shares, {name: chunked(whole[name]) for name in whole}, True)
        also_small = select(max_bytes, case.shares, whole, True)
    assert plain(small) == plain(also_small) == plain(select(max_bytes, case.shares, whole, True))


@given(budgets, cases(), st.booleans())
def test_the_budget_is_kept_and_used_to_one_sample(max_bytes: int, case: Case, dedup: bool) -> None:
    selection = run(max_bytes, case, dedup)
    assert selection.size <= max_bytes
    for name, cut in selection.cuts.items():
        assert cut.quota is not None and cut.size <= cut.quota
        if cut.state == "filled":
            assert cut.size + case.sources[name].samples[cut.position][0] > cut.quota


@given(budgets, cases())
def test_a_filled_source_stops_at_a_content_that_is_new(max_bytes: int, case: Case) -> None:
    selection = run(max_bytes, case)
    seen: set[Hash] = set()
    for name, cut in selection.cuts.items():
        samples = [content for _, content in case.sources[name].samples]
        seen.update(samples[: cut.position])
        assert cut.state != "filled" or samples[cut.position] not in seen


@given(budgets | st.none(), cases())
def test_every_content_of_the_cut_is_in_the_output_once(max_bytes: int | None, case: Case) -> None:
    selection = run(max_bytes, case)
    chosen = [
        case.sources[name].samples[number][1] for name, numbers in output(selection, case).items() for number in numbers
    ]
    considered = {
        content for name, cut in selection.cuts.items() for _, content in case.sources[name].samples[: cut.position]
    }
    assert len(chosen) == len(set(chosen))
    assert set(chosen) == considered


@given(budgets | st.none(), cases(), st.booleans())
def test_counts_conserve_samples_and_bytes(max_bytes: int | None, case: Case, dedup: bool) -> None:
    selection = run(max_bytes, case, dedup)
    chosen = output(selection, case)
    for name, cut in selection.cuts.items():
        samples = case.sources[name].samples
        assert sum(cut.counts) == len(samples)
        assert cut.counts.in_output == len(chosen[name])
        assert cut.size == sum(samples[number][0] for number in chosen[name])


@settings(max_examples=300)
@given(st.data(), budgets, cases(), st.booleans())
def test_committing_more_moves_no_position_back(data: st.DataObject, max_bytes: int, case: Case, dedup: bool) -> None:
    committed = {}
    for name, source in case.sources.items():
        there = data.draw(st.integers(0, len(source.samples)))
        whole = there == len(source.samples) and source.complete and data.draw(st.booleans())
        committed[name] = Source(source.samples[:there], whole)
    before = run(max_bytes, case._replace(sources=committed), dedup)
    after = run(max_bytes, case, dedup)
    assert_grew(before, after)
    if dedup:
        assert contents(before, case) <= contents(after, case)


@settings(max_examples=300)
@given(budgets, st.integers(0, 100) | st.none(), cases(), st.booleans())
def test_a_larger_budget_only_adds_content(max_bytes: int, more: int | None, case: Case, dedup: bool) -> None:
    before = run(max_bytes, case, dedup)
    after = run(None if more is None else max_bytes + more, case, dedup)
    assert_grew(before, after)
    assert contents(before, case) <= contents(after, case)


@settings(max_examples=200)
@given(st.data(), budgets, cases())
def test_preparing_until_nothing_is_needed_ends_the_same_in_any_order(
    data: st.DataObject, max_bytes: int, case: Case
) -> None:
    """Blocks of one sample, committed wherever a source needs more: the cut is the one over everything."""
    case = case._replace(sources={name: source._replace(complete=True) for name, source in case.sources.items()})
    there = dict.fromkeys(case.sources, 0)
    finished: set[str] = set()
    while True:
        committed = {
            name: Source(source.samples[: there[name]], name in finished) for name, source in case.sources.items()
        }
        selection = run(max_bytes, case._replace(sources=committed))
        if not selection.needs_more:
            break
        name = data.draw(st.sampled_from(selection.needs_more))
        if there[name] == len(case.sources[name].samples):
            finished.add(name)
        there[name] += 1
    assert plain(selection) == plain(run(max_bytes, case))


@given(st.data(), budgets | st.none(), cases())
def test_a_mask_of_a_range_is_that_part_of_the_whole(data: st.DataObject, max_bytes: int | None, case: Case) -> None:
    for cut in run(max_bytes, case).cuts.values():
        start = data.draw(st.integers(0, cut.kept))
        stop = data.draw(st.integers(start, cut.kept))
        assert cut.mask(start, stop).tolist() == cut.mask(0, cut.kept)[start:stop].tolist()


def one(name: str, category: str = "general") -> Share:
    return Share(name, category, Fraction(1), Fraction(1))


def unique(sizes: Sequence[int], complete: bool = True, first: int = 0) -> Samples:
    hashes = np.array([(first + number, 1) for number in range(len(sizes))], np.uint64).reshape(-1, 2)
    return Samples(np.array(sizes, np.uint32), hashes, complete)


def test_a_sample_that_does_not_fit_ends_the_source_even_before_smaller_ones() -> None:
    cut = select(10, [one("a")], {"a": unique([4, 7, 1])}, True).cuts["a"]
    assert (cut.state, cut.position, cut.size, cut.counts) == ("filled", 1, 4, (1, 0, 2))


def test_duplicates_after_the_last_taken_sample_are_duplicates_and_not_beyond() -> None:
    content = np.array([(1, 1), (1, 1), (1, 1), (2, 2)], np.uint64)
    cut = select(10, [one("a")], {"a": Samples(np.array([8, 8, 8, 8], np.uint32), content, True)}, True).cuts["a"]
    assert (cut.state, cut.position, cut.duplicates.tolist(), cut.counts) == ("filled", 3, [1, 2], (1, 2, 1))


def test_the_earlier_source_keeps_what_both_have_even_if_it_comes_to_it_late() -> None:
    """`b` leaves 6 bytes, `a` goes on into what `b` has, so that `b` leaves more, until `a` has all of it."""
    sizes, content = [2] * 10, [(number, 9) for number in range(10)]
    a = Samples(np.array(sizes, np.uint32), np.array(content, np.uint64), True)
    b = Samples(np.array(sizes[:2], np.uint32), np.array(content[5:7], np.uint64), True)
    cuts = select(20, [one("a"), one("b")], {"a": a, "b": b}, True).cuts
    assert (cuts["a"].size, cuts["a"].state) == (20, "dry")
    assert (cuts["b"].size, cuts["b"].duplicates.tolist()) == (0, [0, 1])


def test_an_unfinished_source_keeps_its_share_reserved() -> None:
    samples = {"a": unique([1] * 99), "b": unique([], complete=False)}
    selection = select(100, [one("a"), one("b")], samples, True)
    assert selection.cuts["a"].size == 50
    assert selection.needs_more == ["b"]


def test_a_source_that_ends_exactly_at_its_quota_needs_more_until_its_end_is_known() -> None:
    """Whether it is exhausted must not depend on whether an empty last block happens to be committed."""
    for complete, state in ((False, "needs_more"), (True, "dry")):
        assert select(3, [one("a")], {"a": unique([3], complete)}, True).cuts["a"].state == state


def test_no_budget_takes_everything_once() -> None:
    samples = {"a": unique([5, 6]), "b": unique([5, 6, 7], complete=False)}
    selection = select(None, [one("a"), one("b")], samples, True)
    assert selection.size == 18
    assert [cut.quota for cut in selection.cuts.values()] == [None, None]
    assert selection.cuts["b"].duplicates.tolist() == [0, 1]


def test_contents_that_agree_in_one_word_only_are_different() -> None:
    content = np.array([(1, 1), (1, 2), (2, 1), (1, 1)], np.uint64)
    cut = select(None, [one("a")], {"a": Samples(np.ones(4, np.uint32), content, True)}, True).cuts["a"]
    assert cut.duplicates.tolist() == [3]


def test_sums_do_not_wrap_at_32_bits() -> None:
    big = 4_000_000_000
    cut = select(3 * big, [one("a")], {"a": unique([big] * 4)}, True).cuts["a"]
    assert (cut.position, cut.size) == (3, 3 * big)


def test_without_deduplication_hashes_are_not_read() -> None:
    def forbidden() -> Iterator[np.ndarray]:
        raise AssertionError("hashes were read")

    samples = {"a": Samples(np.ones(3, np.uint32), forbidden, True)}
    assert select(None, [one("a")], samples, False).size == 3


@pytest.mark.parametrize(
    ("shares", "names", "message"),
    [
        ([one("a")], ["a", "b"], "'b': it has samples but no share"),
        ([one("a"), one("b")], ["a"], "'b': it has a share but no samples"),
        ([one("a"), one("a")], ["a"], "'a': it has two shares"),
    ],
)
def test_refuses_sources_that_do_not_match(shares: list[Share], names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        select(None, shares, {name: unique([1]) for name in names}, True)


@pytest.mark.parametrize(
    ("hashes", "message"),
    [
        (np.zeros((2, 2), np.uint64), "'a': 3 sizes but 2 hashes"),
        (np.zeros((4, 2), np.uint64), "'a': 3 sizes but 4 hashes"),
        (np.zeros((3, 2), np.int64), "'a': hashes are int64"),
        (np.zeros((3, 3), np.uint64), r"'a': hashes are uint64 \(3, 3\)"),
    ],
)
def test_refuses_hashes_of_other_samples(hashes: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        select(None, [one("a")], {"a": Samples(np.ones(3, np.uint32), hashes, True)}, True)


def test_a_selection_takes_fewer_than_2_to_the_32_samples() -> None:
    shares = [Share(name, "general", Fraction(1), Fraction(1)) for name in "ab"]

    def many(count: int) -> Samples:
        return Samples(np.broadcast_to(np.uint32(1), count), np.empty((0, 2), np.uint64), True)  # without the memory

    with pytest.raises(DataError, match=r"4294967296 samples: one selection takes fewer than 2\^32"):
        select(0, shares, {"a": many(1 << 31), "b": many(1 << 31)}, False)
    assert select(0, shares, {"a": many(1 << 31), "b": many((1 << 31) - 1)}, False).size == 0


def test_repetitions_do_not_make_a_partition_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARTITION_SAMPLES", 256)
    monkeypatch.setattr(module, "CHUNK_SAMPLES", 32)
    sorted_at_once = []
    twins = module._twins

    def watched(hashes: np.ndarray, *more: Any) -> Any:
        sorted_at_once.append(len(hashes))
        return twins(hashes, *more)

    monkeypatch.setattr(module, "_twins", watched)
    hashes = np.zeros((5000, 2), np.uint64)  # one content, but for every tenth sample
    hashes[::10] = np.arange(1000, 2000).reshape(500, 2)
    samples = Samples(np.full(5000, 3, np.uint32), hashes, True)
    selection = select(None, [Share("one", "general", Fraction(1), Fraction(1))], {"one": samples}, True)
    assert selection.cuts["one"].counts == Counts(501, 4499, 0)
    assert max(sorted_at_once) <= 256 + 2 * 32
