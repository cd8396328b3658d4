import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_ray import json_text
from omni_ray.errors import ConfigError

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
KEYS = st.sampled_from(["a", "b", "lr", 'q"', "é", "{", ","])
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=5)
STYLES = st.sampled_from(
    [
        {"indent": 2},
        {"indent": "\t"},
        {"indent": 0},
        {},
        {"separators": (",", ":")},
        {"indent": 2, "ensure_ascii": False},
    ]
)


@given(OBJECTS, OBJECTS, STYLES, st.sampled_from(["\n", "\r\n"]))
def test_an_edit_sets_its_values_and_keeps_the_order(
    before: dict[str, object], changes: dict[str, object], style: dict[str, object], newline: str
) -> None:
    text = f"{json.dumps(before, **style)}\n".replace("\n", newline)  # type: ignore[arg-type]
    edited = json_text.edit(text, {(key,): value for key, value in changes.items()})
    found = json_text.parse_object(edited, "x.json")
    assert json.dumps(found) == json.dumps(before | changes)
    assert newline == "\n" or "\n" not in edited.replace("\r\n", "")


@given(OBJECTS, STYLES)
def test_values_that_are_equal_already_change_no_character(before: dict[str, object], style: dict[str, object]) -> None:
    text = json.dumps(before, **style)  # type: ignore[arg-type]
    assert json_text.edit(text, {(key,): value for key, value in before.items()}) == text


def test_everything_else_keeps_its_characters() -> None:
    text = '{\n    "lr": 3e-4,   "steps" :\t10,\n\n    "mix": {"a": 1.50, "b": [ 1,2 ]}\n}'
    edited = json_text.edit(text, {("steps",): 20, ("mix", "a"): 2, ("new",): {"x": [1]}, ("mix", "c"): "é"})
    assert edited == (
        '{\n    "lr": 3e-4,   "steps" :\t20,\n\n    "mix": {"a": 2, "b": [ 1,2 ], "c": "é"},\n'
        '    "new": {\n        "x": [\n            1\n        ]\n    }\n}'
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1"),
        ('{"a": 1', r"line 1, column 8.*one JSON object is allowed"),
        ("[1]", "holds a JSON list; one object"),
        ('{"a": 1, "a": 2}', "a = 2: the key stands there twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "thousands of digits"),
        ('{"a": ' + "[" * 200_000, "thousands of nested brackets"),
    ],
    ids=repr,
)
def test_bad_json_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"x\.json: .*{message}"):
        json_text.parse_object(text, "x.json")


@pytest.mark.parametrize(("data", "message"), [(b"\xff", "byte 0 is not UTF-8"), (b"\xef\xbb\xbf{}", "order mark")])
def test_bad_text_is_named(data: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"x\.json: .*{message}"):
        json_text.decode(data, "x.json")
