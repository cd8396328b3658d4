"""`verify` looks at the files of index passes too."""

import gzip
from pathlib import Path

import pytest

from omni_ray.prepare import verify
from omni_ray.storage import LocalStorage
from tests.prepare.hostile import files
from tests.prepare.hostile.client import Worker
from tests.prepare.hostile.run import prepare


@pytest.mark.parametrize("kind", ["cuts.parquet", "members.parquet", "gzidx"])
@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_damaged_index_files_are_named(worker: Worker, tmp_path: Path, kind: str, damage: str) -> None:
    (tmp_path / "docs.tar.gz").write_bytes(gzip.compress(files.tar(files.documents())))
    prepare(worker, tmp_path, "docs.tar.gz", "documents")
    storage = LocalStorage(tmp_path / "out")
    assert verify.verify(storage, "text").problems == []
    (path,) = (tmp_path / "out/.omni_ray/text/s/index").glob(f"*.{kind}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data)
    (problem,) = verify.verify(storage, "text").problems
    assert problem.startswith("s: docs.tar.gz: index: ")
    assert path.name in problem
    assert ("is missing" if damage == "gone" else "its sha256 is not the receipt's") in problem


def test_seek_points_of_superseded_segments_may_be_gone(worker: Worker, tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress("\n".join(files.TEXTS).encode()))
    prepare(worker, tmp_path, "a.txt.gz", "lines", "block_bytes = 1024", segment_bytes=2000)
    folder = tmp_path / "out/.omni_ray/text/s/index"
    assert len(list(folder.glob("*.cuts.parquet"))) > 1
    (newest,) = folder.glob("*.gzidx")
    newest.unlink()
    (problem,) = verify.verify(LocalStorage(tmp_path / "out"), "text").problems
    assert f"{newest.name} is missing" in problem
