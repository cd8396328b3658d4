"""The command line of preparation: one parser for `python -m omni_ray.prepare`, `omni-ray prepare` and the scripts."""

import argparse
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from omni_ray.catalog import MODALITIES, Modality
from omni_ray.errors import NotInThisVersion, UsageError

GB = 10**9
DEFAULT_MIN_GB = Decimal(25)
DEFAULT_MAX_GB = Decimal(30)


@dataclass(frozen=True)
class Options:
    """What one run was asked for. `min_asked` tells whether `--min-gb` was typed."""

    modality: Modality
    datasets: tuple[str, ...]
    out: str
    max_bytes: int
    combine: bool
    dedup: str
    license: str | None
    address: str
    workers: int | None
    command: str
    catalog: str | None = None
    min_bytes: int = 0
    min_asked: bool = False
    allow_partial: bool = False
    reset: bool = False
    update: bool = False
    dry_run: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every entry point of preparation has, except how combining is asked for."""
    parser.add_argument(
        "--dataset",
        action="append",
        metavar="all|synthetic|CATEGORY|SOURCE",
        help="what to prepare; may be given again; `synthetic` needs no catalog and no network (default: all)",
    )
    parser.add_argument(
        "--min-gb",
        type=_gigabytes,
        metavar="GB",
        help="warn where the sources hold less than this many GB (10^9 bytes of sample data) per modality; exit code 3 "
        "if typed; a budget filled to whole samples is not less "
        f"(default: {DEFAULT_MIN_GB})",
    )
    parser.add_argument(
        "--max-gb",
        type=_gigabytes,
        metavar="GB",
        help=f"the budget per modality, divided over categories, then sources, by weight (default: {DEFAULT_MAX_GB})",
    )
    parser.add_argument("--out", default="data", metavar="URI", help="where everything is written (default: data)")
    parser.add_argument(
        "--catalog",
        metavar="PATH",
        help="a catalog file or a folder of *.toml (default: configs/catalog)",
    )
    parser.add_argument(
        "--allow-partial",
        action="store_true",
        help="combine although a source failed; says what is missing, exit code 4",
    )
    parser.add_argument(
        "--reset",
        action="store_true",
        help="forget the named datasets' receipts, blocks and cache first, then prepare them anew",
    )
    parser.add_argument(
        "--update",
        action="store_true",
        help="take the named datasets' source files as they are now; only what changed is prepared again",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the whole plan with estimated sizes; do nothing")
    parser.add_argument(
        "--layout",
        choices=("files", "tar"),
        default="files",
        help="media one by one, or one tar per block (text has no media; default: files)",
    )
    parser.add_argument(
        "--dedup",
        choices=("exact", "none"),
        default="exact",
        help="leave out samples whose content is already in the output (default: exact)",
    )
    parser.add_argument(
        "--license",
        metavar="EXPR",
        help="only sources under these licences: SPDX names and globs, as MIT,Apache-*,CC-BY-4.0",
    )
    parser.add_argument(
        "--address",
        default="auto",
        metavar="auto|local|HOST:PORT",
        help="the Ray cluster: that of RAY_ADDRESS or `ray start`, else a local one (auto, the default); always a "
        "local one; or the one named",
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="CPUs of a local cluster (default: all)")


def parse_modality(name: str) -> Modality:
    """The modality of a command; `all`, audio and image are refused by name.

    Raises:
        NotInThisVersion: with the way that works now.
    """
    if name == "text":
        return "text"
    what = "audio and image preparation" if name == "all" else f"{name} preparation"
    raise NotInThisVersion(
        f"prepare {name}: this version does not have {what} yet; `python -m omni_ray.prepare text` works now"
    )


def to_options(arguments: argparse.Namespace, modality: str, *, combine: bool, command: str) -> Options:
    """Check what argparse cannot.

    Raises:
        UsageError: for options that contradict each other.
        NotInThisVersion: for parts of the contract that come later.
    """
    chosen = parse_modality(modality)
    if arguments.layout == "tar":
        raise NotInThisVersion(
            "--layout tar: packs media, which text does not have, and this version prepares text only; leave it out"
        )
    maximum = arguments.max_gb if arguments.max_gb is not None else DEFAULT_MAX_GB
    minimum = arguments.min_gb
    if minimum is None:  # the built-in samples are small on purpose
        minimum = Decimal(0) if arguments.dataset == ["synthetic"] else min(DEFAULT_MIN_GB, maximum)
    if minimum > maximum:
        raise UsageError(f"--min-gb {minimum} is above --max-gb {maximum}; raise the one or lower the other")
    if arguments.reset and arguments.update:
        raise UsageError("--reset and --update: --reset already takes the source files as they are now; give one")
    return Options(
        modality=chosen,
        datasets=tuple(arguments.dataset or ("all",)),
        out=arguments.out,
        catalog=arguments.catalog,
        min_bytes=int(minimum * GB),
        max_bytes=int(maximum * GB),
        min_asked=arguments.min_gb is not None,
        combine=combine,
        allow_partial=arguments.allow_partial,
        reset=arguments.reset,
        update=arguments.update,
        dry_run=arguments.dry_run,
        dedup=arguments.dedup,
        license=arguments.license,
        address=arguments.address,
        workers=arguments.workers,
        command=command,
    )


def modality_choices() -> tuple[str, ...]:
    return ("all", *MODALITIES)


def _gigabytes(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of GB") from None
    if not value.is_finite() or value < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: give 0 or more GB")
    return value


def positive(text: str) -> int:
    """An argparse type: a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number of 1 or more")
    return int(text)
