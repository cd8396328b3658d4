"""The disk is full, or read-only, from one block on: what that run says, and what the next ones make of it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from omni_ray.errors import StorageError
from omni_ray.prepare import work
from omni_ray.storage import LocalStorage
from omni_ray.storage.base import Staged
from tests import disks
from tests.e2e.harness import assert_still_prefix, products, receipts
from tests.prepare import inprocess
from tests.prepare.media import world
from tests.prepare.media.pairs import PAIRS

OUT = Path("out")  # relative, for lists of sounds name it
SIZE = 16 << 20


@pytest.fixture
def catalog(tmp_path: Path, modality: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Blocks of so many files that they are put together."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(work, "ATTEMPTS", 1)
    return world.small(tmp_path / "in", modality, 96, 6)


def undisturbed(modality: str, layout: str, catalog: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    inprocess.without_ray(monkeypatch)
    assert world.prepare(modality, OUT, catalog, "--layout", layout) == 0
    found = products(OUT)
    OUT.rename("undisturbed")
    return found


def after_two(monkeypatch: pytest.MonkeyPatch, happen: Callable[[], object]) -> None:
    """Before the third block of a round, something happens once."""
    waiting = [happen]

    def run_tasks(do: inprocess.Work, tasks: inprocess.Tasks) -> Iterator[bytes]:
        for number, task in enumerate(tasks):
            if number == 2 and waiting:
                waiting.pop()()
            yield from inprocess.run_here(do, [task])

    inprocess.without_ray(monkeypatch, run_tasks)


@pytest.mark.parametrize("what", ["full", "read-only"])
@pytest.mark.parametrize(("modality", "layout"), PAIRS)
def test_a_disk_in_the_middle_of_a_run(
    modality: str, layout: str, what: str, catalog: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Read-only is the folder of media alone: a file that is open for writing, as a ledger is, makes the system refuse
    that."""
    expected = undisturbed(modality, layout, catalog, monkeypatch)
    argv = (modality, OUT, catalog, "--layout", layout)
    folder = OUT / ("audio" if modality == "audio" else "images")
    with ExitStack() as stack:
        if what == "full":
            disk = stack.enter_context(disks.small_disk(OUT, SIZE))
            after_two(monkeypatch, lambda: disks.fill(disk, 40_000))
            error = "No space left on device"
        else:
            OUT.mkdir()
            disk = stack.enter_context(disks.small_disk(folder, SIZE))
            after_two(monkeypatch, lambda: disks.make_read_only(disk))
            error = "Read-only file system"
        for problem in (f"{error}; mend that and run the same command again", "make room" if what == "full" else error):
            capsys.readouterr()
            assert world.prepare(*argv) == 1
            assert problem in capsys.readouterr().err
            assert not list(folder.glob("production_*"))
        held = receipts(OUT)
        assert any(held.values())
        if what == "full":
            (disk / "ballast").unlink()
        else:
            disks.remount(disk, "rw")
        assert world.prepare(*argv) == 0
        assert products(OUT) == expected
        assert_still_prefix(held, receipts(OUT))
        assert not list(OUT.rglob(".tmp-*"))
        assert inprocess.omni("verify", OUT) == 0


@pytest.mark.parametrize("modality", ["image"])
def test_a_disk_that_is_full_before_there_is_any_index(
    catalog: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then a round has fewer blocks than are tried otherwise, and no source is to blame."""

    def refuse(storage: LocalStorage, key: str, data: bytes) -> Staged:
        raise StorageError(f"{key}: No space left on device")

    inprocess.without_ray(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "staged", refuse)
        assert world.prepare("image", OUT, catalog) == 1
    assert "No space left on device (2 blocks in a row could not be written)" in capsys.readouterr().err
    assert world.prepare("image", OUT, catalog) == 0
    assert inprocess.omni("verify", OUT) == 0
