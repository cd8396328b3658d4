"""`omni-ray status`: how far an output is, read from its ledgers."""

import time
from collections import Counter
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from omni_ray.catalog import Modality, licensed
from omni_ray.errors import UsageError
from omni_ray.lease import current_holder, newest_epoch
from omni_ray.ledger import receipts_of_epoch
from omni_ray.prepare import store
from omni_ray.prepare.asking import Asked
from omni_ray.prepare.kinds import kind_of
from omni_ray.prepare.options import GB
from omni_ray.prepare.plan import SourcePlan, make_plan
from omni_ray.prepare.progress import duration, sized
from omni_ray.prepare.select import Selection, select
from omni_ray.prepare.state import SourceState
from omni_ray.storage import Storage


def load_request(storage: Storage, modality: Modality) -> store.Request:
    """What was asked for in an output.

    Raises:
        UsageError: where nothing ever was.
    """
    request = store.read_struct(storage, store.request_key(modality), store.Request)
    if request is None:
        raise UsageError(
            f"{storage.uri}: no {modality} is prepared here; `omni-ray prepare {modality} --out {storage.uri}` does"
        )
    return request


def asked_of(request: store.Request, storage: Storage) -> Asked:
    """The sources of a request that its licence expression leaves in."""
    remembered = [asked.source(storage) for asked in request.sources]
    sources = remembered if request.license is None else licensed(remembered, request.license)
    return Asked(sources, frozenset(source.name for source in sources), request.category_weights, remembered)


def load_states(
    storage: Storage, modality: Modality, asked: Asked, trusting_files: bool = True
) -> dict[str, SourceState]:
    """Every source as it stands; `trusting_files` as in `CommittedSamples`."""
    states = {}
    for source in asked.sources:
        plan = store.read_struct(storage, store.SourceFolder(modality, source.name).plan, SourcePlan)
        state = SourceState(
            storage, modality, source, plan or make_plan(kind_of(source.modality).settings(source), []), trusting_files
        )
        if plan is None:
            state.failures.append("never reached")
        states[source.name] = state
    return states


def current_selection(request: store.Request, asked: Asked, states: dict[str, SourceState]) -> Selection:
    """The cut of what is committed now, under the budget that was asked for last."""
    samples = {name: state.samples() for name, state in states.items()}
    return select(request.max_bytes, asked.shares(), samples, request.dedup == "exact")


def show_status(storage: Storage, modality: Modality) -> int:
    """Print the table to stdout; the exit code."""
    request = load_request(storage, modality)
    asked = asked_of(request, storage)
    states = load_states(storage, modality, asked)
    selection = current_selection(request, asked, states)
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a file has no width to keep to
    table = Table(
        "source",
        "blocks",
        "records in",
        "kept",
        "dropped",
        "quarantined",
        "committed",
        "in the output",
        "share",
        "state",
        box=None,
        pad_edge=False,
    )
    for name, state in states.items():
        table.add_row(name, *_cells(state, selection))
    console.print(table)
    for line in _reasons(states):
        console.print(line, markup=False)
    console.print(f"total: {sized(selection.size)} of {request.max_bytes / GB:g} GB", markup=False)
    holder = current_holder(storage)
    if holder is not None:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(holder.since))
        console.print(f"held by `{holder.command}` (process {holder.pid} on {holder.host}) since {since}", markup=False)
        for line in _rates(states, selection, time.time() - holder.since):
            console.print(line, markup=False)
    return 0


def _cells(state: SourceState, selection: Selection) -> Iterator[str]:
    receipts = list(state.decoded())
    cut = selection.cuts[state.source.name]
    done, total = state.count_blocks()
    yield f"{done:,}/{'?' if total is None else format(total, ',')}"
    yield f"{sum(receipt.rows_in for receipt in receipts):,}"
    yield f"{sum(receipt.kept for receipt in receipts):,}"
    yield f"{sum(sum(receipt.dropped.values()) for receipt in receipts):,}"
    yield f"{sum(sum(receipt.quarantined.values()) for receipt in receipts):,}"
    yield sized(sum(receipt.bytes for receipt in receipts))
    yield sized(cut.size)
    yield "-" if cut.quota is None else sized(cut.quota)
    yield {"filled": "share filled", "dry": "all of it", "needs_more": "unfinished"}[cut.state]


def _reasons(states: dict[str, SourceState]) -> Iterator[str]:
    for name, state in states.items():
        dropped: Counter[str] = Counter()
        quarantined: Counter[str] = Counter()
        for receipt in state.decoded():
            dropped.update(receipt.dropped)
            quarantined.update(receipt.quarantined)
        parts = [f"{count:,} dropped by {rule}" for rule, count in sorted(dropped.items())]
        parts += [f"{count:,} quarantined as {reason}" for reason, count in sorted(quarantined.items())]
        if parts:
            yield f"{name}: {', '.join(parts)}"


def _rates(states: dict[str, SourceState], selection: Selection, seconds: float) -> Iterator[str]:
    """Rate of the run that holds the output, from what it has committed itself, and the time that is left."""
    for name, state in states.items():
        cut = selection.cuts[name]
        if cut.state == "needs_more" and cut.quota is not None:
            epoch = newest_epoch(state.storage)
            own = sum(receipt.bytes for receipt in receipts_of_epoch(state.storage, state.folder.ledger, epoch))
            rate = own / max(seconds, 1e-3)
            left = max(state.outlook().goal(cut.quota) - cut.size, 0)
            shown = f"about {duration(left / rate)} left" if rate else "time left not known yet"
            yield f"{name}: {sized(rate)}/s, {shown}"
