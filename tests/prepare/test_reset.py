"""`--reset`: what is forgotten, and what is left alone."""

from pathlib import Path

import pytest

from tests.e2e.harness import products
from tests.prepare import inprocess

pytestmark = pytest.mark.usefixtures("no_ray")


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return inprocess.write(tmp_path / "in", "talk", "lines")


def test_files_that_are_not_ours_stay(tmp_path: Path, catalog: Path) -> None:
    out = tmp_path / "out"
    assert inprocess.prepare(out, catalog) == 0
    expected = products(out)
    theirs = [".omni_ray/text/talk/.tmp-notes", ".omni_ray/text/talk/blocks/notes.txt", "text/.tmp-notes"]
    for name in theirs:
        (out / name).write_text("the user's")
    assert inprocess.prepare(out, catalog, "--reset", "--dataset", "talk") == 0
    for name in theirs:
        assert (out / name).read_text() == "the user's"
    (out / "text/.tmp-notes").unlink()
    assert products(out) == expected
