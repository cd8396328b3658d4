import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import psutil
import pytest

from omni_ray import entry
from omni_ray import lease as leases
from omni_ray.entry import interruptible
from omni_ray.errors import Interrupted, LeaseHeld, LeaseLost, StorageError
from omni_ray.lease import EXPIRE_SECONDS, LEASE_FOLDER, Holder, Lease, current_holder, is_current, newest_epoch
from omni_ray.storage import LocalStorage


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path)


def plant(storage: LocalStorage, epoch: int, **changes: object) -> None:
    holder = msgspec.structs.replace(leases.describe_this_process("prepare text"), **changes)
    storage.put(f"{LEASE_FOLDER}/{epoch:08d}.json", msgspec.json.encode(holder))


def make_old(storage: LocalStorage, epoch: int) -> None:
    path = storage.root / LEASE_FOLDER / f"{epoch:08d}.json"
    old = path.stat().st_mtime_ns - int((EXPIRE_SECONDS + 1) * 1e9)
    os.utime(path, ns=(old, old))


def test_second_run_is_told_who_holds_it_and_since_when(storage: LocalStorage) -> None:
    first = Lease.acquire(storage, "prepare text --out data")
    with pytest.raises(LeaseHeld, match=rf"`prepare text --out data` \(process {os.getpid()} on .*\) since 20"):
        Lease.acquire(storage, "another")
    first.check()
    first.release()
    Lease.acquire(storage, "another").release()


def test_an_interrupted_run_gives_its_output_back_before_its_clean_up_has_ended(storage: LocalStorage) -> None:
    """`ray job stop` kills a command 3 s after SIGTERM, and the next one may run on another host."""
    lease = Lease.acquire(storage, "run")
    with pytest.raises(Interrupted), interruptible():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(60)
        finally:
            ends = time.monotonic() + 30  # this is the clean-up: nothing but the signal gives the output back
            while current_holder(storage):
                assert time.monotonic() < ends, "the output is still held"
    lease.release()
    assert storage.read(f"{LEASE_FOLDER}/00000001.json").count(b'"released":true') == 1


def test_a_lease_that_has_ended_hears_of_no_signal(storage: LocalStorage) -> None:
    Lease.acquire(storage, "run").release()
    with pytest.raises(Interrupted), interruptible():
        os.kill(os.getpid(), signal.SIGINT)
    assert not entry._farewells


def test_a_dead_process_is_taken_over_at_once(storage: LocalStorage) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    plant(storage, 3, pid=int(ended.stdout))
    lease = Lease.acquire(storage, "next")
    assert lease.epoch == 4
    lease.release()


def test_a_reused_pid_is_not_the_holder(storage: LocalStorage) -> None:
    plant(storage, 1, started=1.0)
    assert current_holder(storage) is None
    Lease.acquire(storage, "next").release()


def test_a_zombie_is_not_the_holder(storage: LocalStorage) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        plant(storage, 1, pid=child.pid, started=leases._start_of(child.pid))
        assert current_holder(storage) is not None
        assert child.stdin is not None
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and not yet reaped
        assert current_holder(storage) is None
        Lease.acquire(storage, "next").release()


def test_a_clock_that_is_set_does_not_make_a_holder_look_dead(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = Lease.acquire(storage, "run")
    boot_time = psutil.boot_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: boot_time + 5)  # what a clock step of 5 s does to it
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot_time + 5)
    with pytest.raises(LeaseHeld):
        Lease.acquire(storage, "next")
    holder.release()


# its pid says nothing here: with ours a look-up would find it alive, with none's dead
@pytest.mark.parametrize("elsewhere", [{"host": "elsewhere"}, {"boot": "other"}, {"namespace": "container"}])
@pytest.mark.parametrize("pid", [os.getpid(), 2**22 + 1])
def test_a_holder_on_another_host_is_believed_until_it_expires(
    storage: LocalStorage, elsewhere: dict[str, str], pid: int
) -> None:
    plant(storage, 1, pid=pid, **elsewhere)
    with pytest.raises(LeaseHeld, match=f"on {elsewhere.get('host', '')}"):
        Lease.acquire(storage, "next")
    make_old(storage, 1)
    Lease.acquire(storage, "next").release()


def test_a_live_process_that_stopped_renewing_loses_it_and_notices(storage: LocalStorage) -> None:
    stopped = Lease.acquire(storage, "stopped")
    make_old(storage, 1)
    taker = Lease.acquire(storage, "taker")
    with pytest.raises(LeaseLost, match="another run took over"):
        stopped.check()
    stopped.release()
    taker.check()
    assert current_holder(storage) == taker.holder
    taker.release()
    assert current_holder(storage) is None


def test_of_two_that_see_the_same_dead_holder_one_wins(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(storage, 1, started=1.0)
    create = LocalStorage.create
    winners: list[Lease] = []

    def create_after_the_other(self: LocalStorage, key: str, data: bytes) -> bool:
        monkeypatch.setattr(LocalStorage, "create", create)
        winners.append(Lease.acquire(storage, "winner"))
        return create(self, key, data)

    monkeypatch.setattr(LocalStorage, "create", create_after_the_other)
    with pytest.raises(LeaseHeld, match="winner"):
        Lease.acquire(storage, "loser")
    winners[0].check()
    winners[0].release()


def test_an_epoch_that_was_passed_meanwhile_does_not_come_back(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = LocalStorage.create

    def create_after_two_others(self: LocalStorage, key: str, data: bytes) -> bool:
        monkeypatch.setattr(LocalStorage, "create", create)
        Lease.acquire(storage, "one").release()
        later.append(Lease.acquire(storage, "two"))
        return create(self, key, data)

    later: list[Lease] = []
    monkeypatch.setattr(LocalStorage, "create", create_after_two_others)
    with pytest.raises(LeaseHeld):
        Lease.acquire(storage, "slow")
    assert newest_epoch(storage) == 2
    later[0].check()
    later[0].release()


def test_of_several_that_start_at_once_one_wins_and_the_others_are_told_who(storage: LocalStorage) -> None:
    plant(storage, 1, started=1.0)
    contenders = 8
    at_once = threading.Barrier(contenders)
    for _ in range(5):
        with ThreadPoolExecutor(contenders) as pool:
            outcomes = list(pool.map(lambda _: acquire_at(at_once, storage), range(contenders)))
        (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Lease)]
        assert [outcome for outcome in outcomes if not isinstance(outcome, Lease | LeaseHeld)] == []
        winner.check()
        winner.release()


def acquire_at(at_once: threading.Barrier, storage: LocalStorage) -> Lease | Exception:
    at_once.wait()
    try:
        return Lease.acquire(storage, "run")
    except Exception as error:  # noqa: BLE001 - which one it is, is what the test looks at
        return error


def test_taking_over_leaves_what_others_are_writing(storage: LocalStorage) -> None:
    plant(storage, 1, started=1.0)
    storage.put(f"{LEASE_FOLDER}/.tmp-0123456789ab-00000002.json", b"a contender's, before it has its name")
    Lease.acquire(storage, "run").release()
    assert [stat.key.rpartition("/")[2] for stat in storage.list(LEASE_FOLDER)] == [
        ".tmp-0123456789ab-00000002.json", "00000002.json",
    ]  # fmt: skip


def test_a_deleted_lease_folder_does_not_bring_an_epoch_back(storage: LocalStorage) -> None:
    storage.put(".omni_ray/text/talk/ledger/00000003.jsonl", b"")
    storage.put(".omni_ray/text/lines/ledger/00000007.jsonl/0000000000000000-0000000000000010", b"as on S3")
    lease = Lease.acquire(storage, "run")
    assert lease.epoch == 8
    lease.release()


def test_fencing_is_by_epoch(storage: LocalStorage) -> None:
    plant(storage, 5, started=1.0)
    assert is_current(storage, 5)
    assert not is_current(storage, 4)
    assert is_current(storage, 6), "a worker that lists a shared folder may not see the newest lease at once"


def test_renewal_keeps_it_young(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.01)
    lease = Lease.acquire(storage, "run")
    make_old(storage, 1)
    path = storage.root / LEASE_FOLDER / "00000001.json"
    old = path.stat().st_mtime_ns
    while path.stat().st_mtime_ns == old:  # ends as soon as the renewer has been there
        pass
    assert msgspec.json.decode(path.read_bytes(), type=Holder).run == lease.holder.run
    lease.release()


def test_renewal_goes_on_after_a_full_disk_and_ends_with_the_loss(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.01)
    touch, calls = LocalStorage.touch, []

    def touch_on_a_full_disk(self: LocalStorage, key: str) -> bool:
        calls.append(key)
        if len(calls) < 3:
            raise StorageError("no space left")
        return touch(self, key)

    monkeypatch.setattr(LocalStorage, "touch", touch_on_a_full_disk)
    lease = Lease.acquire(storage, "run")
    make_old(storage, 1)
    path = storage.root / LEASE_FOLDER / "00000001.json"
    old = path.stat().st_mtime_ns
    while path.stat().st_mtime_ns == old:
        assert lease._renewer.is_alive()
    plant(storage, 2)  # another run takes over
    lease._renewer.join(10)
    assert not lease._renewer.is_alive()
