"""`omni-ray retry`: take quarantined records up again.

The blocks that hold them are decoded once more, whole; what was quarantined for a cause that has gone (a codec that is
installed now, a disk that is mended) comes in at its place, and the outputs end as those of a fresh run.
"""

from omni_ray.catalog import Modality
from omni_ray.errors import UsageError
from omni_ray.prepare import combine, command
from omni_ray.prepare.corpus_index import CORPUS
from omni_ray.prepare.options import Options
from omni_ray.prepare.progress import say
from omni_ray.prepare.state import SourceState
from omni_ray.prepare.status import asked_of, load_request, load_states
from omni_ray.storage import Storage


def retry(storage: Storage, modality: Modality, reason: str, address: str, workers: int | None) -> int:
    """Decode again every block with records quarantined under `reason` ("all" for any); the exit code.

    Raises:
        UsageError: where no record is quarantined under that reason.
    """
    request = load_request(storage, modality)
    asked = asked_of(request)
    states = load_states(storage, modality, asked)
    before = _count(states, reason)
    if not before:
        reasons = sorted({name for state in states.values() for r in state.decoded() for name in r.quarantined})
        raise UsageError(
            f"--reason {reason}: nothing is quarantined under it; reasons there are: {', '.join(reasons) or 'none'}"
        )
    made = combine.read_combined(storage, modality).outputs
    options = Options(
        modality=modality,
        datasets=tuple(sorted(asked.named)),
        out=storage.uri,
        catalog=None,
        min_bytes=0,
        max_bytes=request.max_bytes,
        min_asked=False,
        combine=CORPUS in made or not made,
        allow_partial=False,
        reset=False,
        update=False,
        dry_run=False,
        dedup=request.dedup,
        license=request.license,
        address=address,
        workers=workers,
        command=f"retry --out {storage.uri} --reason {reason}",
    )
    code = command.prepare_again(options, storage, asked, lambda state: revoke(state, reason))
    after = _count(load_states(storage, modality, asked), reason)
    say(f"{before - after:,} of {before:,} records quarantined as {reason} are in now; {after:,} stay quarantined")
    return code


def revoke(state: SourceState, reason: str) -> None:
    """Make the blocks undone that hold records quarantined under `reason`."""
    if state.ledger is None:
        return
    blocks = {r.block for r in state.decoded() if reason in r.quarantined or (reason == "all" and r.quarantined)}
    state.ledger.revoke(blocks, f"retry of {reason}")
    state.ledger.sync()


def _count(states: dict[str, SourceState], reason: str) -> int:
    return sum(
        count
        for state in states.values()
        for receipt in state.decoded()
        for name, count in receipt.quarantined.items()
        if reason in (name, "all")
    )
