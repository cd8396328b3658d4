"""What an output's files say together: one selection, whole, every key once, damage named."""

import io
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omni_ray import cli
from omni_ray.lease import LEASE_FOLDER
from omni_ray.prepare import store
from tests.e2e import harness
from tests.prepare import inprocess

pytestmark = pytest.mark.usefixtures("no_ray")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return inprocess.write(tmp_path, "a", "b")


def verify(out: Path) -> int:
    return cli.main(["verify", "--out", str(out)])


def test_every_file_written_before_follows_the_newest_selection(tmp_path: Path, out: Path, catalog: Path) -> None:
    small = ("--max-gb", "0.00001", "--no-combine")
    assert inprocess.prepare(out, catalog, *small, "--dataset", "a") == 0
    assert inprocess.prepare(out, catalog, *small, "--dataset", "b") == 0
    assert verify(out) == 0
    assert inprocess.prepare(out, catalog) == 0
    assert verify(out) == 0
    assert inprocess.prepare(out, catalog, *small) == 0
    assert verify(out) == 0
    fresh = tmp_path / "fresh"
    assert inprocess.prepare(fresh, catalog, *small) == 0
    assert inprocess.prepare(fresh, catalog, "--max-gb", "0.00001") == 0
    assert harness.products(out) == harness.products(fresh)


def test_an_output_that_lacks_a_source_is_not_verified(
    out: Path, catalog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (catalog.parent / "b.txt").rename(catalog.parent / "moved.txt")
    assert inprocess.prepare(out, catalog, "--allow-partial") == 4
    capsys.readouterr()
    assert verify(out) == 1
    assert "b: never reached; nothing of it is in the output" in capsys.readouterr().out


def test_members_of_one_name_have_keys_of_their_own(tmp_path: Path, out: Path) -> None:
    with tarfile.open(tmp_path / "twins.tar", "w") as archive:
        for text in (b"the first of the two documents", b"the second of the two documents", b"and one more document"):
            member = tarfile.TarInfo("same.txt" if b"two" in text else "other.txt")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    catalog = tmp_path / "twins.toml"
    catalog.write_text(inprocess.entry("twins", url='"twins.tar"').replace('reader = "lines"', 'reader = "documents"'))
    assert inprocess.prepare(out, catalog) == 0
    index = pq.read_table(out / "text/production_corpus.index.parquet")
    assert index.column("key").to_pylist() == [
        "twins:twins.tar#same.txt@0", "twins:twins.tar#same.txt~1@0", "twins:twins.tar#other.txt@0",
    ]  # fmt: skip
    assert verify(out) == 0


@pytest.mark.parametrize("name", ["plan.json", "request.json", "combined.json", "rows.parquet", "txt"])
@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\x00 no such thing"])
def test_damaged_files_of_ours_are_named(
    out: Path, catalog: Path, name: str, damage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inprocess.prepare(out, catalog) == 0
    path = next(path for path in sorted(out.glob(".omni_ray/text/**/*")) if path.name.endswith(name))
    path.write_bytes(damage)
    capsys.readouterr()
    assert verify(out) == 1
    shown = capsys.readouterr()
    assert path.name in shown.out + shown.err
    if name.endswith("json"):
        assert inprocess.prepare(out, catalog) == 1
        assert f"{path.name}: damaged: " in capsys.readouterr().err
        path.unlink()
        assert inprocess.prepare(out, catalog) == 0
        assert verify(out) == 0


@pytest.mark.parametrize("damage", [b"", b"\xff\x00 no such thing", store.encode_parquet(pa.table({"other": [1]}))])
def test_a_damaged_index_is_named_by_a_run_that_needs_it(
    tmp_path: Path, out: Path, damage: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    with tarfile.open(tmp_path / "docs.tar", "w") as archive:
        member = tarfile.TarInfo("one.txt")
        archive.addfile(member, io.BytesIO(b""))
    catalog = tmp_path / "docs.toml"
    catalog.write_text(inprocess.entry("docs", url='"docs.tar"').replace('reader = "lines"', 'reader = "documents"'))
    assert inprocess.prepare(out, catalog) == 0
    (path,) = out.glob(".omni_ray/text/docs/index/*cuts.parquet")
    path.write_bytes(damage)
    capsys.readouterr()
    assert inprocess.prepare(out, catalog) == 1
    assert f"{path.name}: " in capsys.readouterr().err
    assert verify(out) == 1
    assert path.name in capsys.readouterr().out


def test_a_missing_block_is_named_and_reset_makes_it_anew(
    out: Path, catalog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inprocess.prepare(out, catalog) == 0
    products = harness.products(out)
    block = next(out.glob(".omni_ray/text/a/blocks/*-bytes-0.*.txt"))  # one that every cut reaches
    block.unlink()
    assert inprocess.prepare(out, catalog, "--max-gb", "0.00002") == 1
    assert block.name in capsys.readouterr().err
    assert inprocess.prepare(out, catalog, "--reset", "--dataset", "a") == 0
    assert harness.products(out) == products


def test_a_lease_that_cannot_be_read_is_judged_by_its_age(
    out: Path, catalog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inprocess.prepare(out, catalog) == 0
    (lease,) = (out / LEASE_FOLDER).iterdir()
    lease.write_bytes(b"{")
    assert inprocess.prepare(out, catalog) == 5
    assert "a run whose lease cannot be read" in capsys.readouterr().err
    long_ago = lease.stat().st_mtime - 61
    os.utime(lease, (long_ago, long_ago))
    assert inprocess.prepare(out, catalog) == 0
