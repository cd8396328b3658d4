"""One output has one run at a time: the lease.

The lease of an output is a sequence of epochs, `.omni_ray/lease/<epoch>.json`; the highest one holds the output. A new
run creates the next epoch exclusively (a hard link; If-None-Match on S3), so of two contenders one wins. An epoch also
fences: a ledger file carries the epoch of its run, and a later run ignores what an earlier one appends after the
take-over (see `ledger`). Nothing here depends on the clocks of two hosts agreeing: age is told by the storage's own
clock.
"""

import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec

from omni_ray.entry import at_interrupt
from omni_ray.errors import LeaseHeld, LeaseLost, OmniRayError, StorageError
from omni_ray.storage import Storage

WORK = ".omni_ray"
LEASE_FOLDER = f"{WORK}/lease"
RENEW_SECONDS = 10.0
EXPIRE_SECONDS = 60.0


class Holder(msgspec.Struct, frozen=True):
    """Who holds an output. `boot` and `namespace` tell whether `pid` can be looked up from where somebody asks."""

    run: str
    command: str
    host: str
    boot: str
    namespace: str
    pid: int
    started: float  # of the process, in clock ticks since the boot: a clock that is set does not move it
    since: float  # of the lease
    released: bool = False


class Lease:
    """A held lease; renewed in the background until `release`, checked before anything is committed."""

    def __init__(self, storage: Storage, epoch: int, holder: Holder) -> None:
        self.epoch = epoch
        self.holder = holder
        self._storage = storage
        # Set, it makes the renewer give the output back, also while the run's clean-up takes long.
        self._stop = threading.Event()
        self._forget: Callable[[], None] = lambda: None
        self._given_back = False
        self._renewer = threading.Thread(target=self._renew_until_stopped, name="lease", daemon=True)

    @classmethod
    def acquire(cls, storage: Storage, command: str) -> "Lease":
        """Take the lease of `storage`, or the lease of a holder that is dead.

        Raises:
            LeaseHeld: another run holds it; the message says who and since when.
        """
        newest = newest_epoch(storage)
        if newest:
            _refuse_if_alive(storage, newest)
        else:  # a new output, or one whose lease somebody deleted: no epoch comes twice
            newest = _newest_in_ledgers(storage)
        lease = cls(storage, newest + 1, describe_this_process(command))
        if not storage.create(_key(lease.epoch), msgspec.json.encode(lease.holder)):
            _refuse_if_alive(storage, newest + 1)
            raise LeaseHeld(f"{storage.uri}: another run took it at this moment; run the command again")
        if newest_epoch(storage) != lease.epoch:  # somebody went through several epochs since we looked
            storage.delete(_key(lease.epoch))
            raise LeaseHeld(f"{storage.uri}: another run took it at this moment; run the command again")
        try:
            storage.check_exclusive(_key(lease.epoch))
        except OmniRayError:
            storage.delete(_key(lease.epoch))
            raise
        for stat in list(storage.list(LEASE_FOLDER)):
            if 0 < _epoch_of(stat.key) < lease.epoch:  # 0: what another contender is writing at this moment
                storage.delete(stat.key)
        lease._renewer.start()
        lease._forget = at_interrupt(lease._stop.set, lease._renewer.join)
        return lease

    def check(self) -> None:
        """Raise LeaseLost if another run has taken the output over."""
        check_current(self._storage, self.epoch)

    def release(self) -> None:
        """Say that the output is free. Where that cannot be written, the hold ends with this process."""
        self._forget()  # before the event is used here: the handler of a signal must find its lock free
        self._stop.set()
        self._renewer.join()
        if not self._given_back:  # the renewer ended before, when the lease was lost
            self._give_back()

    def _give_back(self) -> None:
        self._given_back = True
        ended = msgspec.structs.replace(self.holder, released=True)
        try:
            if is_current(self._storage, self.epoch):
                self._storage.put(_key(self.epoch), msgspec.json.encode(ended))
        except StorageError:  # a full or read-only disk, which has been told already where it mattered
            return

    def _renew_until_stopped(self) -> None:
        while not self._stop.wait(RENEW_SECONDS):
            try:
                if not is_current(self._storage, self.epoch) or not self._storage.touch(_key(self.epoch)):
                    return
            except StorageError:
                continue  # a disk that is full now may not be in ten seconds; commits check for themselves
        self._give_back()


def is_current(storage: Storage, epoch: int) -> bool:
    """Whether the run of `epoch` still holds the output. Cheap: one listing of a folder with one or two files."""
    return newest_epoch(storage) <= epoch


def check_current(storage: Storage, epoch: int) -> None:
    """
    Raises:
        LeaseLost: the run of `epoch` does not hold the output any more.
    """
    if not is_current(storage, epoch):
        raise LeaseLost(
            f"{storage.uri}: another run took over while this one was not running; nothing more is committed here"
        )


def newest_epoch(storage: Storage) -> int:
    """The highest epoch ever taken; 0 where there was no run yet."""
    return max((_epoch_of(stat.key) for stat in storage.list(LEASE_FOLDER)), default=0)


def current_holder(storage: Storage) -> Holder | None:
    """Who holds the output now; None where nobody does, or the holder is known to be gone."""
    newest = newest_epoch(storage)
    if not newest:
        return None
    holder = _read(storage, newest)
    return None if holder is None or holder.released or not _may_live(storage, newest, holder) else holder


def describe_this_process(command: str) -> Holder:
    return Holder(
        run=uuid.uuid4().hex[:12],
        command=command,
        host=socket.gethostname(),
        boot=_boot_id(),
        namespace=_pid_namespace(),
        pid=os.getpid(),
        started=_start_of(os.getpid()) or 0.0,
        since=time.time(),
    )


def _refuse_if_alive(storage: Storage, epoch: int) -> None:
    holder = _read(storage, epoch)
    if holder is None or holder.released or not _may_live(storage, epoch, holder):
        return
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(holder.since))
    raise LeaseHeld(
        f"{storage.uri}: held by `{holder.command}` (process {holder.pid} on {holder.host}) since {since}; wait for "
        f"it, stop it, or use another --out. If that process is gone, its hold ends {EXPIRE_SECONDS:.0f} s after its "
        "last renewal"
    )


def _may_live(storage: Storage, epoch: int, holder: Holder) -> bool:
    """False if the holder's process is gone from this host and boot, or it has not renewed for EXPIRE_SECONDS."""
    here = (socket.gethostname(), _boot_id(), _pid_namespace())
    can_look = bool(holder.boot) and (holder.host, holder.boot, holder.namespace) == here
    if can_look and _start_of(holder.pid) != holder.started:
        return False
    stat = storage.stat(_key(epoch))
    return stat is not None and storage.now_ns() - stat.mtime_ns <= EXPIRE_SECONDS * 1e9


def _start_of(pid: int) -> float | None:
    """When a process of this host began, in ticks since the boot (proc(5): stat, field 22); None where it is gone.

    A zombie is gone: it has released everything it had, and its entry only waits for its parent.
    """
    try:
        # the second field is the name in brackets, in which anything may stand
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in ("Z", "X") else float(fields[19])


def _newest_in_ledgers(storage: Storage) -> int:
    """The highest epoch in which a ledger was written."""
    names = (re.search(r"/ledger/(\d{8})\.", stat.key) for stat in storage.list(WORK))
    return max((int(found[1]) for found in names if found), default=0)


def _read(storage: Storage, epoch: int) -> Holder | None:
    if storage.stat(_key(epoch)) is None:
        return None
    try:
        return msgspec.json.decode(storage.read(_key(epoch)), type=Holder)
    except msgspec.DecodeError:  # damaged: nobody can tell who it is, so only its age counts
        return Holder("", "a run whose lease cannot be read", "", "", "", 0, 0.0, 0.0)


def _key(epoch: int) -> str:
    return f"{LEASE_FOLDER}/{epoch:08d}.json"


def _epoch_of(key: str) -> int:
    stem = key.rpartition("/")[2].removesuffix(".json")
    return int(stem) if stem.isdigit() else 0


def _boot_id() -> str:
    return _read_proc(lambda: Path("/proc/sys/kernel/random/boot_id").read_text().strip())


def _pid_namespace() -> str:
    return _read_proc(lambda: str(Path("/proc/self/ns/pid").readlink()))


def _read_proc(read: Callable[[], str]) -> str:
    try:
        return read()
    except OSError:  # not Linux: no process is looked up, and only renewal tells
        return ""
