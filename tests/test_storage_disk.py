"""What a disk that is full or read-only does to the many small files of a segment."""

import errno
import os
from pathlib import Path

import pytest

from omni_ray.errors import StorageError
from omni_ray.storage import LocalStorage
from omni_ray.storage.local_many import FEW
from tests import disks

FILES = {f"top/{folder}/{number:02d}": bytes([number]) * 5000 for folder in "abcd" for number in range(10)}


def names(storage: LocalStorage) -> list[str]:
    return [stat.key for stat in storage.list("top")]


@pytest.mark.parametrize("lacking", ["bytes", "files", "the end of the last one"])
def test_a_disk_that_is_full_after_some_of_many_files(tmp_path: Path, lacking: str) -> None:
    """None of them is there, and what was written of them takes no room; once there is room they are all put."""
    contents = {"top/a/00": bytes(100_000)} if lacking == "the end of the last one" else FILES
    with disks.small_disk(tmp_path / "disk", 2 << 20, files=30 if lacking == "files" else 0) as disk:
        storage = LocalStorage(disk)
        storage.put("top/a/before", b"")
        ballast = disks.fill(disk, 60_000) if lacking != "files" else None
        free = os.statvfs(disk)
        with pytest.raises(StorageError, match="top: No space left on device; mend that and run the same command"):
            storage.staged_many(contents, "top")
        assert names(storage) == ["top/a/before"]
        assert os.statvfs(disk) == free
        if ballast is None:
            disks.remount(disk, "nr_inodes=1000")
        else:
            ballast.unlink()
        storage.staged_many(contents, "top").commit()
        assert names(storage) == sorted([*contents, "top/a/before"])


@pytest.mark.parametrize("count", [FEW, len(FILES)])  # flushed one by one, and together
def test_a_disk_that_is_read_only_before_many_files_are_seen(tmp_path: Path, count: int) -> None:
    files = dict(list(FILES.items())[:count])
    with disks.small_disk(tmp_path / "disk", 2 << 20) as disk:
        storage = LocalStorage(disk)
        many = storage.staged_many(files, "top")
        waiting = names(storage)
        disks.make_read_only(disk)
        with pytest.raises(StorageError, match="top: Read-only file system; mend that and run the same command"):
            many.commit()
        many.abort()
        with pytest.raises(StorageError, match="Read-only file system"):
            storage.staged_many(files, "top")
        assert names(storage) == waiting, "what cannot be removed now stays under its temporary name"
        disks.remount(disk, "rw")
        assert storage.sweep("top", only=[], deep=False) == 1
        storage.staged_many(files, "top").commit()
        assert names(storage) == sorted(files)


def test_a_disk_that_is_full_once_some_of_many_files_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are seen stay: their names tell their content, and the next attempt puts the same ones again."""
    storage = LocalStorage(tmp_path)
    rename, seen = Path.rename, list[Path]()

    def one(path: Path, target: Path) -> Path:
        if seen:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        seen.append(target)
        return rename(path, target)

    def none(path: Path, parents: bool = False, exist_ok: bool = False) -> None:
        if not path.is_dir():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    many = storage.staged_many(FILES, "top")
    with monkeypatch.context() as full:
        full.setattr(Path, "rename", one)
        full.setattr(Path, "mkdir", none)
        with pytest.raises(StorageError, match="top: No space left on device"):
            many.commit()
    many.abort()
    assert seen == [tmp_path / "top/a"]
    assert names(storage) == [key for key in FILES if key.startswith("top/a/")]
    storage.staged_many(FILES, "top").commit()
    assert {key: storage.read(key) for key in names(storage)} == FILES
