"""One source of an output as it stands: its plan, what its ledger says, and the samples that are committed."""

from collections.abc import Collection, Iterator

from omni_ray.catalog import Modality, Source
from omni_ray.ledger import Ledger, LedgerState, Output, Receipt, read_ledger
from omni_ray.prepare import readers, store
from omni_ray.prepare.outlook import Outlook
from omni_ray.prepare.plan import Place, SourcePlan, block_id, blocks_from, index_id, is_index, output_tag
from omni_ray.prepare.records import Cut, Cuts, InputFile
from omni_ray.prepare.samples import CommittedSamples
from omni_ray.prepare.select import Samples
from omni_ray.storage import Storage


class SourceState:
    """Reads lazily and remembers; `ledger` is None for a command that only looks.

    `trusting_files` as in `CommittedSamples`.
    """

    def __init__(
        self, storage: Storage, modality: Modality, source: Source, plan: SourcePlan, trusting_files: bool = True
    ) -> None:
        self.storage = storage
        self.source = source
        self.plan = plan
        self.folder = store.SourceFolder(modality, source.name)
        self.ledger: Ledger | None = None
        self.failures: list[str] = []
        self._state: LedgerState | None = None
        self._trusting_files = trusting_files
        self._look_anew()

    def _look_anew(self) -> None:
        """Forget what was concluded from receipts."""
        self._cuts: dict[str, list[Cut]] = {}
        self._prefix: list[Receipt] = []
        self._frontier = Place(0, 0)  # the first block that is not committed
        self.committed_samples = CommittedSamples(self.storage, self.folder.samples, self._trusting_files)

    def open_ledger(self, run: str, epoch: int) -> None:
        self.ledger = Ledger(self.storage, self.folder.ledger, run, epoch, self.committed)

    def revoke(self, blocks: Collection[str], why: str) -> None:
        """Make blocks undone, in the open ledger."""
        if not blocks:
            return
        assert self.ledger is not None
        self.ledger.revoke(blocks, why)
        self.ledger.sync()
        self._look_anew()

    @property
    def committed(self) -> LedgerState:
        if self.ledger is not None:
            return self.ledger.state
        if self._state is None:
            self._state = read_ledger(self.storage, self.folder.ledger)
        return self._state

    def misfits(self) -> list[str]:
        """Blocks with receipts that do not go with the plan: a file was updated, or a run that had lost its lease was
        still noting what it had done under other settings."""
        revisions = {file.path: (file.size, file.revision) for file in self.plan.files}
        return [
            block
            for block, (first, *_) in self.committed.receipts.items()
            if first.settings != self.plan.fingerprint or revisions.get(first.path) != (first.size, first.revision)
        ]

    def tag(self, file: InputFile) -> str:
        return output_tag(self.plan.fingerprint, file)

    def index_segments(self, file: InputFile) -> int:
        """Segments of the file's finished index; 0 where it has none or it is not finished."""
        receipts = self.committed.receipts.get(index_id(file.path), ())
        return len(receipts) if receipts and receipts[-1].cursor is None else 0

    def seek_points(self, file: InputFile) -> Output | None:
        """Where the gzip seek points of the file lie, as far as its index came."""
        receipts = self.committed.receipts.get(index_id(file.path), ())
        return receipts[-1].outputs.get(store.SEEK_POINTS) if receipts else None

    def cuts_of(self, file: InputFile) -> Cuts | None:
        """The file's cuts in order; None where they need an index pass that is not finished."""
        blind = readers.plan_cuts(self.source, file)
        if blind is not None:
            return blind
        if file.path not in self._cuts:
            if not self.index_segments(file):
                return None
            outputs = [r.outputs["cuts.parquet"] for r in self.committed.receipts[index_id(file.path)]]
            parts = ((store.read_output(self.storage, output), output.key) for output in outputs)
            self._cuts[file.path] = [
                cut for part, key in parts for cut in store.decode_cuts(part, f"{self.storage.uri}/{key}")
            ]
        return self._cuts[file.path]

    def prefix(self) -> list[Receipt]:
        """Receipts of every segment before the first gap, in canonical order; extended as blocks are committed."""
        if not self._at_end:
            self._extend_prefix()
        return self._prefix

    @property
    def complete(self) -> bool:
        """Whether every block that the source has is committed; never of one whose files nobody has seen yet."""
        self.prefix()
        return self._at_end and bool(self.plan.files)

    def samples(self) -> Samples:
        """Sizes and hashes of the prefix's samples."""
        self.committed_samples.extend(self.prefix())
        return Samples(self.committed_samples.sizes(), self.committed_samples.hashes, self.complete)

    def file_samples(self) -> None:
        """Put what is known of the prefix's samples into files, for the next run and to free memory."""
        self.committed_samples.extend(self.prefix())
        self.committed_samples.save()

    def missing(self) -> Iterator[tuple[Place, InputFile, Cut | None]]:
        """All blocks from the first one that is not committed on."""
        self.prefix()
        return blocks_from(self.plan.files, self.cuts_of, self._frontier)

    def decoded(self) -> Iterator[Receipt]:
        """Every decode receipt, before and after a gap."""
        for block, receipts in self.committed.receipts.items():
            if not is_index(block):
                yield from receipts

    def count_blocks(self) -> tuple[int, int | None]:
        """Blocks done, and blocks in all (None where an index pass is still to come)."""
        done = sum(1 for block in self.committed.receipts if not is_index(block) and self.committed.done(block))
        total = 0
        for file in self.plan.files:
            cuts = self.cuts_of(file)
            if cuts is None:
                return done, None
            total += len(cuts)
        return done, total

    def outlook(self) -> Outlook:
        """What its blocks gave so far, and what is to be expected of the rest."""
        misfits = set(self.misfits())  # before a run begins: it will read these again
        receipts = (receipt for receipt in self.decoded() if receipt.block not in misfits)
        files = ((file, self._indexed_bytes(file) if not misfits else None) for file in self.plan.files)
        return Outlook.of(self.source, files, receipts, complete=not misfits and self.complete)

    def _indexed_bytes(self, file: InputFile) -> int | None:
        """Bytes of all blocks of a file that has its index; None for any other."""
        if readers.plan_cuts(self.source, file) is not None or (cuts := self.cuts_of(file)) is None:
            return None
        return sum(cut.weight for cut in cuts)

    @property
    def _at_end(self) -> bool:
        return self._frontier.file == len(self.plan.files)

    def _extend_prefix(self) -> None:
        for place, file, cut in blocks_from(self.plan.files, self.cuts_of, self._frontier):
            self._frontier = place
            if cut is None:
                return
            block = block_id(file.path, cut)
            if not self.committed.done(block):
                return
            self._prefix.extend(self.committed.receipts[block])
        self._frontier = Place(len(self.plan.files), 0)
