"""What a run would do and need, told before it starts: `--dry-run`, and the check of free space."""

from collections.abc import Iterable, Sequence

from omni_ray.catalog import Modality
from omni_ray.errors import StorageError
from omni_ray.ledger import read_ledger
from omni_ray.prepare import readers, store
from omni_ray.prepare.asking import Asked, Checked
from omni_ray.prepare.budget import quotas
from omni_ray.prepare.options import GB, Options
from omni_ray.prepare.plan import SourcePlan, is_index, settings_differences
from omni_ray.prepare.progress import sized
from omni_ray.prepare.records import InputFile
from omni_ray.prepare.state import SourceState
from omni_ray.storage import Storage

TEXT_COPIES = 2.3  # block store, production file, and the tables beside both
MEDIA_COPIES = 1.1  # the files themselves, lists and tables; more where duplicates stay in the store
EXPANSION = {".gz": 3.5, ".tgz": 3.5, ".zip": 3.0, ".parquet": 2.5}  # text bytes per stored byte, typical


def plan_text(storage: Storage, options: Options, asked: Asked, checked: Sequence[Checked]) -> str:
    """The whole plan as a table for people."""
    estimates = {item.source.name: estimated_bytes(item.new, options.modality) for item in checked}
    shares = quotas(options.max_bytes, asked.shares(), {})
    exhausted = {name: size for name, size in estimates.items() if size < shares[name]}
    shares = quotas(options.max_bytes, asked.shares(), exhausted)
    rows: list[tuple[str, ...]] = [
        ("source", "category", "licence", "files", "input", "blocks", "share", "to prepare", "note")
    ]
    for item in checked:
        rows.append(_row(storage, options, item, shares[item.source.name], estimates[item.source.name]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    total = sum(min(shares[name], size) for name, size in estimates.items())
    disk = needed_bytes(options, [item.new for item in checked])
    lines.append(
        f"about {sized(total)} of samples within a budget of {options.max_bytes / GB:g} GB; "
        f"needs about {sized(disk)} of disk. Nothing was done (--dry-run)."
    )
    return "\n".join(lines)


def check_space(storage: Storage, options: Options, states: Sequence[SourceState]) -> None:
    """Raise StorageError if the output's disk cannot hold what the plan may bring."""
    free = storage.free_bytes()
    committed = sum(receipt.bytes for state in states for receipt in state.decoded())
    needed = needed_bytes(options, [state.plan for state in states]) - int(committed * _copies(options))
    if free is not None and needed > free:
        raise StorageError(
            f"{storage.uri}: the plan needs about {needed / GB:,.3g} GB and {free / GB:,.3g} GB are free; make room, "
            "lower --max-gb, or use another --out"
        )


def needed_bytes(options: Options, plans: Iterable[SourcePlan | None]) -> int:
    estimated = sum(estimated_bytes(plan, options.modality) for plan in plans)
    return int(min(options.max_bytes, estimated) * _copies(options))


def estimated_bytes(plan: SourcePlan | None, modality: Modality = "text") -> int:
    """Bytes of samples that a source's files may hold; sounds and pictures are compressed already."""
    if plan is None:
        return 0
    return int(sum(file.size * (_expansion(file) if modality == "text" else 1) for file in plan.files))


def _copies(options: Options) -> float:
    return TEXT_COPIES if options.modality == "text" else MEDIA_COPIES


def _expansion(file: InputFile) -> float:
    return next((factor for suffix, factor in EXPANSION.items() if file.path.lower().endswith(suffix)), 1.0)


def _row(storage: Storage, options: Options, item: Checked, share: int, estimate: int) -> tuple[str, ...]:
    source, plan = item.source, item.new
    files = plan.files if plan else []
    cuts = [readers.plan_cuts(source, file) for file in files]
    known = sum(len(cut) for cut in cuts if cut is not None)
    blocks = f"{known}+" if None in cuts else str(known)
    return (
        source.name,
        source.category,
        source.license,
        str(len(files)),
        sized(sum(file.size for file in files)),
        blocks if known or None not in cuts else "after indexing",
        sized(share),
        sized(min(share, estimate)),
        _note(storage, options, item),
    )


def _note(storage: Storage, options: Options, item: Checked) -> str:
    if item.new is None:
        return f"cannot be reached: {item.error}"
    if item.old is None:
        return "new"
    if settings_differences(item.old.settings, item.new.settings):
        return "settings differ: --reset needed"
    if item.old != item.new:
        return "files differ: --update needed"
    ledger = read_ledger(storage, store.SourceFolder(options.modality, item.source.name).ledger)
    done = sum(1 for block in ledger.receipts if not is_index(block) and ledger.done(block))
    return f"{done} blocks done"
