import json
import os
from pathlib import Path

import pytest

from omni_ray import journal
from omni_ray.errors import Refused, StorageError
from omni_ray.storage import LocalStorage

OLD = {"a.json": "old a", "b.json": "old b"}
NEW = {"a.json": "new a", "b.json": "new b", "c.json": "made"}
BASED_ON = {**OLD, "c.json": None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in OLD.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def break_off(folder: Path, monkeypatch: pytest.MonkeyPatch, puts: int) -> None:
    """Begin an update, and let the disk fail after so many writes."""
    put, done = LocalStorage.put, 0

    def failing(self: LocalStorage, key: str, data: bytes) -> None:
        nonlocal done
        if done == puts:
            raise StorageError(f"{key}: No space left on device")
        done += 1
        put(self, key, data)

    with monkeypatch.context() as patched, pytest.raises(StorageError):
        patched.setattr(LocalStorage, "put", failing)
        journal.write_together(folder, NEW, BASED_ON)


def test_all_files_are_written_and_nothing_else_is_left(folder: Path) -> None:
    (folder / ".tmp-0123456789ab-a.json").write_text("what a killed put left")
    (folder / ".tmp-0123456789ab-other.json").write_text("somebody else's")
    journal.write_together(folder, NEW, BASED_ON)
    assert contents(folder) == {**NEW, ".tmp-0123456789ab-other.json": "somebody else's"}


@pytest.mark.parametrize("puts", range(4))
def test_what_broke_off_is_finished_or_never_began(folder: Path, monkeypatch: pytest.MonkeyPatch, puts: int) -> None:
    break_off(folder, monkeypatch, puts)
    expected = NEW if puts else {}  # the journal is the first write, and decides
    assert journal.pending(folder) == expected
    assert journal.finish(folder) == tuple(expected)
    assert contents(folder) == (NEW if puts else OLD)


def test_the_next_update_finishes_the_last_one_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_off(folder, monkeypatch, 2)
    journal.write_together(folder, {"a.json": "newer a"}, {"a.json": "new a"})
    assert contents(folder) == {**NEW, "a.json": "newer a"}


@pytest.mark.parametrize("changed", ["a.json", "c.json"])
def test_a_file_that_changed_meanwhile_is_left_alone(folder: Path, changed: str) -> None:
    (folder / changed).write_text("by hand")
    with pytest.raises(Refused, match=f"{changed}: changed while it was worked on"):
        journal.write_together(folder, NEW, BASED_ON)
    assert contents(folder) == {**OLD, changed: "by hand"}


def test_a_file_that_changed_after_an_interruption_is_left_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_off(folder, monkeypatch, 1)
    (folder / "b.json").write_text("by hand")
    with pytest.raises(Refused, match=r"b.json: was changed after an update.*delete .*journal.json to keep"):
        journal.finish(folder)
    assert (folder / "a.json").read_text() == "old a"


def test_a_damaged_journal_is_named(folder: Path) -> None:
    (folder / journal.JOURNAL).write_text(json.dumps({"changes": {"a.json": "text"}}))
    with pytest.raises(StorageError, match=r"journal.json: .*is damaged.*then delete it"):
        journal.finish(folder)
    assert (folder / "a.json").read_text() == "old a"


def test_a_journal_cannot_write_outside_its_folder(folder: Path) -> None:
    change = {"before": None, "content": "x"}
    (folder / journal.JOURNAL).write_text(json.dumps({"changes": {"../escaped.json": change}}))
    with pytest.raises(StorageError, match="stays below"):
        journal.finish(folder)
    assert not (folder.parent / "escaped.json").exists()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere: No such file"):
        journal.write_together(tmp_path / "nowhere", NEW, BASED_ON)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_named(folder: Path) -> None:
    folder.chmod(0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        journal.write_together(folder, NEW, BASED_ON)
    assert contents(folder) == OLD
