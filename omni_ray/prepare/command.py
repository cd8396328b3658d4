"""The prepare command: from options to exit code."""

import argparse
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from importlib import import_module
from typing import TYPE_CHECKING

from omni_ray import faults
from omni_ray.entry import guarded
from omni_ray.errors import BelowMinimum, SourceFailed
from omni_ray.jobs import resolve_out
from omni_ray.lease import Lease
from omni_ray.prepare import assemble, combine, estimate, every, reset, store, synthetic
from omni_ray.prepare.asking import (
    SYNTHETIC_FOLDER,
    Asked,
    Checked,
    check_sources,
    refuse_differences,
    to_request,
    what_is_asked,
)
from omni_ray.prepare.assemble import RunTasks
from omni_ray.prepare.kinds import Kind, kind_of
from omni_ray.prepare.options import GB, Options, add_arguments, modalities_of, modality_choices, to_options
from omni_ray.prepare.pipeline import Run, open_sources, states_of
from omni_ray.prepare.progress import say, sized
from omni_ray.prepare.select import Selection
from omni_ray.prepare.state import SourceState
from omni_ray.prepare.synthetic import BUILT_IN
from omni_ray.storage import Storage, open_storage

if TYPE_CHECKING:
    from omni_ray.sight import Sight


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the prepare command's arguments."""
    parser.add_argument(
        "modality", nargs="?", choices=modality_choices(), default="all", help="what to prepare (default: all)"
    )
    add_arguments(parser)
    parser.add_argument(
        "--no-combine",
        action="store_true",
        help="write one file per dataset (text/<source>.txt) instead of the production files",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the parsed prepare command; the exit code."""
    command = shlex.join(["prepare", arguments.modality, "--out", arguments.out])
    asked = [
        to_options(arguments, modality, combine=not arguments.no_combine, command=command)
        for modality in modalities_of(arguments.modality)
    ]
    options = {one.modality: one for one in asked}
    return every.each(list(options), lambda modality: prepare(options[modality]))


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m omni_ray.prepare",
        description="Download and decode sources into exact training files; kill it anywhere and run it again.",
    )
    add_parser(parser)
    return guarded(lambda: run(parser.parse_args(argv)))


def prepare(options: Options) -> int:
    """Prepare what `options` ask for.

    Raises:
        OmniRayError: with the exit code that the contract gives it.
    """
    storage = open_storage(resolve_out(options.out))
    if options.dry_run:
        return _dry_run(options, storage)
    folder = f"{storage.uri}/{SYNTHETIC_FOLDER}"
    return prepare_again(options, storage, lambda: what_is_asked(options, storage, folder), lambda states: None)


def prepare_again(
    options: Options,
    storage: Storage,
    ask: Callable[[], Asked],
    before_work: Callable[[Sequence[SourceState]], None],
) -> int:
    """Bring what `ask` gives to its shares and write the outputs; `before_work` is called once the sources are open."""
    faults.arm()
    _check(options, ask(), storage)
    lease = Lease.acquire(storage, options.command)
    storage = storage.fenced(lease.check)
    try:
        asked = ask()  # the holder before us may have changed everything that was looked at
        if any(source.defined_in == BUILT_IN for source in asked.sources):
            synthetic.write_raw(storage, options.modality, SYNTHETIC_FOLDER)
        checked = _check(options, asked, storage)
        if options.reset:
            readable = {item.source.name for item in checked if not item.error}
            named = [source for source in asked.sources if source.name in asked.named & readable]
            reset.forget_sources(storage, options.modality, named)
            checked = check_sources(options.modality, asked.sources, storage)
        states = states_of(storage, options.modality, checked)
        estimate.check_space(storage, options, states)
        storage.sweep(f"{store.WORK}/{options.modality}")
        unfinished = assemble.unfinished_key(storage, options.modality)
        kind = kind_of(options.modality)
        ours = kind.output_keys(asked.sources)
        storage.sweep(kind.folder, only=[key for key in ours if key != unfinished], deep=False)
        _sweep_media(storage, kind, asked)
        store.write_struct(storage, store.request_key(options.modality), to_request(options, asked, storage))
        open_sources(states, checked, lease)
        before_work(states)
        return _work(options, storage, asked, Run(storage, options.modality, asked, states, lease))
    finally:
        lease.release()


def _check(options: Options, asked: Asked, storage: Storage) -> list[Checked]:
    """Refuse what cannot be gone on with; nothing is written."""
    checked = check_sources(options.modality, asked.sources, storage)
    refuse_differences(
        checked,
        resetting=asked.named if options.reset else frozenset(),
        updating=asked.named if options.update else frozenset(),
    )
    return checked


def _dry_run(options: Options, storage: Storage) -> int:
    with tempfile.TemporaryDirectory() as folder:
        raw = f"{storage.uri}/{SYNTHETIC_FOLDER}"
        if "synthetic" in options.datasets and not synthetic.has_raw(storage, options.modality, SYNTHETIC_FOLDER):
            raw = f"{folder}/raw"
            synthetic.write_raw(open_storage(folder), options.modality, "raw")
        asked = what_is_asked(options, storage, raw)
        checked = check_sources(options.modality, asked.sources, storage)
        states = states_of(storage, options.modality, checked)
        print(estimate.plan_text(storage, options, asked, checked, states))
        lost = {
            item.source.name: [item.error]
            for item, state in zip(checked, states, strict=True)
            if item.error and not state.complete
        }
    if lost:
        raise SourceFailed(_failures_text(lost, options.allow_partial))
    return 0


def _work(options: Options, storage: Storage, asked: Asked, run: Run) -> int:
    also = [name for name in run.states if name not in asked.named]
    if also:
        say(f"also brought to their share, because this output was asked for them before: {', '.join(also)}")
    with ExitStack() as stack:
        stack.callback(run.close)
        run_tasks = _tasks_runner(stack, options, lambda: _sight(storage, run))
        selection = run.complete(options.max_bytes, options.dedup == "exact", run_tasks)
        _sweep_media(storage, kind_of(options.modality), asked)  # what a node left there that was lost at work
        failed = _failed(options, asked, run, selection)
        _write_outputs(options, storage, asked, run, selection, failed, run_tasks)
    _explain(options, selection)
    if failed:
        raise SourceFailed(_failures_text(failed, options.allow_partial))
    for state in run.states.values():
        reset.remove_superseded(state)
    _check_minimum(options, selection)
    return 0


def _sweep_media(storage: Storage, kind: Kind, asked: Asked) -> None:
    for source in asked.sources:
        storage.sweep(f"{kind.folder}/{source.name}", only=[], deep=False)


def _failed(options: Options, asked: Asked, run: Run, selection: Selection) -> dict[str, list[str]]:
    """Errors of the sources whose share lacks something; and of those that were to be looked at anew."""
    anew = asked.named if options.reset or options.update else frozenset()
    failed = {}
    for name, state in run.states.items():
        if state.failures and (name in selection.needs_more or name in anew):
            failed[name] = state.failures
        elif state.failures:
            say(f"{name}: its share is complete all the same: {state.failures[0]}")
    return failed


def _sight(storage: Storage, run: Run) -> "Sight | None":
    """What the nodes must see; they are asked."""
    from omni_ray.sight import look

    return look(storage, run.local_files())


def _tasks_runner(stack: ExitStack, options: Options, look: Callable[[], "Sight | None"]) -> RunTasks:
    """Tasks go to Ray, which is connected to at the first round and kept for the others; then `look` asks its nodes.

    What a failed round left running ends before the connection does: Ray ends a process that uses a closed one.
    """
    connected = False
    sight: Sight | None = None

    def run_tasks(work: Callable[[bytes], Iterator[bytes]], tasks: Sequence[tuple[bytes, int]]) -> Iterator[bytes]:
        nonlocal connected, sight
        from omni_ray import runtime  # not at the top: a run that finds everything done needs no Ray

        if not connected:
            say(f"connecting to Ray ({options.address}) ...")
            with ThreadPoolExecutor(1) as pool:  # Ray's processes take seconds to start: Ray Data is imported meanwhile
                importing = pool.submit(import_module, "omni_ray.blocks")
                stack.enter_context(runtime.connected(options.address, options.workers))
                importing.result()
            sight = look()
            connected = True
        from omni_ray import blocks

        running = blocks.run_blocks(work, tasks, address=options.address, workers=options.workers, sight=sight)
        return stack.enter_context(closing(running))

    return run_tasks


def _write_outputs(
    options: Options,
    storage: Storage,
    asked: Asked,
    run: Run,
    selection: Selection,
    failed: dict[str, list[str]],
    run_tasks: RunTasks,
) -> None:
    """Write what is asked for, and what earlier runs wrote anew: no output may tell of another budget than the rest."""
    made = combine.read_combined(storage, options.modality).outputs
    kind = kind_of(options.modality)
    for name, state in run.states.items():
        asked_for = not options.combine and name in asked.named
        for product in kind.dataset_products(state.source):
            if not (asked_for or product.key in made) or not product.of({name: state}):
                continue
            if name in failed and not options.allow_partial:
                say(f"{product.key}: not written, since its source failed")
                continue
            written = combine.write_product(storage, options.modality, product, {name: state}, selection, run_tasks)
            if written or asked_for:
                print(f"{storage.uri}/{product.key}")
    if not options.combine and kind.products()[0].key not in made:
        return
    if failed and not options.allow_partial:
        say("not combined: a source failed; mend it and run again, or give --allow-partial")
        return
    if combine.write_production(storage, run.states, selection, run_tasks) or options.combine:
        for product in kind.products():
            print(f"{storage.uri}/{product.key}")
            print(f"{storage.uri}/{product.index_key}")


def _explain(options: Options, selection: Selection) -> None:
    """One line per source: what became of its samples."""
    for name, cut in selection.cuts.items():
        counts = cut.counts
        say(
            f"{name}: {counts.in_output:,} samples, {sized(cut.size)} in the output; "
            f"{counts.duplicate:,} duplicates, {counts.beyond:,} beyond the cut"
        )
    share = f"of a budget of {options.max_bytes / GB:g} GB"
    say(f"total: {sized(selection.size)} {share}")


def _failures_text(failed: dict[str, list[str]], partial: bool) -> str:
    lines = [
        f"  {name}: {errors[0]}" + (f" (and {len(errors) - 1} more)" if len(errors) > 1 else "")
        for name, errors in failed.items()
    ]
    what = "combined without what these sources lack" if partial else "not everything could be prepared"
    return f"{what}:\n" + "\n".join(lines) + "\nthe same command tries them again"


def _check_minimum(options: Options, selection: Selection) -> None:
    """Say so, or fail, where the sources hold less than the minimum. A budget that is filled as far as whole samples
    fill it is no such case, however close below it the minimum is."""
    filled = any(cut.state == "filled" for cut in selection.cuts.values())
    if filled or selection.size >= options.min_bytes:
        return
    dry = ", ".join(name for name, cut in selection.cuts.items() if cut.state == "dry") or "none"
    got = f"{sized(selection.size)} is below the minimum of {options.min_bytes / GB:g} GB"
    message = f"{got}; sources that ran dry: {dry}"
    if options.min_asked:
        raise BelowMinimum(message)
    say(f"warning: {message}")
