"""S3: throughput beside `aws s3 cp`, requests of a run, and a restart over 100,000 receipts.

    python scripts/bench/s3.py throughput --aws /path/to/aws --mb 1024
    python scripts/bench/s3.py requests
    python scripts/bench/s3.py files
    python scripts/bench/s3.py restart --receipts 100000

All against moto's S3 server in a process of its own on loopback; needs the dev extras, and awscli for the first.
"""

import argparse
import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import boto3
import numpy as np

from omni_ray.catalog import Source, load_catalog
from omni_ray.lease import check_current
from omni_ray.ledger import Ledger, Receipt
from omni_ray.prepare import readers, sources, store
from omni_ray.prepare.plan import SourcePlan, blocks_of, make_plan, output_tag
from omni_ray.prepare.samples import CommittedSamples
from omni_ray.storage import Slice, s3_client
from omni_ray.storage.s3 import S3Storage
from scripts.bench import _measure
from tests.e2e import harness
from tests.s3.proxy import Proxy, proxy_before
from tests.s3.server import moto_server

BUCKET = "bench"
BLOCK_BYTES = 16 << 20
PUT_PRICE, GET_PRICE = 5e-6, 0.4e-6  # US dollars a request: S3 Standard in us-east-1
CATALOG = """
[[source]]
name = "words"
modality = "text"
category = "general"
url = "{url}"
reader = "lines"
license = "CC0-1.0"
block_bytes = {block_bytes}
"""
UP = """
import sys
from omni_ray.storage import open_storage
writer = open_storage(sys.argv[2]).writer("big")
with open(sys.argv[1], "rb") as stream:
    while data := stream.read(8 << 20):
        writer.write(data)
writer.commit()
"""
DOWN = """
import sys
from omni_ray.storage import open_storage
with open_storage(sys.argv[2]).open("big") as stream, open(sys.argv[1], "wb") as back:
    while data := stream.read(8 << 20):
        back.write(data)
"""


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("throughput", "requests", "files", "restart"))
    parser.add_argument("--aws", default="aws", help="the awscli to compare with")
    parser.add_argument("--mb", type=int, default=1024, help="size of the object")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--receipts", type=int, default=100_000)
    arguments = parser.parse_args()
    with moto_server() as server, proxy_before(server) as proxy, tempfile.TemporaryDirectory() as folder:
        lead_to(server if arguments.what == "throughput" else proxy.endpoint)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        if arguments.what == "throughput":
            throughput(Path(folder), arguments.aws, arguments.mb, arguments.rounds)
        elif arguments.what == "requests":
            requests(Path(folder), proxy)
        elif arguments.what == "files":
            files(server, proxy, arguments.rounds)
        else:
            restart(Path(folder), proxy, arguments.receipts)


def lead_to(endpoint: str) -> None:
    os.environ |= {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def throughput(folder: Path, aws: str, mb: int, rounds: int) -> None:
    """Whole processes, taking turns: a file into one object, and the object into a file."""
    big, back = folder / "big", folder / "back"
    with big.open("wb") as stream:
        dice = random.Random(0)
        for _ in range(mb):
            stream.write(dice.randbytes(1 << 20))
    out, key = f"s3://{BUCKET}/omni", f"s3://{BUCKET}/aws/big"
    commands = {
        "up, aws s3 cp": [aws, "s3", "cp", "--only-show-errors", str(big), key],
        "up, omni_ray": [sys.executable, "-c", UP, str(big), out],
        "down, aws s3 cp": [aws, "s3", "cp", "--only-show-errors", key, str(back)],
        "down, omni_ray": [sys.executable, "-c", DOWN, str(back), out],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, argv in commands.items():
            back.unlink(missing_ok=True)
            began = time.monotonic()
            subprocess.run(argv, check=True)
            seconds[name].append(time.monotonic() - began)
            if name.startswith("down"):
                assert back.stat().st_size == big.stat().st_size
    rates = {name: mb * 1.048576 / statistics.median(taken) for name, taken in seconds.items()}
    for name, rate in rates.items():
        print(f"{name}: {rate:,.0f} MB/s (seconds: {', '.join(f'{s:.1f}' for s in seconds[name])})")
    for way in ("up", "down"):
        _measure.ratio(f"S3 {way} / aws s3 cp", rates[f"{way}, omni_ray"] / rates[f"{way}, aws s3 cp"], 0.9)


def requests(folder: Path, proxy: Proxy) -> None:
    """Two runs that differ in the number of blocks: the difference is what a block costs."""
    counted: list[tuple[int, Counter[str]]] = []
    for blocks in (4, 20):
        name = f"words{blocks}"
        boto3.client("s3").upload_file(write_words(folder / f"{name}.txt", blocks * BLOCK_BYTES), BUCKET, f"{name}.txt")
        catalog = folder / f"{name}.toml"
        catalog.write_text(CATALOG.format(url=f"s3://{BUCKET}/{name}.txt", block_bytes=BLOCK_BYTES))
        proxy.forget()
        began = time.monotonic()
        done = harness.run(harness.prepare_text(f"s3://{BUCKET}/{name}", catalog))
        assert done.code == 0, done.stderr
        found = proxy.count()
        counted.append((blocks, found))
        print(f"{blocks} blocks of 16 MiB: {dict(found)} in {time.monotonic() - began:.0f} s")
        print("  of the PUTs:", dict(Counter(_kind(path) for kind, path in proxy.requests if kind == "PUT")))
    (few, small), (many, large) = counted
    per_block = {kind: (large[kind] - small[kind]) / (many - few) for kind in sorted(large)}
    print("a block:", {kind: round(count, 2) for kind, count in per_block.items()})
    _measure.ratio("S3: 2 / PUTs of a block", 2 / per_block["PUT"], 1)
    in_25_gb = 25e9 / BLOCK_BYTES
    puts = sum(per_block.get(kind, 0) for kind in ("PUT", "POST", "LIST")) * in_25_gb
    gets = sum(per_block.get(kind, 0) for kind in ("GET", "HEAD")) * in_25_gb
    print(
        f"25 GB ({in_25_gb:,.0f} blocks): {puts:,.0f} PUT, POST and LIST, {gets:,.0f} GET and HEAD: "
        f"{puts * PUT_PRICE + gets * GET_PRICE:.3f} US dollars in requests"
    )


def files(server: str, proxy: Proxy, rounds: int) -> None:
    """Small files as a worker puts those of one segment, and as a loop that looks at the lease before each would;
    answers as late as given, which is waited for without a CPU."""
    out = f"s3://{BUCKET}/files"
    contents = {f"top/{number:04d}.jpg": random.Random(number).randbytes(33_000) for number in range(1024)}

    def one_by_one(storage: S3Storage) -> None:
        for key, data in itertools.islice(contents.items(), 128):
            storage.put(key, data)

    def together(storage: S3Storage) -> None:
        storage.staged_many(contents, "top").commit()

    ways: dict[str, tuple[Callable[[S3Storage], None], int]] = {
        "one by one": (one_by_one, 128),
        "together": (together, len(contents)),
    }
    for name, (put, count) in ways.items():
        proxy.forget()
        put(fenced(out))
        print(f"{name}: requests a file { ({kind: round(n / count, 3) for kind, n in proxy.count().items()}) }")
    lead_to(server)
    for late in (0.0, 0.03):
        s3_client._client.cache_clear()
        s3_client.client().meta.events.register("before-send.s3", partial(_sleep, late))
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, (put, count) in ways.items():
                began = time.monotonic()
                put(fenced(out))
                rates[name].append(count / (time.monotonic() - began))
        for name, found in rates.items():
            print(
                f"{late * 1000:.0f} ms late, {name}: {statistics.median(found):,.0f} files/s {sorted(map(int, found))}"
            )


def fenced(out: str) -> S3Storage:
    """As a run has it: each look is one LIST."""
    storage = S3Storage(out)
    return storage.fenced(lambda: check_current(storage, 0))


def _sleep(seconds: float, **_event: object) -> None:
    time.sleep(seconds)


def _kind(path: str) -> str:
    for part in ("/blocks/", "/ledger/", "/samples/", "/lease/", "partNumber"):
        if part in path:
            return part.strip("/")
    return path.rpartition("/")[2].partition("?")[0]


def write_words(path: Path, size: int) -> str:
    dice = random.Random(1)
    words = ["".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randint(2, 9))) for _ in range(5000)]
    with path.open("w") as stream:
        left = size
        while left > 0:
            line = " ".join(dice.choices(words, k=40))[: left - 1]
            left -= stream.write(line + "\n")
    return str(path)


class Planted(S3Storage):
    """Has the same small table beside every block, without a request."""

    def __init__(self, uri: str, table: bytes) -> None:
        super().__init__(uri)
        self._table = table

    def read_ahead(self, slices: Iterable[Slice], window: int = 16) -> Iterator[bytes]:
        return (self._table for _ in slices)


def restart(folder: Path, proxy: Proxy, receipts: int) -> None:
    """A ledger of `receipts` blocks of 1 KiB, a hundred to a segment; then `status`, and `prepare` up to its work."""
    boto3.client("s3").upload_file(write_words(folder / "words.txt", (receipts + 10) << 10), BUCKET, "words.txt")
    catalog = folder / "catalog.toml"
    catalog.write_text(CATALOG.format(url=f"s3://{BUCKET}/words.txt", block_bytes=1 << 10))
    out = f"s3://{BUCKET}/restart"
    (source,) = load_catalog(catalog).sources
    plant(out, source, receipts)
    for stat in S3Storage(out).list(""):
        if "/ledger/" not in stat.key:
            print(f"{stat.key}: {stat.size:,} bytes")
    proxy.forget()
    began = time.monotonic()
    shown = harness.run(harness.command("omni_ray.cli", "status", "--out", out))
    print(f"status: {time.monotonic() - began:.1f} s, {dict(proxy.count())}")
    assert f"{receipts:,}/{receipts + 10:,}" in shown.stdout, shown.stdout + shown.stderr
    proxy.forget()
    began = time.monotonic()
    with harness.started(harness.prepare_text(out, catalog)) as process:
        assert process.stderr is not None
        while "connecting to Ray" not in process.stderr.readline():
            assert process.poll() is None
        print(f"prepare, until it goes on: {time.monotonic() - began:.1f} s, {dict(proxy.count())}")
        assert harness.wait_until(process, lambda: puts_blocks(proxy))
        print(f"prepare, until its first new block: {time.monotonic() - began:.1f} s, {dict(proxy.count())}")


def puts_blocks(proxy: Proxy) -> bool:
    with proxy.lock:
        return any(kind == "PUT" and "/blocks/" in path for kind, path in proxy.requests)


def plant(out: str, source: Source, receipts: int) -> None:
    """What a run killed after so many receipts leaves, without the blocks themselves."""
    storage = S3Storage(out)
    folder = store.SourceFolder("text", source.name)
    plan: SourcePlan = make_plan(source.settings(), sources.expand(source))
    store.write_struct(storage, folder.plan, plan)
    (file,) = plan.files
    cuts = readers.plan_cuts(source, file)
    assert cuts is not None
    count = 4
    digests = [np.random.default_rng(number).bytes(32) for number in range(count)]
    table = store.encode_rows([""] * count, range(count), [0] * count, [256] * count, digests)
    ledger = Ledger(storage, folder.ledger, "planted", 1)
    tag = output_tag(plan.fingerprint, file)
    made: list[Receipt] = []
    for number, (block, cut) in enumerate(blocks_of(file, cuts)):
        if number == receipts:
            break
        stem = folder.block(block, 0, tag)
        outputs = store.arrange(storage, stem, {"txt": b"x" * 1024, "rows.parquet": table})[1]
        made.append(
            Receipt(
                block=block, segment=0, cursor=None, settings=plan.fingerprint, path=file.path, size=file.size,
                revision=file.revision, unit=cut.unit, start=cut.start, stop=cut.stop, member="", read_bytes=1024,
                read_sha256="0" * 64, outputs=outputs, rows_in=count, kept=count, samples=count, bytes=1024,
            )
        )  # fmt: skip
        ledger.append(made[-1])
        if number % 100 == 99:
            ledger.sync()
    ledger.close()
    samples = CommittedSamples(Planted(out, table), folder.samples)
    samples.extend(made)
    samples.save()
    asked = store.AskedSource.of(source, storage)
    request = store.Request(max_bytes=10**12, min_bytes=0, dedup="exact", license=None, sources=[asked])
    store.write_struct(storage, store.request_key("text"), request)


if __name__ == "__main__":
    main()
