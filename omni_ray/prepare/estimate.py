"""What a run would do and need, told before it starts: `--dry-run`, and the check of free space."""

from collections.abc import Sequence

from omni_ray.errors import StorageError
from omni_ray.prepare import readers
from omni_ray.prepare.asking import Asked, Checked
from omni_ray.prepare.budget import quotas
from omni_ray.prepare.options import GB, Options
from omni_ray.prepare.outlook import Outlook
from omni_ray.prepare.plan import settings_differences
from omni_ray.prepare.progress import say, sized
from omni_ray.prepare.state import SourceState
from omni_ray.storage import Storage

TEXT_COPIES = 2.3  # block store, production file, and the tables beside both
MEDIA_COPIES = 1.1  # the files themselves, lists and tables; more where duplicates stay in the store


def plan_text(
    storage: Storage, options: Options, asked: Asked, checked: Sequence[Checked], states: Sequence[SourceState]
) -> str:
    """The whole plan as a table for people."""
    outlooks = {state.source.name: state.outlook() for state in states}
    expected = {name: outlook.expected for name, outlook in outlooks.items()}
    shares = quotas(options.max_bytes, asked.shares(), {})
    exhausted = {name: size for name, size in expected.items() if size < shares[name]}
    shares = quotas(options.max_bytes, asked.shares(), exhausted)
    rows: list[tuple[str, ...]] = [
        ("source", "category", "licence", "files", "input", "blocks", "share", "to prepare", "note")
    ]
    for item, state in zip(checked, states, strict=True):
        rows.append(_row(item, state, shares[item.source.name], expected[item.source.name]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    total = sum(min(shares[name], size) for name, size in expected.items())
    lines.append(
        f"about {sized(total)} of samples within a budget of {options.max_bytes / GB:g} GB; "
        f"needs about {sized(needed_bytes(options, list(outlooks.values())))} of disk. Nothing was done (--dry-run)."
    )
    return "\n".join(lines)


def check_space(storage: Storage, options: Options, states: Sequence[SourceState]) -> None:
    """Raise StorageError if the output's disk cannot hold what the plan may still bring.

    Of sounds and pictures a source that has no block yet tells too little to refuse anything; then a warning is said.
    """
    outlooks = [state.outlook() for state in states]
    free, needed = storage.free_bytes(), needed_bytes(options, outlooks)
    if free is None or needed <= free:
        return
    what = f"about {needed / GB:,.3g} GB and {free / GB:,.3g} GB are free"
    if options.modality != "text" and needed_bytes(options, [one for one in outlooks if one.read]) <= free:
        say(f"warning: {storage.uri}: the plan may need {what}; should they not do, make room and run it again")
        return
    raise StorageError(f"{storage.uri}: the plan needs {what}; make room, lower --max-gb, or use another --out")


def needed_bytes(options: Options, outlooks: Sequence[Outlook]) -> int:
    """Of disk, for what is not committed yet."""
    room = max(0, options.max_bytes - sum(one.given for one in outlooks))  # in the budget
    copies = TEXT_COPIES if options.modality == "text" else MEDIA_COPIES
    return int(min(room, sum(one.left for one in outlooks)) * copies)


def _row(item: Checked, state: SourceState, share: int, expected: int) -> tuple[str, ...]:
    source, files = item.source, item.new.files if item.new else []
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
        sized(min(share, expected)),
        _note(item, state),
    )


def _note(item: Checked, state: SourceState) -> str:
    if item.new is None:
        return f"cannot be reached: {item.error}"
    if item.old is None:
        return "new"
    if settings_differences(item.old.settings, item.new.settings):
        return "settings differ: --reset needed"
    if item.old != item.new:
        return "files differ: --update needed"
    return f"{state.count_blocks()[0]} blocks done"
