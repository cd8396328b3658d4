"""`omni-ray`: one command for everything; its parsers are those of the modules."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from omni_ray import __version__, schedule_cli
from omni_ray.catalog import Modality
from omni_ray.entry import end, guarded
from omni_ray.errors import NotInThisVersion
from omni_ray.jobs import resolve_out
from omni_ray.prepare import command, every, retry, status, verify
from omni_ray.prepare.options import positive
from omni_ray.storage import Storage, open_storage
from omni_ray.train import command as train
from omni_ray.train import infer

LATER = {
    "tune": "`omni-ray train --set lr=...` tries one value",
}


def console() -> NoReturn:
    """Entry point of the console script."""
    end(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names; the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _run(arguments))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="omni-ray", description="From nothing to a trained omni model.")
    parser.add_argument("--version", action="version", version=f"omni_ray {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command.add_parser(commands.add_parser("prepare", help="download and decode sources into exact training files"))
    _out_command(commands.add_parser("verify", help="prove that nothing was lost and nothing came in twice"))
    _out_command(commands.add_parser("status", help="per source: blocks, bytes, budget, drops, rate, time left"))
    page = commands.add_parser("report", help="one HTML page: sizes, distributions, drops, samples, licences")
    _out_command(page)
    page.add_argument("--to", metavar="FILE.html", help="where to write the page (default: report.html in the output)")
    again = commands.add_parser("retry", help="take quarantined records up again")
    _out_command(again)
    again.add_argument("--reason", required=True, help="as `omni-ray status` names it; `all` for every reason")
    again.add_argument("--address", default="auto", metavar="auto|local|HOST:PORT", help="the Ray cluster")
    again.add_argument("--workers", type=positive, metavar="N", help="CPUs of a local cluster (default: all)")
    schedule_cli.add_parser(commands.add_parser("schedule", help="steps, warmup and intervals of every stage, and why"))
    train.add_parser(commands.add_parser("train", help="train a stage, or go on with it"))
    infer.add_parser(commands.add_parser("infer", help="let a trained model go on with a text"))
    for name in LATER:
        commands.add_parser(name, help="not in this version yet")
    return parser


def _out_command(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="data", metavar="URI", help="the output to look at (default: data)")


def _run(argv: list[str]) -> int:
    if argv and argv[0] in LATER:
        raise NotInThisVersion(f"omni-ray {argv[0]}: not in this version yet; {LATER[argv[0]]}")
    arguments = build_parser().parse_args(argv)
    if arguments.command == "prepare":
        return command.run(arguments)
    if arguments.command == "schedule":
        return schedule_cli.run(arguments)
    if arguments.command == "train":
        return train.run(arguments)
    if arguments.command == "infer":
        return infer.run(arguments)
    storage = open_storage(resolve_out(arguments.out))
    if arguments.command == "report":
        from omni_ray.prepare.report.command import report  # not at the top: what makes pages is needed here alone

        return report(storage, resolve_out(arguments.to) if arguments.to else None)
    return _look(arguments, storage)


def _look(arguments: argparse.Namespace, storage: Storage) -> int:
    """Commands on an output, for every modality that it has."""

    modalities = every.prepared(storage)

    def look(modality: Modality) -> int:
        if len(modalities) > 1:
            print(f"{modality}:", flush=True)
        if arguments.command == "retry":
            return retry.retry(storage, modality, arguments.reason, arguments.address, arguments.workers)
        if arguments.command == "status":
            return status.show_status(storage, modality)
        return verify.report(storage, modality)

    return every.each(modalities, look)


if __name__ == "__main__":
    console()
