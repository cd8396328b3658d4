from hypothesis import given
from hypothesis import strategies as st

from omni_ray.prepare.plan import (
    FORMAT_VERSION,
    DecodeTask,
    IndexTask,
    Place,
    block_id,
    blocks_from,
    file_differences,
    fingerprint,
    make_plan,
    next_tasks,
    output_tag,
    settings_differences,
)
from omni_ray.prepare.records import Cut, InputFile

FILES = [InputFile(f"f{number}", 100, "1") for number in range(4)]


def cuts(count: int) -> list[Cut]:
    return [Cut("bytes", number * 10, number * 10 + 10, weight=10) for number in range(count)]


def test_ids_are_distinct_and_do_not_depend_on_the_rest_of_the_source() -> None:
    variants = [
        (path, Cut(unit, start, start + 5, member))
        for path in ("a", "b")
        for unit in ("bytes", "members")
        for start in (0, 10)
        for member in ("", "m")
    ]
    assert len({block_id(*variant) for variant in variants}) == len(variants)
    assert block_id("a", Cut("bytes", 0, 5)) == block_id("a", Cut("bytes", 0, 9, weight=3))


def test_tag_follows_settings_and_revision() -> None:
    file = InputFile("a", 1, "1")
    assert output_tag("s", file) == output_tag("s", InputFile("other", 1, "1"))
    others = [output_tag("t", file), output_tag("s", InputFile("a", 1, "2")), output_tag("s", InputFile("a", 2, "1"))]
    assert len({output_tag("s", file), *others}) == 4


def test_a_plan_says_in_which_format_its_blocks_are() -> None:
    plan = make_plan({"reader": "lines"}, FILES)
    assert plan.settings == {"reader": "lines", "format_version": FORMAT_VERSION}
    assert plan.fingerprint != fingerprint({"reader": "lines", "format_version": FORMAT_VERSION - 1})
    assert plan.files == FILES


def test_differences_are_key_by_key() -> None:
    old = {"rules": {"min_chars": 4.0, "max": 1.0}, "encoding": "utf-8"}
    new = {"rules": {"min_chars": 8.0, "max": 1.0}, "encoding": "latin-1", "members": "*.txt"}
    assert settings_differences(old, new) == [
        'encoding: "utf-8" -> "latin-1"',
        'members: (not set) -> "*.txt"',
        "rules.min_chars: 4.0 -> 8.0",
    ]
    assert settings_differences(old, old) == []
    assert file_differences(FILES, [InputFile("f0", 100, "2"), *FILES[1:]]) == {"f0": ["file f0: revision: 1 -> 2"]}
    changed = file_differences(FILES, [FILES[0], InputFile("f1", 101, "1"), FILES[3], InputFile("f9", 1, "1")])
    assert changed == {
        "f1": ["file f1: size: 100 -> 101"],
        "f2": ["file f2: gone"],
        "f9": ["file f9: new"],
    }


@given(
    done=st.sets(st.integers(0, 39)),
    need=st.one_of(st.none(), st.integers(1, 500)),
    least=st.integers(1, 5),
    most=st.integers(5, 60),
)
def test_next_tasks_are_the_first_missing_ones_and_enough(
    done: set[int], need: int | None, least: int, most: int
) -> None:
    order = [block_id(file.path, cut) for file in FILES for cut in cuts(10)]
    finished = {order[number] for number in done}
    blocks = blocks_from(FILES, lambda file: cuts(10), Place(0, 0))
    tasks = list(next_tasks(blocks, finished.__contains__, need, 0.5, least, most))
    ids = [block_id(task.file.path, task.cut) for task in tasks if isinstance(task, DecodeTask)]
    missing = [block for block in order if block not in finished]
    assert ids == missing[: len(ids)]
    if need is None:
        assert len(ids) == min(len(missing), most)
    else:
        assert len(ids) == min(len(missing), max(least, -(-need // 5)), most)


@given(start=st.integers(0, 39))
def test_blocks_go_on_from_any_place(start: int) -> None:
    every = list(blocks_from(FILES, lambda file: cuts(10), Place(0, 0)))
    assert [place for place, _, _ in every] == [Place(file, cut) for file in range(4) for cut in range(10)]
    assert list(blocks_from(FILES, lambda file: cuts(10), every[start][0])) == every[start:]


def test_files_without_an_index_are_indexed_only_as_far_as_needed() -> None:
    blocks = blocks_from(FILES, lambda file: None, Place(0, 0))
    tasks = list(next_tasks(blocks, lambda block: False, 150, 1.0, 1, 100))
    assert tasks == [IndexTask(FILES[0]), IndexTask(FILES[1])]


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_fingerprint_ignores_the_order_of_keys(value: dict[str, object]) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))
    assert fingerprint(value) != fingerprint({**value, "another key entirely": 1})
