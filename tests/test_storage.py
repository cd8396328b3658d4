import errno
import os
from pathlib import Path

import pytest

from omni_ray.errors import LeaseLost, StorageError, UsageError
from omni_ray.storage import TEMP_PREFIX, LocalStorage, Slice, local, open_storage


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "out")


def names(storage: LocalStorage) -> list[str]:
    return [stat.key for stat in storage.list("")]


def test_put_replaces_and_leaves_nothing_else(storage: LocalStorage) -> None:
    storage.put("a/b.txt", b"one")
    storage.put("a/b.txt", b"two")
    assert storage.read("a/b.txt") == b"two"
    assert names(storage) == ["a/b.txt"]


def test_create_only_where_nothing_is(storage: LocalStorage) -> None:
    assert storage.create("lease/1", b"first")
    assert not storage.create("lease/1", b"second")
    assert storage.read("lease/1") == b"first"
    assert names(storage) == ["lease/1"]


def test_writer_shows_nothing_before_commit_and_abort_leaves_the_old(storage: LocalStorage) -> None:
    storage.put("corpus.txt", b"old")
    writer = storage.writer("corpus.txt")
    writer.write(b"new")
    assert storage.read("corpus.txt") == b"old"
    writer.abort()
    assert storage.read("corpus.txt") == b"old"
    assert names(storage) == ["corpus.txt"]


def test_append_slice_copies_exactly(storage: LocalStorage) -> None:
    storage.put("block", bytes(range(256)) * 100_000)
    writer = storage.writer("joined")
    writer.write(b"[")
    writer.append_slice(Slice("block", 5, 20_000_000))
    writer.append_slice(Slice("block", 0, 0))
    writer.write(b"]")
    writer.commit()
    assert storage.read("joined") == b"[" + (bytes(range(256)) * 100_000)[5:20_000_005] + b"]"


def test_append_slice_past_the_end_is_an_error(storage: LocalStorage) -> None:
    storage.put("block", b"abc")
    writer = storage.writer("joined")
    with pytest.raises(StorageError, match="ends 2 bytes early"):
        writer.append_slice(Slice("block", 1, 4))
    writer.abort()
    assert names(storage) == ["block"]


def test_read_ranges_and_missing(storage: LocalStorage) -> None:
    storage.put("a", b"0123456789")
    assert storage.read("a", 3, 4) == b"3456"
    assert storage.read("a", 8, 10) == b"89"
    assert storage.stat("b") is None
    with pytest.raises(StorageError, match="b: No such file"):
        storage.read("b")


@pytest.mark.parametrize("key", ["/etc/passwd", "../a", "a/../../b"])
def test_keys_stay_below_the_root(storage: LocalStorage, key: str) -> None:
    with pytest.raises(StorageError, match="stays below"):
        storage.put(key, b"")


def test_sweep_removes_unfinished_writes_only(storage: LocalStorage) -> None:
    storage.put("a/done", b"")
    writer = storage.writer("a/unfinished")
    writer.write(b"half")
    assert storage.sweep("a") == 1
    assert names(storage) == ["a/done"]
    with pytest.raises(StorageError):
        writer.commit()


@pytest.mark.parametrize("name", [".tmp-notes", ".tmp-0123456789ab", ".tmp-0123456789AB-x", "x.tmp-0123456789ab-y"])
def test_sweep_leaves_what_is_not_ours(storage: LocalStorage, name: str) -> None:
    storage.put(f"a/{name}", b"the user's")
    assert storage.sweep("a") == 0
    assert names(storage) == [f"a/{name}"]


def test_a_folder_that_cannot_be_listed_is_an_error(storage: LocalStorage) -> None:
    storage.put("a/b", b"")
    assert not list(storage.list("missing"))
    assert not list(storage.list("a/b"))
    unreadable = "x" * 300  # root may read every folder, but no name is that long
    for look in (storage.list, storage.sweep):
        with pytest.raises(StorageError, match="xxx: File name too long"):
            list(look(unreadable))  # type: ignore[operator]


def test_appender_refuses_an_existing_log(storage: LocalStorage) -> None:
    log = storage.appender("ledger/1")
    log.write(b"x\n")
    log.sync()
    log.close()
    with pytest.raises(StorageError, match="File exists"):
        storage.appender("ledger/1")
    assert storage.read("ledger/1") == b"x\n"


def test_touch_makes_young_and_never_makes(storage: LocalStorage) -> None:
    storage.put("a", b"x")
    os.utime(storage.path("a"), ns=(1, 1))
    assert storage.touch("a")
    assert storage.now_ns() - storage.stat("a").mtime_ns < 10e9  # type: ignore[union-attr]
    assert not storage.touch("b")
    assert names(storage) == ["a"]


def test_delete_tree_keeps_what_somebody_put_there_meanwhile(storage: LocalStorage, tmp_path: Path) -> None:
    storage.put("a/b/c", b"")
    storage.delete_tree("a")
    assert not (tmp_path / "out/a").exists()
    storage.delete_tree("never-there")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        LocalStorage(tmp_path / "x").put("a", b"")


def test_full_disk_is_named_and_leaves_the_old_file(storage: LocalStorage) -> None:
    storage.put("a", b"old")
    writer = storage.writer("a")
    writer._stream.close()  # type: ignore[attr-defined]
    writer._stream = open("/dev/full", "wb", buffering=0)  # type: ignore[attr-defined]  # noqa: SIM115
    with pytest.raises(StorageError, match="No space left on device"):
        writer.write(b"new")
    writer.abort()
    assert storage.read("a") == b"old"
    assert not [name for name in names(storage) if TEMP_PREFIX in name]


def test_schemes() -> None:
    assert isinstance(open_storage("data"), LocalStorage)
    assert isinstance(open_storage("file:///tmp/x"), LocalStorage)
    assert open_storage("s3://bucket/x/").uri == "s3://bucket/x"
    with pytest.raises(UsageError, match="s3://bucket/prefix"):
        open_storage("s3:///x")
    with pytest.raises(UsageError, match="ftp"):
        open_storage("ftp://host/x")


def test_a_fenced_storage_changes_nothing_once_its_check_fails(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("old", b"1")
    lost = False

    def check() -> None:
        if lost:
            raise LeaseLost("another run took over")

    fenced = storage.fenced(check)
    log = fenced.appender("log")
    log.write(b"kept ")
    log.sync()
    log.write(b"not kept")
    writer = fenced.writer("new")
    writer.write(b"2")
    lost = True
    for change in (
        log.sync,
        writer.commit,
        lambda: fenced.put("old", b"2"),
        lambda: fenced.delete("old"),
        lambda: fenced.delete_tree(""),
        lambda: fenced.appender("log2"),
    ):
        with pytest.raises(LeaseLost):
            change()
    log.close()
    writer.abort()
    assert {stat.key: storage.read(stat.key) for stat in storage.list("")} == {"old": b"1", "log": b"kept "}
    storage.put("old", b"3")  # the one that is not fenced


def test_what_the_disk_does_not_take_while_a_file_grows_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system tells an error of writing once, and whoever syncs first hears it."""
    storage = LocalStorage(tmp_path)
    storage.put("source", b"x" * 1000)
    monkeypatch.setattr(local, "EARLY_SYNC_BYTES", 1500)
    failing = iter([True])
    fsync = os.fsync

    def once_broken(file: int) -> None:
        if next(failing, False):
            raise OSError(errno.EIO, "Input/output error")
        fsync(file)

    writer = storage.writer("grown")
    monkeypatch.setattr(local.os, "fsync", once_broken)
    with pytest.raises(StorageError, match="grown: Input/output error"):
        for _ in range(2):
            writer.append_slice(Slice("source", 0, 1000))
        writer.commit()
    writer.abort()
    assert [stat.key for stat in storage.list("")] == ["source"]


def test_a_file_that_is_synced_while_it_grows_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("source", bytes(range(250)) * 4)
    monkeypatch.setattr(local, "EARLY_SYNC_BYTES", 1)
    writer = storage.writer("grown")
    for _ in range(50):
        writer.append_slice(Slice("source", 3, 990))
    writer.commit()
    writer.abort()
    assert storage.read("grown") == storage.read("source", 3, 990) * 50


def test_many_files_appear_together(storage: LocalStorage) -> None:
    """Over what is there already too; what is in the way of none of them stays."""
    storage.put("top/a/1", b"old")
    storage.put("top/a/other", b"")
    contents = {f"top/{folder}/{number}": b"%d" % number for folder in "ab" for number in range(9)}
    many = storage.staged_many(contents, "top")
    assert storage.read("top/a/1") == b"old"
    assert not storage.exists("top/b/1")
    many.commit()
    many.abort()
    assert names(storage) == sorted([*contents, "top/a/other"])
    assert all(storage.read(key) == data for key, data in contents.items())


def test_many_files_where_folders_cannot_be_moved(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, target: Path) -> Path:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    monkeypatch.setattr(Path, "rename", refuse)
    contents = {f"top/{folder}/{number}": b"%d" % number for folder in "ab" for number in range(9)}
    storage.staged_many(contents, "top").commit()
    assert names(storage) == sorted(contents)


def test_many_files_that_are_given_up_leave_nothing(storage: LocalStorage) -> None:
    storage.staged_many({"top/a": b"1", "top/b/c": b"2"}, "top").abort()
    assert names(storage) == []


def test_many_files_of_a_run_that_lost_its_lease_stay_unseen(storage: LocalStorage) -> None:
    def lost() -> None:
        raise LeaseLost("another run took over")

    many = storage.fenced(lost).staged_many({"top/a": b"1"}, "top")
    with pytest.raises(LeaseLost):
        many.commit()
    many.abort()
    assert names(storage) == []


@pytest.mark.parametrize("deep", [True, False])
def test_sweep_removes_many_files_that_were_never_committed(storage: LocalStorage, deep: bool) -> None:
    storage.put("top/a/1", b"")
    storage.staged_many({"top/a/2": b"2", "top/b/3": b"3"}, "top")
    inner = storage.writer("top/a/4")
    assert storage.sweep("top", only=[], deep=deep) == (2 if deep else 1)
    inner.abort()
    assert names(storage) == ["top/a/1"]
    assert list(storage.folders("top")) == ["a"]
    assert list(storage.folders("nowhere")) == []
