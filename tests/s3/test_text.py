"""`prepare text` in and out of s3://, in processes, killed, refused and disturbed: identical to the run on disk."""

import os
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from omni_ray.storage.s3 import S3Storage
from tests.e2e import harness, sources
from tests.s3 import outputs
from tests.s3.conftest import empty_bucket, lead_to, upload_folder
from tests.s3.outputs import blocks_put
from tests.s3.proxy import Fault, Proxy

pytestmark = [pytest.mark.slow, pytest.mark.ray]
BUCKET = "whole-runs"
SECRET = "planted7Kq2vSecretNobodyMaySee"
KILLS = 5
POINTS = [
    *("planning", "indexing", "decoding@5", "committing@9", "ledger@2", "joining", "combining", "publishing"),
]
CORPUS, INDEX = "text/production_corpus.txt", "text/production_corpus.index.parquet"


class World(NamedTuple):
    """Sources on disk and the same in a bucket, and what an undisturbed run makes of each."""

    proxy: Proxy
    disk: Path
    bucket: Path
    products: dict[str, str]
    blocks: int


@pytest.fixture(scope="module")
def ray_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def settings(shared_proxy: Proxy, ray_folder: Path) -> Iterator[Proxy]:
    with pytest.MonkeyPatch.context() as patch:
        lead_to(shared_proxy, patch, SECRET)
        patch.setenv("RAY_TMPDIR", str(ray_folder))
        empty_bucket(BUCKET)
        yield shared_proxy


@pytest.fixture(scope="module")
def world(settings: Proxy, tmp_path_factory: pytest.TempPathFactory) -> World:
    disk = sources.write_sources(tmp_path_factory.mktemp("sources"), size=150_000)
    upload_folder(disk.parent, "in", BUCKET)
    bucket = disk.with_name("s3.toml")
    bucket.write_text(disk.read_text().replace('url = "', f'url = "s3://{BUCKET}/in/'))
    settings.forget()
    done = harness.run(harness.prepare_text(uri("undisturbed"), bucket))
    assert done.code == 0, done.stderr
    return World(settings, disk, bucket, products("undisturbed"), blocks_put(settings))


def uri(out: str) -> str:
    return f"s3://{BUCKET}/{out}"


def products(out: str) -> dict[str, str]:
    return outputs.products(uri(out))


def receipts(out: str) -> dict[str, list[str]]:
    return outputs.receipts(uri(out))


def finished(out: str, world: World) -> dict[str, str]:
    done = harness.run(harness.prepare_text(uri(out), world.bucket))
    assert done.code == 0, done.stderr
    verified = harness.run(harness.command("omni_ray.cli", "verify", "--out", uri(out)))
    assert verified.code == 0, verified.stdout + verified.stderr
    return products(out)


@pytest.fixture(autouse=True)
def calm(settings: Proxy) -> None:
    settings.forget()


def test_out_of_the_disk_and_out_of_a_bucket_alike(world: World, tmp_path: Path) -> None:
    done = harness.run(harness.prepare_text(tmp_path / "out", world.disk))
    assert done.code == 0, done.stderr
    done = harness.run(harness.prepare_text(uri("from-disk"), world.disk))
    assert done.code == 0, done.stderr
    expected = harness.products(tmp_path / "out")
    assert products("from-disk") == expected
    assert world.products[CORPUS] == expected[CORPUS]
    storage = S3Storage(uri("undisturbed"))
    found = pq.read_table(pa.BufferReader(storage.read(INDEX)))
    wanted = pq.read_table(tmp_path / "out" / INDEX)
    for column in found.column_names:  # a file's name is its uri; everything else is the same
        values = found.column(column)
        if column in ("key", "group"):
            values = pc.replace_substring(values, f"s3://{BUCKET}/in/", "")
        assert values.to_pylist() == wanted.column(column).to_pylist(), column


def test_killed_at_seeded_moments(world: World) -> None:
    dice = random.Random(5)
    between = 0
    held: dict[str, list[str]] = {}
    for moment in sorted(dice.sample(range(1, world.blocks), KILLS)):
        with harness.started(harness.prepare_text(uri("killed"), world.bucket)) as process:
            already = sum(map(len, held.values()))
            world.proxy.forget()
            reached = harness.wait_until(process, lambda more=moment - already: blocks_put(world.proxy) >= more)  # type: ignore[misc]
            harness.kill_group(process)
        held = receipts("killed")
        between += reached and 0 < sum(map(len, held.values())) < world.blocks
    assert between * 2 >= KILLS, "too few kills fell between the first and the last receipt"
    assert finished("killed", world) == world.products
    harness.assert_still_prefix(held, receipts("killed"))


@pytest.mark.long
def test_stopped_at_each_point_of_the_crash_table(world: World) -> None:
    held: dict[str, list[str]] = {}
    for point in POINTS:
        with harness.started(harness.prepare_text(uri("stopped"), world.bucket), OMNI_RAY_STOP=point) as process:
            process.wait(harness.PATIENCE)
            assert process.returncode == -9, f"the run did not come to {point}"
        now = receipts("stopped")
        harness.assert_still_prefix(held, now)
        held = now
    world.proxy.forget()
    assert finished("stopped", world) == world.products
    assert not [path for kind, path in world.proxy.requests if kind == "PUT" and "/blocks/" in path]


def test_a_storm_of_failures_changes_nothing(world: World) -> None:
    world.proxy.storm = random.Random(3)
    done = harness.run(harness.prepare_text(uri("storm"), world.bucket))
    assert done.code == 0, done.stderr
    world.proxy.forget()
    assert finished("storm", world) == world.products


def test_of_two_runs_at_once_one_is_refused_and_a_late_one_commits_nothing(world: World) -> None:
    argv = harness.prepare_text(uri("two"), world.bucket)
    with harness.started(argv) as stopped:
        assert harness.wait_until(stopped, lambda: blocks_put(world.proxy) >= 3)
        os.kill(stopped.pid, signal.SIGSTOP)
        refused = harness.run(argv)
        assert refused.code == 5, refused.stderr
        assert f"(process {stopped.pid} on" in refused.stderr
        world.proxy.fail(Fault("GET", "list-type", times=9999, late=61))  # a minute later by the store's clock
        done = harness.run(argv)
        assert done.code == 0, done.stderr
        held = receipts("two")
        os.kill(stopped.pid, signal.SIGCONT)
        _, stderr = stopped.communicate(timeout=harness.PATIENCE)
        assert stopped.returncode == 5, stderr
        assert "another run took over" in stderr
    assert receipts("two") == held
    assert products("two") == world.products


@pytest.mark.long
def test_status_retry_and_reset_work_as_on_disk(world: World) -> None:
    assert finished("looked-at", world) == world.products
    shown = harness.run(harness.command("omni_ray.cli", "status", "--out", uri("looked-at")))
    assert shown.code == 0
    assert "talk" in shown.stdout
    assert "6 quarantined as bad_json" in shown.stdout
    again = harness.command("omni_ray.cli", "retry", "--out", uri("looked-at"), "--address", "local", "--workers", "2")
    done = harness.run([*again, "--reason", "bad_json"])
    assert done.code == 0, done.stderr
    assert "0 of 6 records quarantined as bad_json are in now; 6 records stay quarantined as bad_json" in done.stderr
    S3Storage(uri("looked-at")).put("text/theirs.txt", b"not ours")
    anew = harness.prepare_text(uri("looked-at"), world.bucket, "--reset", "--dataset", "lines")
    with harness.started(anew, OMNI_RAY_STOP="forgetting") as process:
        process.wait(harness.PATIENCE)
        assert process.returncode == -9
    done = harness.run(anew)
    assert done.code == 0, done.stderr
    left = products("looked-at")
    assert left.pop("text/theirs.txt") == sha256(b"not ours").hexdigest()
    assert left == world.products


def test_one_file_per_dataset_without_combining(world: World) -> None:
    done = harness.run(harness.prepare_text(uri("apart"), world.bucket, "--no-combine"))
    assert done.code == 0, done.stderr
    names = [f"text/{name}.txt" for name in ("talk", "lines", "speeches", "cells")]
    joined = b"".join(S3Storage(uri("apart")).read(name) for name in names)
    assert sha256(joined).hexdigest() == world.products[CORPUS]
    assert sorted(products("apart")) == sorted(names)


def test_damage_is_named_by_verify(world: World) -> None:
    storage = S3Storage(uri("undisturbed"))
    block = next(stat.key for stat in storage.list(".omni_ray/text/lines/blocks"))
    whole = storage.read(block)
    for damaged, said in ((b"", "is damaged"), (whole[:200] + b"!" + whole[201:], "is damaged"), (None, "is missing")):
        if damaged is None:
            storage.delete(block)
        else:
            storage.put(block, damaged)
        found = harness.run(harness.command("omni_ray.cli", "verify", "--out", uri("undisturbed")))
        storage.put(block, whole)
        assert found.code == 1, found.stderr
        assert f"{block} {said}" in found.stdout
    found = harness.run(harness.command("omni_ray.cli", "verify", "--out", uri("undisturbed")))
    assert found.code == 0, found.stdout


def test_what_cannot_be_written_or_read_is_said_with_the_remedy(world: World) -> None:
    nobody = harness.run(harness.prepare_text("s3://nobody-has-it/out", world.bucket))
    assert nobody.code == 1
    assert "s3://nobody-has-it/out" in nobody.stderr
    assert "the bucket does not exist; create it or correct the uri" in nobody.stderr
    world.proxy.fail(Fault("PUT", "/denied/", times=999, status=403, code="AccessDenied"))
    denied = harness.run(harness.prepare_text(uri("denied"), world.bucket))
    assert denied.code == 1
    assert "no permission (PutObject: AccessDenied); the credentials in use need s3:PutObject here" in denied.stderr
    world.proxy.fail(Fault("HEAD", "lines.txt", times=999, status=403))
    partly = harness.run(harness.prepare_text(uri("partly"), world.bucket))
    assert partly.code == 4
    assert "need s3:GetObject" in partly.stderr
    assert receipts("partly").keys() >= {".omni_ray/text/talk", ".omni_ray/text/cells"}


def test_credentials_are_nowhere(world: World, ray_folder: Path) -> None:
    """In no object, no file that Ray leaves, no output: of a run that works, and of one that is refused."""
    said = [harness.run(harness.prepare_text(uri("secret"), world.bucket))]
    said += [
        harness.run(harness.command("omni_ray.cli", name, "--out", uri("secret"))) for name in ("status", "verify")
    ]
    said += [harness.run(harness.prepare_text(uri("secret2"), world.bucket, "--dry-run"))]
    for code in ("SignatureDoesNotMatch", "AccessDenied"):
        world.proxy.fail(Fault("PUT", "/secret3/", times=999, status=403, code=code))
        said += [harness.run(harness.prepare_text(uri("secret3"), world.bucket))]
        world.proxy.forget()
    said += [harness.run(harness.prepare_text(f"s3://key:{SECRET}@{BUCKET}/x", world.bucket))]
    assert [done.code for done in said] == [0, 0, 0, 0, 1, 1, 2]
    for done in said:
        assert SECRET not in done.stdout + done.stderr
    storage = S3Storage(f"s3://{BUCKET}")
    keys = [stat.key for stat in storage.list("") if not stat.key.startswith("in/")]
    assert len(keys) > 50
    assert not [key for key in keys if SECRET.encode() in storage.read(key)]
    logs = [path for path in ray_folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(logs) > 10, "Ray's logs are not where they are looked for"
    assert not [path for path in logs if SECRET.encode() in path.read_bytes()]
