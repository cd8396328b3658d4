"""What a run says of the space that it will need, and when it refuses to begin."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_ray.prepare.outlook import Outlook
from omni_ray.storage import LocalStorage
from tests.prepare import inprocess
from tests.prepare.media import world

pytestmark = pytest.mark.usefixtures("no_ray")
sizes = st.integers(0, 10**15)


@given(st.lists(st.tuples(sizes, sizes), max_size=9), sizes, st.floats(0, 1000))
def test_an_outlook_never_falls_below_what_is_there(
    segments: list[tuple[int, int]], whole: int, typical: float
) -> None:
    outlook = Outlook(0, 0, whole, typical)
    for given_, read in segments:
        outlook.add(given_, read)
        assert outlook.expected >= outlook.given
        assert outlook.goal(None) == outlook.expected
        assert outlook.goal(7) <= 7
    if outlook.read >= whole:
        assert outlook.expected == sum(given_ for given_, _ in segments)


def test_what_was_read_says_what_the_rest_will_give() -> None:
    outlook = Outlook(0, 0, 1000, typical=0.3)
    assert outlook.expected == 300
    outlook.add(given=400, read=100)
    assert (outlook.left, outlook.expected, outlook.goal(500)) == (3600, 4000, 500)


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(LocalStorage, "free_bytes", lambda self: size)


def photos(folder: Path, *names: str, side: int = 48, count: int = 40) -> Path:
    """A catalog of folders of pictures, some PNGs of random pixels each."""
    for number, name in enumerate(names):
        contents = {f"{name}/{n}.png": world.photo(1000 * number + n, side) for n in range(count)}
        world.files(folder, contents)
    return world.catalog(folder, *(world.entry(name, "image", f"{name}/", "imagefolder") for name in names))


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_photos_are_not_taken_for_as_large_as_they_are_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = photos(tmp_path / "in", "large", side=900, count=4)
    free(monkeypatch, size_of(tmp_path / "in/large") // 2)
    assert world.prepare("image", tmp_path / "out", catalog) == 0


def test_a_guess_about_pictures_that_nobody_has_seen_refuses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of camera files far less is left than of ordinary photos."""
    catalog = photos(tmp_path / "in", "large", side=900, count=4)
    free(monkeypatch, size_of(tmp_path / "in/large") // 5)
    assert world.prepare("image", tmp_path / "out", catalog) == 0
    assert "the plan may need about" in capsys.readouterr().err


def test_a_text_that_the_disk_cannot_hold_is_refused_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = inprocess.write(tmp_path / "in", "talk", "lines")
    free(monkeypatch, 100)
    assert world.prepare("text", tmp_path / "out", catalog) == 1
    assert "the plan needs about" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("text/*"))


@pytest.mark.parametrize("modality", ["audio", "image"])
def test_a_finished_run_needs_no_space(tmp_path: Path, modality: str, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = world.small(tmp_path / "in", modality)
    assert world.prepare(modality, tmp_path / "out", catalog) == 0
    free(monkeypatch, 0)
    assert world.prepare(modality, tmp_path / "out", catalog) == 0


def test_the_first_blocks_tell_what_the_others_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """How thumbnails grow when they are scaled up nobody knows before the first of them is there."""
    for name, first in (("1.tar", 0), ("2.tar", 40)):
        world.pack(tmp_path / "later" / name, {f"cat/{n}.png": world.photo(first + n, 32) for n in range(40)})
    (tmp_path / "in").mkdir()
    catalog = world.catalog(tmp_path / "in", world.entry("one", "image", "*.tar", "imagefolder"))
    (tmp_path / "later/1.tar").rename(tmp_path / "in/1.tar")
    assert world.prepare("image", tmp_path / "out", catalog) == 0
    (tmp_path / "later/2.tar").rename(tmp_path / "in/2.tar")
    made = size_of(tmp_path / "out/images/one")
    assert made > 2 * 40 * len(world.photo(0, 32)), "thumbnails grow"
    free(monkeypatch, made // 2)
    assert world.prepare("image", tmp_path / "out", catalog, "--update") == 1
    assert "the plan needs about" in capsys.readouterr().err
    free(monkeypatch, made * 2)
    assert world.prepare("image", tmp_path / "out", catalog, "--update") == 0


@pytest.mark.parametrize("table", ["csv", "jsonl"])
def test_a_table_of_paths_is_not_taken_for_all_that_there_is(
    tmp_path: Path, table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [["file", "words"], *([f"{n}.png", f"picture {n}"] for n in range(100))]
    lines = "".join(f'{{"file": "{n}.png", "words": "picture {n}"}}\n' for n in range(100))
    data = world.table_csv(rows) if table == "csv" else lines.encode()
    world.files(tmp_path, {f"t.{table}": data, **{f"{n}.png": world.photo(n) for n in range(100)}})
    more = '[source.fields]\nimage = "{file}"\ncaption = "{words}"'
    catalog = world.catalog(tmp_path, world.entry("paths", "image", f"t.{table}", "table", more))
    assert world.prepare("image", tmp_path / "out", catalog, "--dry-run") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    number, unit = last.split("needs about ")[1].split(" ")[:2]
    assert 50 * len(data) < float(number) * {"kB": 1e3, "MB": 1e6}[unit] < 1e7
