"""`omni-ray retry`: take quarantined records up again.

The blocks that hold them are decoded once more, whole; what was quarantined for a cause that has gone (a codec that is
installed now, a disk that is mended) comes in at its place, and the outputs end as those of a fresh run. The ledger
says which blocks were revoked for a retry, so the same command goes on with a killed one, and may be given once more.
"""

from collections.abc import Sequence

from omni_ray.catalog import Modality
from omni_ray.errors import NothingNamed, SourceFailed
from omni_ray.faults import stop_here
from omni_ray.ledger import Receipt
from omni_ray.prepare import combine, command
from omni_ray.prepare.kinds import kind_of
from omni_ray.prepare.options import Options
from omni_ray.prepare.progress import say
from omni_ray.prepare.state import SourceState
from omni_ray.prepare.status import asked_of, load_request, load_states
from omni_ray.storage import Storage


def retry(storage: Storage, modality: Modality, reason: str, address: str, workers: int | None) -> int:
    """Decode again every block with records quarantined under `reason` ("all" for any); the exit code.

    Raises:
        NothingNamed: where no record is quarantined under that reason, and none was taken up again before.
        SourceFailed: for sources with such records that cannot be read now; they are left as they are.
    """
    request = load_request(storage, modality)
    asked = asked_of(request, storage)
    states = load_states(storage, modality, asked)
    before = _count(states, reason)
    again = any(_why(reason) in state.committed.revoked.values() for state in states.values())
    if not before and not again:
        reasons = sorted({name for state in states.values() for r in state.decoded() for name in r.quarantined})
        raise NothingNamed(
            f"--reason {reason}: nothing is quarantined under it; reasons there are: {', '.join(reasons) or 'none'}"
        )
    made = combine.read_combined(storage, modality).outputs
    options = Options(
        modality=modality,
        datasets=tuple(sorted(asked.named)),
        out=storage.uri,
        max_bytes=request.max_bytes,
        combine=kind_of(modality).products()[0].key in made or not made,
        dedup=request.dedup,
        license=request.license,
        address=address,
        workers=workers,
        command=f"retry --out {storage.uri} --reason {reason}",
    )
    unread: list[str] = []

    def take_up(states: Sequence[SourceState]) -> None:
        unread.extend(f"  {state.source.name}: {state.failures[0]}" for state in states if not _revoke(state, reason))

    code = command.prepare_again(options, storage, lambda: asked_of(load_request(storage, modality), storage), take_up)
    after = _count(load_states(storage, modality, asked), reason)
    came_in = f"{before - after:,} of {before:,} records quarantined as {reason} are in now; " if before else ""
    say(f"{came_in}{after:,} records stay quarantined as {reason}")
    if unread:
        raise SourceFailed("not taken up again, because these sources cannot be read now:\n" + "\n".join(unread))
    return code


def _revoke(state: SourceState, reason: str) -> bool:
    """Make the blocks undone that hold records quarantined under `reason`; False, and nothing done, where the source
    cannot be read."""
    blocks = {receipt.block for receipt in state.decoded() if _has(receipt, reason)}
    if blocks and state.failures:
        return False
    if blocks:
        state.revoke(blocks, _why(reason))
        stop_here("planning")
    return True


def _why(reason: str) -> str:
    return f"retry of {reason}"


def _has(receipt: Receipt, reason: str) -> bool:
    return reason in receipt.quarantined or (reason == "all" and bool(receipt.quarantined))


def _count(states: dict[str, SourceState], reason: str) -> int:
    return sum(
        count
        for state in states.values()
        for receipt in state.decoded()
        for name, count in receipt.quarantined.items()
        if reason in (name, "all")
    )
