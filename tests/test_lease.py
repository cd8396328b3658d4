import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from omni_ray import lease as leases
from omni_ray.errors import LeaseHeld, LeaseLost
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


def test_a_holder_on_another_host_is_believed_until_it_expires(storage: LocalStorage) -> None:
    plant(storage, 1, host="elsewhere", boot="other")
    with pytest.raises(LeaseHeld, match="on elsewhere"):
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


def test_fencing_is_by_epoch(storage: LocalStorage) -> None:
    plant(storage, 5, started=1.0)
    assert is_current(storage, 5)
    assert not is_current(storage, 4)


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
