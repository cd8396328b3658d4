"""Forgetting what was prepared: `--reset`. Only files that omni_ray made are deleted."""

import re
from collections.abc import Iterable

from omni_ray.catalog import Modality
from omni_ray.prepare import combine
from omni_ray.prepare.store import SourceFolder
from omni_ray.storage import TEMP_PREFIX, Storage

_OURS = re.compile(
    r"plan\.json|ledger/\d{8}\.jsonl"
    r"|samples/[0-9-]+\.[0-9a-f]{16}\.bin"
    r"|index/[0-9a-f]{12}\.[0-9a-f]{8}\.\d{4}\.(cuts\.parquet|members\.parquet|gzidx)"
    r"|blocks/[0-9a-f-]+[a-z_]+-[0-9a-f]+\.\d{4}\.[0-9a-f]{8}\.(txt|rows\.parquet|quarantine\.jsonl)"
    rf"|([a-z]+/)?{re.escape(TEMP_PREFIX)}.*"
)


def forget_sources(storage: Storage, modality: Modality, names: Iterable[str]) -> None:
    """Delete receipts, blocks and indexes of these sources, and their own output files.

    The ledger goes first, oldest file first: a kill in between leaves fewer receipts, never one without its outputs.
    """
    for name in sorted(names):
        folder = SourceFolder(modality, name)
        kept = 0
        stats = list(storage.list(folder.root))
        for stat in sorted(stats, key=lambda stat: (not stat.key.startswith(folder.ledger), stat.key)):
            if _OURS.fullmatch(stat.key.removeprefix(f"{folder.root}/")):
                storage.delete(stat.key)
            else:
                kept += 1
        if not kept:
            storage.delete_tree(folder.root)
        combine.forget_dataset(storage, name)
