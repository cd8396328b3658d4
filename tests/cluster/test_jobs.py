"""The commands as submitted Ray jobs: from a clean checkout, with a token, stopped midway, refused."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from omni_ray.lease import LEASE_FOLDER, current_holder, newest_epoch
from omni_ray.ledger import read_ledger
from omni_ray.storage import LocalStorage
from tests.cluster import submitting
from tests.cluster.submitting import Office, python, wait_for
from tests.e2e import harness, sources
from tests.s3.server import moto_server

pytestmark = [pytest.mark.slow, pytest.mark.ray]

MOST_BYTES = 10_000_000
SMOKE = ("--stage", "text", "--smoke", "--set", "checkpoint_freq=10", "--max-steps", "60")


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    if not (submitting.ROOT / ".git").exists():
        pytest.skip("needs a checkout to clone")
    with submitting.office(tmp_path_factory.mktemp("office")) as made:
        (made.checkout / "data").mkdir()
        (made.checkout / "data/large.bin").write_bytes(b"x" * MOST_BYTES)  # an earlier run's, which is not to travel
        yield made


@pytest.fixture(scope="module")
def prepared(office: Office) -> Office:
    done = office.submit("--submission-id", "prepare", *python("omni_ray.prepare", "--dataset", "synthetic"))
    assert done.code == 0, done.stdout
    return office


@pytest.fixture(scope="module")
def trained(prepared: Office) -> Office:
    done = prepared.submit("--submission-id", "train", "--working-dir", ".", *python("omni_ray.train", *SMOKE))
    assert done.code == 0, done.stdout
    return prepared


def test_prepare_then_train_under_the_home(trained: Office) -> None:
    assert trained.job("prepare").status == trained.job("train").status == "SUCCEEDED"
    for name in ("text/production_corpus.txt", "audio/production_asr.csv", "images/production_annotations.json"):
        assert (trained.home / "data" / name).stat().st_size > 0
    assert harness.run(harness.command("omni_ray.cli", "verify", "--out", str(trained.home / "data"))).code == 0
    assert (trained.home / "checkpoints/thinker_tiny-smoke/step_00000060/COMPLETE").exists()
    assert not list(trained.checkout.glob("checkpoints*")), "something was written into the submitted directory"


def test_the_submitted_directory_is_small(trained: Office) -> None:
    assert trained.package() < MOST_BYTES


def test_logs_are_plain_and_hold_no_token(trained: Office) -> None:
    for name in ("prepare", "train"):
        log = trained.job(name).log
        assert "\x1b" not in log and "\r" not in log
    assert "production_corpus.txt" in trained.job("prepare").log
    assert "step 60/60" in trained.job("train").log
    assert not [path for path, content in trained.logs() if trained.token.encode() in content]


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, "Token authentication"),
        ({"RAY_AUTH_TOKEN": "0" * 64}, "token"),
        ({"HOME": "/nonexistent"}, "token"),
    ],
    ids=["none", "wrong", "lost"],
)
def test_without_the_token_nothing_is_submitted(office: Office, environment: dict[str, str], says: str) -> None:
    before = office.jobs()
    done = office.submit(*python("omni_ray.prepare", "--dataset", "synthetic", "--dry-run"), environment=environment)
    assert done.code != 0
    assert says in done.stdout + done.stderr
    assert office.jobs() == before


def test_without_a_home_a_job_is_refused_in_its_log(office: Office) -> None:
    no_home = json.dumps({"env_vars": {"OMNI_RAY_HOME": ""}})
    for name, command in {
        "homeless-prepare": ("omni_ray.prepare", "text", "--dataset", "synthetic"),
        "homeless-train": ("omni_ray.train", *SMOKE),
    }.items():
        done = office.submit("--submission-id", name, "--runtime-env-json", no_home, *python(*command))
        assert done.code == 1
        job = office.job(name)
        assert job.status == "FAILED"
        assert "failed with exit code 5" in job.message
        assert "Set OMNI_RAY_HOME to a folder that every node has, or to an s3:// uri" in job.log


def test_prepare_is_stopped_and_goes_on(office: Office, tmp_path: Path) -> None:
    catalog = sources.write_sources(tmp_path / "raw", size=400_000, block_bytes=8_000)
    prepare = python("omni_ray.prepare", "text", "--catalog", str(catalog), "--out")
    out = office.home / "stopped"
    assert office.submit("--submission-id", "stopped", "--no-wait", *prepare, "stopped").code == 0
    wait_for(lambda: len(_blocks(out)) >= 10, "10 blocks")
    with office.workers_paused("MapBatches"):  # so that it cannot be done before it is stopped
        assert office.ray("job", "stop", "--no-wait", "stopped").code == 0
        wait_for(lambda: current_holder(LocalStorage(out)) is None, "the end of the lease")
    assert office.ended("stopped").status == "STOPPED"
    assert b'"released":true' in _lease(out), "it was only found dead, which another host cannot tell"
    before = harness.receipts(out)
    assert len(_blocks(out)) >= 10
    written = {path: path.stat().st_mtime_ns for path in _blocks(out)}
    assert not (out / "text/production_corpus.txt").exists()

    assert office.submit("--submission-id", "again", *prepare, "stopped").code == 0
    assert "going on: " in office.job("again").log
    harness.assert_still_prefix(before, harness.receipts(out))
    assert {path: path.stat().st_mtime_ns for path in written} == written, "a committed block was decoded again"
    assert office.submit("--submission-id", "undisturbed", *prepare, "whole").code == 0
    assert harness.products(out) == harness.products(office.home / "whole")


@pytest.mark.long
def test_train_is_stopped_and_goes_on(trained: Office) -> None:
    train = python("omni_ray.train", *SMOKE, "--set", "save_dir=runs/stopped")
    folder = trained.home / "runs/stopped"
    assert trained.submit("--submission-id", "train-stopped", "--no-wait", "--working-dir", ".", *train).code == 0
    wait_for(lambda: bool(list(folder.glob("step_*/COMPLETE"))), "a checkpoint")
    with trained.workers_paused("RayTrainWorker"):
        assert trained.ray("job", "stop", "--no-wait", "train-stopped").code == 0
        wait_for(lambda: current_holder(LocalStorage(folder)) is None, "the end of the lease")
    assert trained.ended("train-stopped").status == "STOPPED"
    assert b'"released":true' in _lease(folder)

    done = trained.submit("--submission-id", "train-again", "--working-dir", ".", *train)
    assert done.code == 0, done.stdout
    went_on = re.search(r"going on from step (\d+) of 60", trained.job("train-again").log)
    assert went_on is not None and 10 <= int(went_on[1]) < 60
    weights = "step_00000060/model.safetensors"
    undisturbed = trained.home / "checkpoints/thinker_tiny-smoke" / weights
    assert (folder / weights).read_bytes() == undisturbed.read_bytes()


def test_a_home_on_s3(office: Office) -> None:
    with moto_server() as endpoint:
        access = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        client = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )  # fmt: skip
        client.create_bucket(Bucket="bucket")
        where = json.dumps({"env_vars": {"OMNI_RAY_HOME": "s3://bucket/home", **access}})
        prepare = python("omni_ray.prepare", "audio", "--dataset", "synthetic")
        done = office.submit("--submission-id", "s3", "--runtime-env-json", where, *prepare)
        assert done.code == 0, done.stdout
        listed = client.get_object(Bucket="bucket", Key="home/data/audio/production_asr.csv")["Body"].read().decode()
        rows = list(csv.DictReader(listed.splitlines()))
        assert len(rows) > 100
        for row in rows[:: len(rows) // 3]:
            place = row["wav"].removeprefix("s3://bucket/")
            assert place != row["wav"]
            assert client.head_object(Bucket="bucket", Key=place)["ContentLength"] > 0


def _blocks(out: Path) -> list[Path]:
    """The texts of the committed blocks."""
    storage = LocalStorage(out)
    return [
        out / receipt.outputs["txt"].key
        for ledger in out.glob(".omni_ray/text/*/ledger")
        for receipts in read_ledger(storage, ledger.relative_to(out).as_posix()).receipts.values()
        for receipt in receipts
        if "txt" in receipt.outputs
    ]


def _lease(folder: Path) -> bytes:
    return (folder / LEASE_FOLDER / f"{newest_epoch(LocalStorage(folder)):08d}.json").read_bytes()
