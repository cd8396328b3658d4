"""Ledger and lease on S3: the promises of the disk, kept by segment objects and conditional writes."""

import threading

import pytest

from omni_ray.catalog import Source
from omni_ray.errors import LeaseHeld, LeaseLost, Refused, StorageError
from omni_ray.lease import EXPIRE_SECONDS, LEASE_FOLDER, Lease, current_holder
from omni_ray.ledger import read_ledger
from omni_ray.prepare import reset
from omni_ray.prepare.store import SourceFolder
from omni_ray.storage import s3_log
from omni_ray.storage.s3 import S3Storage
from tests.s3.conftest import BUCKET
from tests.s3.proxy import Fault, Proxy
from tests.test_ledger import FOLDER, receipt, write

SOURCE = Source(name="src", modality="text", category="general", url=("s.txt",), reader="lines", license="MIT")


@pytest.fixture
def storage(proxy: Proxy) -> S3Storage:
    return S3Storage(f"s3://{BUCKET}/out")


def test_receipts_of_several_runs_are_read_in_order(storage: S3Storage) -> None:
    write(storage, 1, [receipt("a"), receipt("b", 0, "7")]).close()  # type: ignore[arg-type]
    write(storage, 2, [receipt("b", 1), receipt("c")]).close()  # type: ignore[arg-type]
    state = read_ledger(storage, FOLDER)
    assert {block: len(found) for block, found in state.receipts.items()} == {"a": 1, "b": 2, "c": 1}


def test_what_a_run_appends_after_the_take_over_does_not_count(storage: S3Storage) -> None:
    stopped = write(storage, 1, [receipt("a")])  # type: ignore[arg-type]
    taker = write(storage, 2, [receipt("b")])  # type: ignore[arg-type]
    for number in range(s3_log.SEGMENTS_APART):  # enough to be joined with what counts
        stopped.append(receipt(f"zombie{number}"))
        stopped.sync()
    taker.append(receipt("c"))
    taker.close()
    assert list(read_ledger(storage, FOLDER).receipts) == ["a", "b", "c"]
    stopped.close()
    write(storage, 3, [receipt("d")]).close()  # type: ignore[arg-type]
    assert list(read_ledger(storage, FOLDER).receipts) == ["a", "b", "c", "d"]


def test_requests_to_read_grow_with_segments_and_those_are_joined(storage: S3Storage, proxy: Proxy) -> None:
    ledger = write(storage, 1, [])  # type: ignore[arg-type]
    for number in range(300):
        ledger.append(receipt(f"block{number}"))
        if number % 3 == 2:
            ledger.sync()
    ledger.close()
    assert proxy.count()["PUT"] == 100 + 100 // s3_log.SEGMENTS_APART
    proxy.forget()
    assert len(read_ledger(storage, FOLDER).receipts) == 300
    assert proxy.count() == {"LIST": 1, "GET": 1 + 100 % s3_log.SEGMENTS_APART}


def test_a_reset_killed_anywhere_leaves_fewer_receipts_and_no_error(storage: S3Storage, proxy: Proxy) -> None:
    folder = SourceFolder("text", "src")
    for epoch in (1, 2):
        ledger = write(storage, epoch, [])  # type: ignore[arg-type]
        for number in range(3):
            ledger.append(receipt(f"{epoch}-{number}"))
            ledger.sync()
        ledger.close()
    for stat in list(storage.list(FOLDER)):
        storage.put(stat.key.replace(FOLDER, folder.ledger), storage.read(stat.key))
    every = list(read_ledger(storage, folder.ledger).receipts)
    assert len(every) == 6
    left = len(list(storage.list(folder.ledger)))
    while left > 1:
        let_one_pass, kill = Fault("DELETE"), Fault("DELETE", times=99, status=403, code="AccessDenied")
        proxy.fail(let_one_pass, kill, Fault("POST", "delete", times=99, status=403, code="AccessDenied"))
        with pytest.raises(StorageError, match="no permission"):
            reset.forget_sources(storage, "text", [SOURCE])
        proxy.forget()
        now = list(read_ledger(storage, folder.ledger).receipts)
        assert now == every[len(every) - len(now) :]
        assert len(list(storage.list(folder.ledger))) == left - 1
        left -= 1


def test_of_many_that_come_at_once_one_gets_the_lease(storage: S3Storage) -> None:
    won: list[Lease] = []
    lost: list[Exception] = []
    begin = threading.Barrier(5)

    def acquire() -> None:
        begin.wait()
        try:
            won.append(Lease.acquire(storage, "run"))
        except LeaseHeld as error:
            lost.append(error)

    threads = [threading.Thread(target=acquire) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 4)
    won[0].check()
    won[0].release()
    Lease.acquire(storage, "next").release()


def test_a_holder_that_stopped_renewing_loses_it_by_the_stores_clock(storage: S3Storage, proxy: Proxy) -> None:
    stopped = Lease.acquire(storage, "stopped")
    with pytest.raises(LeaseHeld, match="stopped"):
        Lease.acquire(storage, "taker")
    proxy.fail(Fault("GET", "list-type", times=99, late=int(EXPIRE_SECONDS) + 2))
    taker = Lease.acquire(storage, "taker")
    proxy.forget()
    with pytest.raises(LeaseLost, match="another run took over"):
        stopped.check()
    assert not storage.touch(f"{LEASE_FOLDER}/{stopped.epoch:08d}.json")  # and renewing does not bring it back
    stopped.release()
    assert current_holder(storage) == taker.holder
    taker.release()


def test_an_endpoint_without_conditional_writes_gets_no_lease(storage: S3Storage, proxy: Proxy) -> None:
    proxy.fail(Fault("PUT", "/lease/", times=99, without=("If-None-Match", "If-Match")))
    with pytest.raises(Refused, match="ignores conditional writes"):
        Lease.acquire(storage, "run")
    assert not list(storage.list(""))
