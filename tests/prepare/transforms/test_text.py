import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni_ray.catalog import Source
from omni_ray.prepare.records import Drop, TextSample, Unusable
from omni_ray.prepare.transforms import text
from omni_ray.prepare.transforms.text import TextTransform, split


def transform(template: str = "{text}", **rules: float) -> TextTransform:
    source = Source.model_validate(
        {
            "name": "s", "modality": "text", "category": "general", "url": ("x",), "reader": "table", "license": "MIT",
            "fields": {"text": template}, "rules": rules, "base": Path(),
        }
    )  # fmt: skip
    return TextTransform(source)


def lines(text: str, **rules: float) -> Any:
    result = transform(**rules)({"text": text})
    return result.lines if isinstance(result, TextSample) else result


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  two\n\twords \r\n here ", ["two words here"]),
        ("nul\x00 and bell\x07 gone\x1b", ["nul and bell gone"]),
        ("line\u2028separator\x85next\x1cfile", ["line separator next file"]),
        ("cafe\u0301 noir", ["caf\u00e9 noir"]),
        ("short", Drop("min_chars")),
        ("        \n\n      ", Drop("min_chars")),
        ("!!!! ???? ab", Drop("max_symbol_ratio")),
        ("!!!! abcd", ["!!!! abcd"]),
        ("東京。、・「」", Drop("min_chars")),
        ("「」「」「」東京", Drop("max_symbol_ratio")),
    ],
)
def test_cleaning_and_rules(text: str, expected: object) -> None:
    assert lines(text) == expected


def test_unusable_records() -> None:
    assert transform("{a.b}")({"a": {"c": 1}}) == Unusable("missing_field", "the record has no a.b, or it is null")
    assert transform("{a}")({"a": None}).__class__ is Unusable
    assert lines("a lone \ud800 surrogate here").reason == "undecodable"


def test_templates_render_values() -> None:
    value = {"q": "How many?", "n": 3, "deep": {"er": "inner"}, "list": ["a", {"b": 1}]}
    result = transform("{q} {n} {deep.er} {list} {{x}}")(value)
    assert result == TextSample(['How many? 3 inner ["a", {"b": 1}] {x}'])


@given(st.text("ab. !?\n東é", max_size=400), st.integers(1, 30))
def test_splitting_loses_nothing_and_fits(text: str, limit: int) -> None:
    found = split(text, limit)
    assert all(1 <= len(line) <= limit for line in found)
    assert "".join("".join(found).split()) == "".join(text.split())


@given(st.text(min_size=8, max_size=200))
def test_a_line_is_always_one_clean_utf8_line(text: str) -> None:
    result = transform(max_symbol_ratio=1, max_line_chars=50)({"text": text})
    if isinstance(result, TextSample):
        for line in result.lines:
            assert line.encode().decode().splitlines() == [line]
            assert line == line.strip()
            assert not any(unicodedata.category(char) == "Cc" for char in line)


def test_paragraphs_come_before_sentences() -> None:
    text = "One one one. Two two.\n\nThree three three three.\n\nFour."
    assert split(text, 30) == ["One one one. Two two.", "Three three three three. Four."]


ODD = "ab7é東 !?-.\t\n\r\x00\x07\x1c\x85\x9f\xa0\u2003\u2028\u3000\u0301\ud800「’🎈Å\u0344"
VALUES = st.lists(
    st.fixed_dictionaries(
        {}, optional={"q": st.text(ODD, max_size=60) | st.text(max_size=30), "n": st.integers() | st.none()}
    ),
    min_size=text.FEWEST_IN_BULK,
    max_size=40,
)


@given(
    VALUES,
    st.integers(0, 12),
    st.integers(8, 40),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    st.sampled_from(["{q}", "{q} 50%", "{q} {n}"]),
)
@settings(max_examples=400)
def test_many_records_become_what_each_would(
    values: list[dict[str, Any]], min_chars: int, max_line_chars: int, ratio: float, template: str
) -> None:
    one = transform(template, min_chars=min_chars, max_line_chars=max_line_chars, max_symbol_ratio=ratio)
    expected = text.TextBatch()
    for number, value in enumerate(values):
        expected.add(number, one(value))
    made = one.many(values)
    made.unusable.sort()
    expected.dropped += Counter()  # without zeros
    assert made == expected


@pytest.mark.parametrize("ratio", [0.4, 1.0])
def test_many_of_any_character(ratio: float) -> None:
    """Every code point but surrogates, in every company that could change how it is treated."""
    points = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    values = [{"q": "".join(points[at : at + 61]) + " and words " * 3} for at in range(0, len(points), 61)]
    one = transform("{q}", max_symbol_ratio=ratio)
    expected = text.TextBatch()
    for number, value in enumerate(values):
        expected.add(number, one(value))
    made = text.TextBatch()
    for at in range(0, len(values), 50):
        part = one.many(values[at : at + 50])
        for line, record, number in zip(part.lines, part.record, part.part, strict=True):
            made.lines.append(line)
            made.record.append(record + at)
            made.part.append(number)
        made.kept += part.kept
        made.dropped += part.dropped
    assert made == expected


def test_many_folds_every_white_space_and_removes_every_control_alone() -> None:
    one = transform("{q}")
    plain = [{"q": "plain words in a row"}] * text.FEWEST_IN_BULK
    for char in filter(lambda char: char.isspace() or unicodedata.category(char) == "Cc", map(chr, range(0xD800))):
        value = {"q": f"two{char}words or one"}
        assert one.many([value, *plain]).lines[0].decode() == one(value).lines[0], repr(char)  # type: ignore[union-attr]
