"""The run: plan, decode what the budget needs, commit receipts, until every source has its share.

Each round asks the pure `select` how far every source is from its share under what is committed, gives the missing
blocks to Ray, and commits the receipts as they come. Quotas and positions only rise from round to round, so a round
never decodes what a later one would not need, and a restart goes on where the ledger ends.
"""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from omni_ray.catalog import Modality
from omni_ray.errors import StorageError, TasksLost
from omni_ray.faults import stop_here
from omni_ray.lease import Lease
from omni_ray.ledger import Receipt
from omni_ray.prepare import store
from omni_ray.prepare.asking import Asked, Checked
from omni_ray.prepare.assemble import RunTasks
from omni_ray.prepare.figures import Figures
from omni_ray.prepare.kinds import kind_of
from omni_ray.prepare.outlook import Outlook
from omni_ray.prepare.plan import DecodeTask, IndexTask, block_id, index_id, is_index, make_plan, next_tasks
from omni_ray.prepare.progress import Line, Progress, say
from omni_ray.prepare.records import Cut
from omni_ray.prepare.select import Selection, select
from omni_ray.prepare.sources import source_file
from omni_ray.prepare.state import SourceState
from omni_ray.prepare.work import Failed, Report, Task, Work
from omni_ray.storage import Storage

SYNC_SECONDS = 1.0  # a kill loses receipts of at most this long
PRICED_SYNC_SECONDS = 2.0  # the same where every sync is a request that costs something
ROUND_TASKS = 1 << 14  # of all sources: enough that the end of a round, where CPUs wait, is nothing beside the rest
FILE_RECEIPTS = (
    2048  # between two writes of what is known of the samples: a killed run reads about as many tables again
)
UNWRITTEN_IN_A_ROW = 4  # blocks that the output did not take, each tried for some seconds: it is full, or gone
LEAST_TASKS = 8  # a source gives at least so many to a round, so that no CPU waits for the next one


def states_of(storage: Storage, modality: Modality, checked: Sequence[Checked]) -> list[SourceState]:
    """The sources as they are to be, under the plans of now; one without any plan yet has no files."""
    return [
        SourceState(storage, modality, source, new or old or make_plan(kind_of(source.modality).settings(source), []))
        for source, old, new, _ in checked
    ]


def open_sources(states: Sequence[SourceState], checked: Sequence[Checked], lease: Lease) -> None:
    """Pin new sources, apply pin changes that were agreed to, and open every ledger.

    A source that cannot be reached comes with its failure.
    """
    for state, (_, old, new, error) in zip(states, checked, strict=True):
        state.open_ledger(lease.holder.run, lease.epoch)
        if old or new:
            state.revoke(state.misfits(), "made from another revision or with other settings")
        if error:
            state.failures.append(error)
        elif new is not None and new != old:
            stop_here("planning")
            store.write_struct(state.storage, state.folder.plan, new)


class Run:
    """The states of all sources of a run, and the loop that brings them to their shares."""

    def __init__(
        self, storage: Storage, modality: Modality, asked: Asked, states: Sequence[SourceState], lease: Lease
    ) -> None:
        self.storage = storage
        self.modality = modality
        self.states = {state.source.name: state for state in states}
        self._shares = asked.shares()
        self._lease = lease
        self._unwritten = 0  # in a row
        self._most_unwritten = UNWRITTEN_IN_A_ROW  # or all blocks of a round that has fewer
        self._outlooks: dict[str, tuple[Outlook, int | None]] = {}  # of the sources of this round, with their quotas
        self._figures = Figures(modality)
        self._work = Work(
            out=storage.location,
            modality=modality,
            epoch=lease.epoch,
            sources={name: store.AskedSource.of(state.source, storage) for name, state in self.states.items()},
            settings={name: state.plan.fingerprint for name, state in self.states.items()},
        )

    def complete(self, max_bytes: int, dedup: bool, run_tasks: RunTasks) -> Selection:
        """Decode until every source that can be read has its share; the selection that the outputs follow."""
        first = True
        while True:
            selection = self.selection(max_bytes, dedup)
            hungry = [self.states[name] for name in selection.needs_more if not self.states[name].failures]
            tasks = [task for state in hungry for task in self._next_tasks(state, selection, len(hungry))]
            if not tasks:
                for state in self.states.values():
                    state.file_samples()
                return selection
            if first:
                self._say_what_is_there()
                first = False
            self._round(tasks, selection, run_tasks)

    def _say_what_is_there(self) -> None:
        blocks = sum(state.count_blocks()[0] for state in self.states.values())
        samples = sum(receipt.samples for state in self.states.values() for receipt in state.decoded())
        if blocks or samples:
            say(f"going on: {blocks:,} blocks, {samples:,} samples are there already")

    def selection(self, max_bytes: int, dedup: bool) -> Selection:
        samples = {name: state.samples() for name, state in self.states.items()}
        return select(max_bytes, self._shares, samples, dedup)

    def local_files(self) -> list[str]:
        """For each source that lacks something: its first and its last file, where they lie on this machine."""
        found = []
        for state in self.states.values():
            if not state.complete and not state.failures:
                ends = {file.path: file for file in (*state.plan.files[:1], *state.plan.files[-1:])}
                paths = (source_file(state.source, file) for file in ends.values())
                found += [str(path.absolute()) for path in paths if isinstance(path, Path)]
        return found

    def close(self) -> None:
        for state in self.states.values():
            if state.ledger is not None:
                state.ledger.close()

    def _next_tasks(self, state: SourceState, selection: Selection, hungry: int) -> Iterator[Task]:
        cut = selection.cuts[state.source.name]
        need = None if cut.quota is None else cut.quota - cut.size + 1
        read = sum(receipt.read_bytes for receipt in state.prefix())
        ratio = cut.size / read if read else 1.0
        most = max(LEAST_TASKS, ROUND_TASKS // hungry)
        for task in next_tasks(state.missing(), state.committed.done, need, max(ratio, 0.01), LEAST_TASKS, most):
            yield self._to_task(state, task)

    def _to_task(self, state: SourceState, task: IndexTask | DecodeTask) -> Task:
        if isinstance(task, IndexTask):
            block, cut = index_id(task.file.path), Cut("whole", 0, task.file.size)
        else:
            block, cut = block_id(task.file.path, task.cut), task.cut
        receipts = state.committed.receipts.get(block, [])
        return Task(
            kind="index" if isinstance(task, IndexTask) else "decode",
            source=state.source.name,
            block=block,
            file=task.file,
            cut=cut,
            segment=len(receipts),
            cursor=receipts[-1].cursor if receipts else None,
            index_segments=state.index_segments(task.file),
            seek_points=state.seek_points(task.file),
        )

    def _round(self, tasks: Sequence[Task], selection: Selection, run_tasks: RunTasks) -> None:
        encoded = [(msgspec.msgpack.encode(task), _weight(task)) for task in tasks]
        self._most_unwritten = min(UNWRITTEN_IN_A_ROW, len(tasks))
        progress = Progress([self._line(name, selection) for name in {task.source: None for task in tasks}])
        with progress.shown():
            synced = time.monotonic()
            sync_seconds = PRICED_SYNC_SECONDS if self.storage.packs else SYNC_SECONDS
            try:
                for number, data in enumerate(run_tasks(self._work, encoded), 1):
                    self._take(msgspec.msgpack.decode(data, type=Report), progress)
                    if time.monotonic() - synced >= sync_seconds:
                        self._sync()
                        synced = time.monotonic()
                    if number % FILE_RECEIPTS == 0:
                        self._sync()
                        for state in self.states.values():
                            state.file_samples()
            except TasksLost as lost:  # these blocks stay undone, like those that cannot be read
                for data in lost.tasks:
                    task = msgspec.msgpack.decode(data, type=Task)
                    self._take(Report(task.source, Failed(task.block, f"{task.file.path}: {lost}")), progress)
            finally:
                self._sync()

    def _take(self, report: Report, progress: Progress) -> None:
        state = self.states[report.source]
        if isinstance(report.what, Failed):
            if not state.failures:
                say(f"{report.source}: {report.what.error}")
            state.failures.append(report.what.error)
            self._figures.add_failure(report.source)
            self._unwritten += report.what.unwritten
            if self._unwritten >= self._most_unwritten:
                raise StorageError(f"{report.what.error} ({self._unwritten} blocks in a row could not be written)")
            return
        self._unwritten = 0
        receipt = report.what
        if state.ledger is not None and state.ledger.append(receipt):
            (outlook, quota), index = self._outlooks[report.source], is_index(receipt.block)
            if not index:
                outlook.add(receipt.bytes, receipt.read_bytes)
            ended = receipt.cursor is None and not index
            progress.update(report.source, int(ended), receipt.samples, receipt.bytes, outlook.goal(quota))
            self._figures.add(report.source, receipt)
            self._drop_superseded_index(state, receipt)

    def _drop_superseded_index(self, state: SourceState, receipt: Receipt) -> None:
        """Seek points grow with the file; only the newest segment's are ever read again."""
        if is_index(receipt.block) and receipt.segment:
            self._sync()
            before = state.committed.receipts[receipt.block][receipt.segment - 1]
            if store.SEEK_POINTS in before.outputs:
                self.storage.delete(before.outputs[store.SEEK_POINTS].key)

    def _sync(self) -> None:
        self._lease.check()
        stop_here("ledger")
        for state in self.states.values():
            if state.ledger is not None:
                state.ledger.sync()
        self._figures.publish()

    def _line(self, name: str, selection: Selection) -> Line:
        state, cut = self.states[name], selection.cuts[name]
        done, total = state.count_blocks()
        samples = sum(receipt.samples for receipt in state.decoded())
        outlook = state.outlook()
        self._outlooks[name] = outlook, cut.quota
        return Line(name, done, total, samples, outlook.given, outlook.goal(cut.quota), outlook.given)


def _weight(task: Task) -> int:
    return task.file.size if task.kind == "index" else task.cut.weight or task.file.size
