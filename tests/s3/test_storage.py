"""S3 as a storage, over real HTTP: what every storage promises, and what only S3 and networks do."""

import random
import threading

import boto3
import pytest

from omni_ray.errors import DataError, LeaseLost, LedgerCorrupt, NotStored, Refused, StorageError
from omni_ray.storage import Slice, base, s3_client
from omni_ray.storage import s3_log as logs
from omni_ray.storage import s3_streams as streams
from omni_ray.storage.s3 import S3Storage, open_object
from tests.s3.conftest import BUCKET
from tests.s3.proxy import Fault, Proxy

DATA = random.Random(0).randbytes(40 << 20)


def names(storage: S3Storage) -> list[str]:
    return [stat.key for stat in storage.list("")]


def uploads() -> list[str]:
    return [found.object_key for found in boto3.resource("s3").Bucket(BUCKET).multipart_uploads.all()]


def test_put_replaces_in_one_request(storage: S3Storage, proxy: Proxy) -> None:
    storage.put("a/b.txt", b"one")
    storage.put("a/b.txt", b"two")
    assert storage.read("a/b.txt") == b"two"
    assert proxy.count() == {"PUT": 2, "GET": 1}
    assert names(storage) == ["a/b.txt"]
    assert boto3.resource("s3").Object(BUCKET, "some/out/a/b.txt").content_length == 3


def test_read_ranges_and_missing(storage: S3Storage) -> None:
    storage.put("a", b"0123456789")
    assert storage.read("a", 3, 4) == b"3456"
    assert storage.read("a", 8, 10) == b"89"
    assert storage.read("a", 4) == b"456789"
    assert storage.read("a", 10, 5) == b""
    assert storage.read("a", 3, 0) == b""
    assert storage.stat("b") is None
    assert storage.stat("a").size == 10  # type: ignore[union-attr]
    with pytest.raises(NotStored, match=r"s3://bucket/some/out/b: No such file"):
        storage.read("b")


@pytest.mark.parametrize("key", ["/etc/passwd", "../a", "a/../../b"])
def test_keys_stay_below_the_root(storage: S3Storage, key: str) -> None:
    with pytest.raises(StorageError, match="stays below"):
        storage.put(key, b"")


@pytest.mark.slow
def test_lists_by_page_below_a_folder_only(storage: S3Storage, proxy: Proxy) -> None:
    bucket = boto3.client("s3")
    for number in range(1001):
        bucket.put_object(Bucket=BUCKET, Key=f"some/out/f/{number:04}", Body=b"")
    storage.put("f2", b"")
    bucket.put_object(Bucket=BUCKET, Key="some/out/f/", Body=b"")  # the empty folder of other tools
    proxy.forget()
    assert [stat.key for stat in storage.list("f")] == [f"f/{number:04}" for number in range(1001)]
    assert proxy.count() == {"LIST": 2}
    storage.delete_tree("f")
    assert proxy.count()["POST"] == 2
    assert names(storage) == ["f2"]
    storage.delete("f2")
    storage.delete("never-there")
    assert names(storage) == []


def test_of_many_creators_one_wins(storage: S3Storage) -> None:
    won: list[int] = []
    begin = threading.Barrier(8)

    def create(number: int) -> None:
        begin.wait()
        if storage.create("lease", b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert storage.read("lease") == b"%d" % won[0]


def test_a_create_whose_answer_was_lost_is_ours(storage: S3Storage, proxy: Proxy) -> None:
    proxy.fail(Fault("PUT", "lease", lost=True))
    assert storage.create("lease", b"mine")
    assert not storage.create("lease", b"theirs")
    proxy.fail(Fault("PUT", "lease", status=500))
    assert not storage.create("lease", b"theirs")


def test_a_conditional_write_that_meets_another_is_asked_again(storage: S3Storage, proxy: Proxy) -> None:
    proxy.fail(Fault("PUT", "lease", status=409, code="ConditionalRequestConflict", times=2))
    assert storage.create("lease", b"mine")
    assert proxy.count()["PUT"] == 3


def test_touch_makes_young_and_never_makes(storage: S3Storage, proxy: Proxy) -> None:
    assert not storage.touch("a")
    storage.put("a", b"x")
    assert storage.touch("a")
    assert abs(storage.now_ns() - storage.stat("a").mtime_ns) < 10e9  # type: ignore[union-attr]
    proxy.fail(Fault("PUT", "/a", status=412, code="PreconditionFailed"))
    assert not storage.touch("a")
    assert names(storage) == ["a"]


def test_now_is_the_stores_time(storage: S3Storage, proxy: Proxy) -> None:
    before = storage.now_ns()
    proxy.fail(Fault("GET", "list-type", late=3600))
    assert 3590e9 < storage.now_ns() - before < 3610e9


@pytest.mark.parametrize("header", ["If-None-Match", "If-Match"])
def test_an_endpoint_without_conditional_writes_is_refused(storage: S3Storage, proxy: Proxy, header: str) -> None:
    storage.create("lease", b"mine")
    storage.check_exclusive("lease")
    proxy.fail(Fault("PUT", "lease", times=9, without=(header,)))
    with pytest.raises(Refused, match="ignores conditional writes"):
        storage.check_exclusive("lease")
    proxy.forget()
    proxy.fail(Fault("PUT", "lease", times=9, status=501, code="NotImplemented"))
    with pytest.raises(Refused, match="ignores conditional writes"):
        storage.check_exclusive("lease")


def test_writer_shows_nothing_before_commit_and_abort_leaves_the_old(storage: S3Storage) -> None:
    storage.put("corpus", b"old")
    writer = storage.writer("corpus")
    writer.write(DATA)
    assert storage.read("corpus") == b"old"
    assert uploads()
    writer.abort()
    writer.abort()
    assert storage.read("corpus") == b"old"
    assert not uploads()


@pytest.mark.parametrize("size", [0, 1, 16 << 20, (16 << 20) + 1, len(DATA)])
def test_what_is_written_in_parts_is_read_in_ranges(storage: S3Storage, proxy: Proxy, size: int) -> None:
    writer = storage.writer("big")
    for at in range(0, size, 1_000_003):
        writer.write(memoryview(DATA)[at : min(at + 1_000_003, size)])
    writer.commit()
    writer.abort()
    with storage.open("big") as stream:
        assert stream.read() == DATA[:size]
    assert proxy.count()["PUT"] == max(1, -(-size // (16 << 20)))
    assert not uploads()


def test_what_is_staged_whole_is_one_put_at_its_commit(storage: S3Storage, proxy: Proxy) -> None:
    staged = storage.staged("block", DATA)
    assert proxy.count() == {}
    staged.commit()
    staged.abort()
    assert proxy.count() == {"PUT": 1}
    assert storage.read("block") == DATA


def test_append_slice_copies_exactly(storage: S3Storage) -> None:
    storage.put("block", DATA[:20_000_000])
    writer = storage.writer("joined")
    writer.write(b"[")
    writer.append_slice(Slice("block", 5, 19_000_000))
    writer.append_slice(Slice("block", 0, 0))
    writer.write(b"]")
    writer.commit()
    assert storage.read("joined") == b"[" + DATA[5:19_000_005] + b"]"
    with pytest.raises(StorageError, match="ends 2 bytes early"):
        storage.writer("other").append_slice(Slice("block", 20_000_000 - 1, 3))


def test_sweep_removes_unfinished_uploads_of_ours_only(storage: S3Storage) -> None:
    for key in ("work/a", "text/ours", "text/theirs"):
        storage.writer(key).write(DATA[: 17 << 20])
    assert storage.sweep("work") == 1
    assert storage.sweep("text", only=["text/ours"]) == 1
    assert uploads() == ["some/out/text/theirs"]


def test_ten_thousand_parts_hold_five_terabytes() -> None:
    assert sum(map(streams.part_size, range(streams.MAX_PARTS))) > 5e12


def test_random_reading_fetches_little_and_straight_reading_in_large_ranges(storage: S3Storage, proxy: Proxy) -> None:
    storage.put("big", DATA)
    proxy.forget()
    dice = random.Random(1)
    with storage.open("big") as stream:
        for _ in range(50):
            at, length = dice.randrange(len(DATA)), dice.randrange(100_000)
            stream.seek(at)
            assert stream.read(length) == DATA[at : at + length]
        assert proxy.count()["GET"] <= 50
        proxy.forget()
        stream.seek(0)
        buffer = bytearray(len(DATA) + 5)
        assert sum(iter(lambda: stream.readinto(memoryview(buffer)[stream.tell() :]), 0)) == len(DATA)
    assert buffer[: len(DATA)] == DATA
    assert proxy.count()["GET"] < 12


def test_a_region_is_read_in_few_requests_and_nothing_behind_it(storage: S3Storage, proxy: Proxy) -> None:
    storage.put("big", DATA)
    etag = boto3.client("s3").head_object(Bucket=BUCKET, Key="some/out/big")["ETag"]
    start, stop = 5_000_000, 5_000_000 + (20 << 20)
    proxy.forget()
    with open_object(BUCKET, "some/out/big", len(DATA), etag, (start, stop)) as stream:
        stream.seek(start - 1)
        parts = [stream.read(1), *(stream.read(1 << 20) for _ in range(20))]
        assert proxy.count()["GET"] == 4
        parts.append(stream.read(10))
        assert proxy.count()["GET"] == 5
    assert b"".join(parts) == DATA[start - 1 : stop + 10]


def test_reading_ahead_keeps_the_order_and_says_what_is_missing(storage: S3Storage) -> None:
    for number in range(20):
        storage.put(f"f/{number}", b"%03d" % number)
    slices = [Slice(f"f/{number}", number % 3, 2) for number in range(20)]
    expected = [(b"%03d" % number)[number % 3 :][:2] for number in range(20)]
    assert list(storage.read_ahead(slices, window=3)) == expected
    assert list(storage.read_ahead(slices, window=99)) == expected
    assert next(iter(storage.read_ahead(slices))) == b"00"
    with pytest.raises(NotStored, match="f/20"):
        list(storage.read_ahead([*slices, Slice("f/20", 0, 1)]))


@pytest.mark.parametrize("cut", [0, 1000, 5_000_000])
def test_a_connection_cut_in_a_body_is_read_again(storage: S3Storage, proxy: Proxy, cut: int) -> None:
    storage.put("big", DATA)
    proxy.fail(Fault("GET", "big", cut=cut, times=3))
    with storage.open("big") as stream:
        assert stream.read() == DATA
    proxy.fail(Fault("GET", "big", cut=cut, times=2))
    assert storage.read("big") == DATA


def test_a_put_that_fails_three_times_succeeds_in_the_end(storage: S3Storage, proxy: Proxy) -> None:
    proxy.fail(Fault("PUT", "/a", status=500, times=3))
    storage.put("a", b"data")
    assert proxy.count()["PUT"] == 4
    assert storage.read("a") == b"data"


def test_slow_down_is_obeyed_with_pauses(storage: S3Storage, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time.sleep", pauses.append)
    proxy.fail(Fault("PUT", "/a", status=503, code="SlowDown", times=5))
    storage.put("a", b"data")
    assert len(pauses) == 5
    assert len(set(pauses)) == 5  # jitter: no two clients come back together
    proxy.fail(Fault("PUT", "/a", status=503, code="SlowDown", times=99))
    with pytest.raises(StorageError, match=r"s3://bucket/some/out/a: the store asked to slow down"):
        storage.put("a", b"data")


def test_a_part_that_fails_is_sent_again_and_a_lost_completion_counts(storage: S3Storage, proxy: Proxy) -> None:
    proxy.fail(Fault("PUT", "partNumber=2", status=503, code="SlowDown"), Fault("PUT", "partNumber=1", lost=True))
    proxy.fail(Fault("POST", "uploadId", lost=True))
    writer = storage.writer("big")
    writer.write(DATA)
    writer.commit()
    assert storage.read("big") == DATA


@pytest.mark.parametrize("setting", ["when_supported", "when_required"])
def test_parts_are_completed_with_the_checksums_that_their_upload_asks_for(
    storage: S3Storage, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """S3 refuses a part with a checksum in an upload without, and a completion that names a part without its own."""
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", setting)
    s3_client._client.cache_clear()
    asked: dict[str, list[dict[str, object]]] = {}
    for name in ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"):
        s3_client.client().meta.events.register(
            f"before-parameter-build.s3.{name}",
            lambda params, model, **_: asked.setdefault(model.name, []).append(params),
        )
    writer = storage.writer("big")
    writer.write(DATA)
    writer.commit()
    assembly = storage.assembly("other")
    storage.put("block", DATA[: 6 << 20])
    tags = {1: assembly.put_part(1, DATA[: 5 << 20]), 2: assembly.copy_part(2, Slice("block", 0, 6 << 20))}
    assert {number: part.size for number, part in assembly.parts().items()} == {1: 5 << 20, 2: 6 << 20}
    assembly.commit(tags)
    assert storage.read("other") == DATA[: 5 << 20] + DATA[: 6 << 20]
    wanted = setting == "when_supported"
    assert all(("ChecksumAlgorithm" in one) == wanted for one in asked["CreateMultipartUpload"])
    named = [part for one in asked["CompleteMultipartUpload"] for part in one["MultipartUpload"]["Parts"]]  # type: ignore[index]
    sent = [part for part in named if part["PartNumber"] == 1 or len(named) == 3]
    assert all(("ChecksumCRC32" in part) == wanted for part in sent)


def test_a_completion_that_the_store_forgot_is_told_by_the_objects_tag() -> None:
    assert streams.joined_etag(['"d41d8cd98f00b204e9800998ecf8427e"']) == "59adb24ef3cdbe0297f05b395827453f-1"


def test_an_object_that_changes_while_it_is_read_is_noticed(storage: S3Storage) -> None:
    storage.put("a", b"x" * (1 << 20))
    with storage.open("a") as stream:
        stream.read(10)
        storage.put("a", b"y" * (1 << 20))
        with pytest.raises(DataError, match="changed while it was read"):
            stream.read()
    with open_object(BUCKET, "some/out/a", 1 << 20, '"0"') as stream, pytest.raises(DataError):
        stream.read(1)


def test_a_store_that_ignores_ranges_is_noticed(storage: S3Storage, proxy: Proxy) -> None:
    storage.put("a", b"0123456789")
    proxy.fail(Fault("GET", "/a", without=("Range",)))
    with pytest.raises(StorageError, match="ignores ranged reads"):
        storage.read("a", 5, 2)


def test_a_log_is_few_objects_and_reads_as_what_was_synced(storage: S3Storage, proxy: Proxy) -> None:
    log = storage.appender("ledger/1.jsonl")
    expected = b""
    for number in range(200):
        expected += b"%d\n" % number
        log.write(b"%d\n" % number)
        log.sync()
        log.sync()
    log.write(b"later")
    proxy.forget()
    (found,) = storage.logs("ledger")
    assert found.key == "ledger/1.jsonl"
    assert storage.read_log(found) == expected
    assert storage.read_log(found, 100) == expected[:100]
    assert proxy.count() == {"LIST": 1, "GET": 200 // 64 + 200 % 64 + 1}
    log.sync()
    log.write(b"never synced")
    log.close()
    (found,) = storage.logs("ledger")
    assert storage.read_log(found) == expected + b"later"
    with pytest.raises(StorageError, match="two runs wrote under one epoch"):
        storage.appender("ledger/1.jsonl")


def test_a_log_that_is_joined_while_it_is_read(storage: S3Storage) -> None:
    log = storage.appender("ledger/1.jsonl")
    for number in range(logs.SEGMENTS_APART - 1):
        log.write(b"%d\n" % number)
        log.sync()
    (found,) = storage.logs("ledger")
    log.write(b"last\n")
    log.sync()
    assert storage.read_log(found).endswith(b"62\nlast\n")


def test_a_kill_in_the_middle_of_joining_changes_nothing(storage: S3Storage, proxy: Proxy) -> None:
    log = storage.appender("ledger/1.jsonl")
    proxy.fail(Fault("POST", "delete", status=403, code="AccessDenied"))
    with pytest.raises(StorageError):
        for number in range(logs.SEGMENTS_APART):
            log.write(b"%d\n" % number)
            log.sync()
    (found,) = storage.logs("ledger")
    assert len(found.segments) == logs.SEGMENTS_APART + 1
    proxy.forget()
    assert storage.read_log(found) == b"".join(b"%d\n" % number for number in range(logs.SEGMENTS_APART))
    assert proxy.count() == {"GET": 1}


def test_a_log_with_a_hole_is_an_error(storage: S3Storage) -> None:
    log = storage.appender("ledger/1.jsonl")
    for _ in range(3):
        log.write(b"12345678\n")
        log.sync()
    (found,) = storage.logs("ledger")
    storage.delete(found.segments[1].key)
    (found,) = storage.logs("ledger")
    with pytest.raises(LedgerCorrupt, match="holds its byte 9 is missing"):
        storage.read_log(found)
    assert storage.read_log(found, 9) == b"12345678\n"


def test_many_files_are_put_at_once_with_one_look_for_a_group(proxy: Proxy) -> None:
    """No PUT is answered before as many are under way as may be; and the right to write is looked at per group."""
    looks: list[int] = []
    storage = S3Storage(f"s3://{BUCKET}/out").fenced(lambda: looks.append(proxy.count()["PUT"]))
    contents = {f"top/{number:03d}": b"%d" % number for number in range(300)}
    many = storage.staged_many(contents, "top")
    assert not looks and not proxy.count()
    proxy.hold("/out/top/", base.AT_ONCE)
    many.commit()
    assert looks == [0, base.GROUP_FILES], "each look comes just before its group, when the group before is there"
    assert proxy.count() == {"PUT": 300}
    assert {stat.key: storage.read(stat.key) for stat in storage.list("top")} == contents


def test_no_group_becomes_visible_after_the_right_to_it_was_lost(proxy: Proxy) -> None:
    looks = iter([None, LeaseLost("gone"), None])

    def check() -> None:
        if error := next(looks):
            raise error

    storage = S3Storage(f"s3://{BUCKET}/out").fenced(check)
    with pytest.raises(LeaseLost):
        storage.staged_many({f"top/{number:03d}": b"x" for number in range(600)}, "top").commit()
    assert len(list(storage.list("top"))) == base.GROUP_FILES


def test_a_file_of_many_that_cannot_be_put_is_an_error(proxy: Proxy) -> None:
    storage = S3Storage(f"s3://{BUCKET}/out")
    proxy.fail(Fault("PUT", "top/7$", status=403, code="AccessDenied"))
    with pytest.raises(StorageError, match=r"top/7: no permission"):
        storage.staged_many({f"top/{number}": b"x" for number in range(20)}, "top").commit()
