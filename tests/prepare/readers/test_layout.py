"""Names: what they say of a file, as pathlib would say it."""

from pathlib import PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from omni_ray.catalog import Source
from omni_ray.prepare.readers.layout import is_selected
from omni_ray.prepare.readers.suffixes import is_media, suffix_of

PHOTOS = Source(name="s", modality="image", category="general", url=("x",), reader="imagefolder", license="MIT")


@given(st.text("a./", max_size=9))
@example("..jpg")
@example("a.jpg/")
@example("a.jpg/.")
def test_suffixes_are_those_of_pathlib(name: str) -> None:
    assert suffix_of(name) == PurePosixPath(name).suffix


@pytest.mark.parametrize(
    ("name", "selected"),
    [
        ("a/b.jpg", True), ("./a/b.JPG", True), ("a/../b.png", True), ("a..b/c.jpg", True), (".b.jpg", False),
        ("a/.b.jpg", False), (".a/b.jpg", False), ("a/.thumbs/b.jpg", False), ("__MACOSX/a/b.jpg", False),
        ("a/__MACOSX/b.jpg", False), ("not__MACOSX/b.jpg", True), ("a/b.txt", False), ("a/b", True),
        ("a/b.unheard-of", True), ("a/README", False), ("README.MD", False), ("a/b.wav", False), ("a/b.pdf", False),
    ],
)  # fmt: skip
def test_only_what_is_known_to_be_none_is_not_looked_at(name: str, selected: bool) -> None:
    assert is_selected(PHOTOS, name) is selected


def test_no_picture_that_pillow_reads_is_passed_over() -> None:
    Image.init()
    passed = {ending for ending in Image.registered_extensions() if not is_media(f"a{ending}", "image")}
    assert passed == {".pdf", ".h5"}, "one is written only, the other has no reader of its own"
