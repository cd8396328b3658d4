import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_ray.catalog import Source
from omni_ray.prepare.records import Drop, TextSample, Unusable
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
