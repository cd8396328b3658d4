"""What a run of preparation shows to Prometheus: what it has committed itself, by source (docs/metrics.md)."""

from collections import Counter

from omni_ray.catalog import Modality
from omni_ray.ledger import Receipt
from omni_ray.prepare.plan import is_index

_MEANS = {
    "blocks": "Blocks whose last segment was committed",
    "rows": "Records read in committed segments",
    "kept": "Records that the rules keep",
    "samples": "Samples that the kept records became",
    "bytes": "Bytes of these samples",
    "read_bytes": "Bytes of input read for committed segments",
    "dropped": "Records dropped by a rule",
    "quarantined": "Records that could not be used",
    "failures": "Blocks that stay undone after all attempts",
}


class Figures:
    """Adds up in memory, which costs a receipt some microseconds, and publishes what has grown since the last time."""

    def __init__(self, modality: Modality) -> None:
        self._modality = modality
        self._grown: Counter[tuple[str, str, str]] = Counter()  # figure, source, reason

    def add(self, source: str, receipt: Receipt) -> None:
        """Count a receipt that the ledger has taken; one of an index holds no records, so it does not count."""
        if is_index(receipt.block):
            return
        grown = self._grown
        grown["blocks", source, ""] += receipt.cursor is None
        grown["rows", source, ""] += receipt.rows_in
        grown["kept", source, ""] += receipt.kept
        grown["samples", source, ""] += receipt.samples
        grown["bytes", source, ""] += receipt.bytes
        grown["read_bytes", source, ""] += receipt.read_bytes
        for rule, rows in receipt.dropped.items():
            grown["dropped", source, rule] += rows
        for reason, rows in receipt.quarantined.items():
            grown["quarantined", source, reason] += rows

    def add_failure(self, source: str) -> None:
        self._grown["failures", source, ""] += 1

    def publish(self) -> None:
        """To be called once the ledgers are durable."""
        from omni_ray.runtime import count  # not at the top: importing Ray takes a second that a refusal can save

        for (figure, source, reason), amount in self._grown.items():
            labels = {"modality": self._modality, "source": source} | ({"reason": reason} if reason else {})
            count(f"omni_ray_prepare_{figure}_total", _MEANS[figure], amount, **labels)
        self._grown.clear()
