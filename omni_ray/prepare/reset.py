"""Deleting what was prepared: all of a source (`--reset`), or what nothing names any more; only files that we made."""

import re
from collections.abc import Iterable

from omni_ray.catalog import Modality, Source
from omni_ray.faults import stop_here
from omni_ray.prepare import combine, store
from omni_ray.prepare.kinds import kind_of
from omni_ray.prepare.plan import output_tag
from omni_ray.prepare.records import InputFile
from omni_ray.prepare.state import SourceState
from omni_ray.prepare.store import SourceFolder
from omni_ray.storage import Storage, is_temporary

_OURS = re.compile(
    r"plan\.json|ledger/\d{8}\.jsonl(/[0-9a-f]{16}-[0-9a-f]{16})?"
    r"|samples/[0-9-]+\.[0-9a-f]{16}\.bin"
    r"|index/[0-9a-f]{12}\.[0-9a-f]{8}\.\d{4}\.(cuts\.parquet|members\.parquet|gzidx|zip)"
    r"|blocks/[0-9a-f-]+[a-z_]+-[0-9a-f]+\.\d{4}\.[0-9a-f]{8}\.(txt|rows\.parquet|quarantine\.jsonl|zip)"
)


def forget_sources(storage: Storage, modality: Modality, sources: Iterable[Source]) -> None:
    """Delete receipts, blocks and indexes of these sources, and their own output files.

    The ledger goes first, oldest log first: a kill in between leaves fewer receipts, never one without its outputs.
    """
    for source in sorted(sources, key=lambda source: source.name):
        folder = SourceFolder(modality, source.name)
        keys = [stat.key for stat in storage.list(folder.root)]
        ours = [key for key in keys if is_ours(folder, key)]
        ledger = sorted(key for key in ours if key.startswith(f"{folder.ledger}/"))
        for key in ledger:
            storage.delete(key)
        stop_here("forgetting")
        storage.delete_many(sorted(set(ours) - set(ledger)))
        if len(ours) == len(keys):
            storage.delete_tree(folder.root)
        combine.forget_dataset(storage, modality, source)
        _forget_media(storage, source)


def remove_superseded(state: SourceState) -> None:
    """Delete the blocks and indexes of a source that no receipt names: of files as they were before an update, of what
    was decoded again, of tasks that were killed before their receipt."""
    committed = (receipt for receipts in state.committed.receipts.values() for receipt in receipts)
    named = {output.key for receipt in committed for output in receipt.outputs.values()}
    stored = [stat.key for part in ("blocks", "index") for stat in state.storage.list(f"{state.folder.root}/{part}")]
    state.storage.delete_many([key for key in stored if key not in named and is_ours(state.folder, key)])
    _remove_superseded_media(state)


def _forget_media(storage: Storage, source: Source) -> None:
    kind = kind_of(source.modality)
    place = f"{kind.folder}/{source.name}"
    if source.modality == "text":
        return
    keys = [stat.key for stat in storage.list(place)]
    ours = [key for key in keys if kind.owns(source, key.removeprefix(f"{place}/"))]
    storage.delete_many(ours)
    if len(ours) == len(keys):
        storage.delete_tree(place)


def _remove_superseded_media(state: SourceState) -> None:
    """Delete the media that no segment names. Folders and tars are told by their names alone; what is in a folder is
    looked at only where its block was decoded again."""
    source, kind = state.source, kind_of(state.source.modality)
    if source.modality == "text":
        return
    place = f"{kind.folder}/{source.name}"
    blocks, tars = set(), set()
    for receipts in state.committed.receipts.values():
        for receipt in receipts:
            file = InputFile(receipt.path, receipt.size, receipt.revision)
            blocks.add(f"{receipt.block}.{output_tag(receipt.settings, file)}")
            tars |= {output.key for kind_, output in receipt.outputs.items() if kind_ == "tar"}
    for name in list(state.storage.folders(place)):
        block = name.rpartition(".")[0]
        if name in blocks and block not in state.committed.revoked:
            continue
        named = _named_in(state, block) if name in blocks else frozenset()
        keys = [stat.key for stat in state.storage.list(f"{place}/{name}")]
        ours = [key for key in keys if kind.owns(source, key.removeprefix(f"{place}/")) and key not in named]
        state.storage.delete_many(ours)
        if len(ours) == len(keys):
            state.storage.delete_tree(f"{place}/{name}")
    if source.media.layout == "tar":
        keys = [stat.key for stat in state.storage.list(place)]
        ours = [key for key in keys if key.endswith(".tar") and kind.owns(source, key.removeprefix(f"{place}/"))]
        state.storage.delete_many([key for key in ours if key not in tars])


def _named_in(state: SourceState, block: str) -> frozenset[str]:
    """The media that the committed segments of a block name."""
    receipts = state.committed.receipts.get(block, ())
    return frozenset(
        path
        for table in store.read_rows(state.storage, receipts, ["path"])
        for path in table.column("path").to_pylist()
    )


def is_ours(folder: SourceFolder, key: str) -> bool:
    """Whether a file below a source's folder is one that omni_ray made."""
    name = key.removeprefix(f"{folder.root}/")
    return _OURS.fullmatch(name) is not None or is_temporary(name.rpartition("/")[2])
