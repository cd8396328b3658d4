"""Sources in buckets: globs, pinned ETags, and every layout read by ranges."""

from pathlib import Path

import boto3
import pytest

from omni_ray.catalog import Source, load_catalog
from omni_ray.errors import CatalogError, DataError, SourceFailed, StorageError
from omni_ray.prepare import readers, sources
from omni_ray.prepare.records import InputFile, RawBatch
from omni_ray.storage import s3_client
from tests.e2e.sources import write_sources
from tests.s3.conftest import BUCKET, upload_folder
from tests.s3.proxy import Fault, Proxy

KEYS = ["in/a.txt", "in/b.txt", "in/.hidden.txt", "in/deep/c.txt", "in/deep/er/d.txt", "in/[x].txt", "other/e.txt"]


def lines_source(*urls: str) -> Source:
    entry = {"name": "n", "modality": "text", "category": "general", "reader": "lines", "license": "MIT"}
    return Source.model_validate({**entry, "url": urls, "defined_in": "catalog.toml"})


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("in/a.txt", ["in/a.txt"]),
        ("in/*.txt", ["in/[x].txt", "in/a.txt", "in/b.txt"]),
        ("in/**/*.txt", ["in/[x].txt", "in/a.txt", "in/b.txt", "in/deep/c.txt", "in/deep/er/d.txt"]),
        ("in/.*", ["in/.hidden.txt"]),
        ("in/[ab].txt", ["in/a.txt", "in/b.txt"]),
        ("*/?.txt", ["in/a.txt", "in/b.txt", "other/e.txt"]),
        ("in/[[]x].txt", ["in/[x].txt"]),
    ],
)
def test_globs(proxy: Proxy, url: str, found: list[str]) -> None:
    client = boto3.client("s3")
    for key in KEYS:
        client.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
    proxy.forget()
    files = sources.expand(lines_source(f"s3://{BUCKET}/{url}"))
    assert [file.path for file in files] == [f"s3://{BUCKET}/{key}" for key in found]
    assert [file.size for file in files] == [len(key) for key in found]
    etags = {client.head_object(Bucket=BUCKET, Key=key)["ETag"].strip('"') for key in found}
    assert {file.revision for file in files} == etags
    assert proxy.count().total() == 1 + len(found)


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        (f"s3://{BUCKET}/none.txt", SourceFailed, "no object found"),
        (f"s3://{BUCKET}/none/*", SourceFailed, "no object found"),
        ("s3://nobody-has-it/x*", SourceFailed, "the bucket does not exist"),
        (f"s3://{BUCKET}", CatalogError, "names a bucket"),
        (f"s3://{BUCKET}/a**b", CatalogError, "entire path component"),
        ("s3://user:planted@bucket/x", CatalogError, "holds no credentials"),
    ],
)
def test_urls_that_lead_nowhere_are_named(proxy: Proxy, url: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        sources.expand(lines_source(url))
    assert "catalog.toml: source 'n': url" in str(raised.value)
    assert "planted" not in str(raised.value)


def test_a_source_without_permission_fails_alone(proxy: Proxy) -> None:
    proxy.fail(Fault("HEAD", "a.txt", status=403), Fault("GET", "list-type", status=403, code="AccessDenied"))
    for url in (f"s3://{BUCKET}/a.txt", f"s3://{BUCKET}/*"):
        with pytest.raises(SourceFailed, match="need s3:"):
            sources.expand(lines_source(url))


def read_all(source: Source) -> list[object]:
    """Every record of every file, through index passes where there are some."""
    records: list[object] = []
    for file in sources.expand(source):
        blind = readers.plan_cuts(source, file)
        parts = list(readers.index_file(source, file, b"", None)) if blind is None else []
        cuts = blind if blind is not None else [cut for part in parts for cut in part.cuts]
        members = [member for part in parts for member in part.members]
        points = parts[-1].seek_points if parts else b""
        for cut in cuts:
            for batch in readers.read_cut(source, file, cut, members, points, None):
                assert isinstance(batch, RawBatch)
                records += batch.records
    return records


@pytest.fixture
def catalogs(proxy: Proxy, tmp_path: Path) -> tuple[Path, Path]:
    """The same sources on disk and in a bucket."""
    catalog = write_sources(tmp_path / "in", size=60_000)
    upload_folder(tmp_path / "in", "in")
    text = catalog.read_text()
    (tmp_path / "s3.toml").write_text(text.replace('url = "', f'url = "s3://{BUCKET}/in/'))
    proxy.forget()
    return catalog, tmp_path / "s3.toml"


def test_every_layout_reads_as_on_disk(catalogs: tuple[Path, Path], proxy: Proxy) -> None:
    local, remote = (load_catalog(path).sources for path in catalogs)
    for here, there in zip(local, remote, strict=True):
        proxy.fail(Fault("GET", r"/in/", cut=1000, times=2))
        assert read_all(there) == read_all(here)


def test_a_network_that_fails_is_no_damage_of_the_file(
    catalogs: tuple[Path, Path], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    s3_client._client.cache_clear()
    for source in load_catalog(catalogs[1]).sources:
        files = sources.expand(source)
        proxy.fail(Fault("GET", r"/in/", status=500, times=2))  # it has recovered before anything could be read anew
        with pytest.raises(StorageError):
            read_file(source, files[0])
        proxy.forget()


def test_an_object_that_was_replaced_is_not_mixed_with_the_old_one(catalogs: tuple[Path, Path]) -> None:
    for source in load_catalog(catalogs[1]).sources:
        (file,) = sources.expand(source)
        boto3.client("s3").put_object(
            Bucket=BUCKET, Key=file.path.removeprefix(f"s3://{BUCKET}/"), Body=b"x" * file.size
        )
        with pytest.raises(DataError, match="--update takes it as it is now"):
            read_file(source, file)


def read_file(source: Source, file: InputFile) -> None:
    cuts = readers.plan_cuts(source, file)
    if cuts is None:
        list(readers.index_file(source, file, b"", None))
    else:
        list(readers.read_cut(source, file, next(iter(cuts)), [], b"", None))
