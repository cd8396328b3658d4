"""Names: what they say of a file, as pathlib would say it."""

from pathlib import PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from omni_ray.catalog import Source
from omni_ray.prepare.readers.layout import _suffix, is_selected

PHOTOS = Source(name="s", modality="image", category="general", url=("x",), reader="imagefolder", license="MIT")


@given(st.text("a./", max_size=9))
@example("..jpg")
@example("a.jpg/")
@example("a.jpg/.")
def test_suffixes_are_those_of_pathlib(name: str) -> None:
    assert _suffix(name) == PurePosixPath(name).suffix


@pytest.mark.parametrize(
    ("name", "selected"),
    [
        ("a/b.jpg", True), ("./a/b.JPG", True), ("a/../b.png", True), ("a..b/c.jpg", True), (".b.jpg", False),
        ("a/.b.jpg", False), (".a/b.jpg", False), ("a/.thumbs/b.jpg", False), ("__MACOSX/a/b.jpg", False),
        ("a/__MACOSX/b.jpg", False), ("not__MACOSX/b.jpg", True), ("a/b.txt", False), ("a/b", False),
    ],
)  # fmt: skip
def test_hidden_files_and_other_kinds_are_not_looked_at(name: str, selected: bool) -> None:
    assert is_selected(PHOTOS, name) is selected
