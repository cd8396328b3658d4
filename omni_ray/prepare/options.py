"""The command line of preparation: one parser for `python -m omni_ray.prepare`, `omni-ray prepare` and the scripts."""

import argparse
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from omni_ray.catalog import MODALITIES, MediaOptions, Modality
from omni_ray.errors import UsageError

GB = 10**9
DEFAULT_MIN_GB = Decimal(25)
DEFAULT_MAX_GB = Decimal(30)
DEFAULT_SIDE = MediaOptions().image_size


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
    media: MediaOptions = field(default_factory=MediaOptions)


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
    _add_media_arguments(parser)
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


def _add_media_arguments(parser: argparse.ArgumentParser) -> None:
    """How sounds and pictures are written."""
    parser.add_argument(
        "--layout",
        choices=("files", "tar"),
        default="files",
        help="media one by one, or one tar for each segment of a block (text has no media; default: files)",
    )
    parser.add_argument(
        "--audio-format", choices=("flac", "wav"), default="flac", help="of the clips that are written (default: flac)"
    )
    parser.add_argument(
        "--image-size",
        type=_side,
        default=DEFAULT_SIDE,
        metavar="PIXELS",
        help=f"shorter side, and side of the centre crop (default: {DEFAULT_SIDE})",
    )
    parser.add_argument(
        "--keep-original", action="store_true", help="keep pictures as they are, neither resized nor cut"
    )


def modalities_of(name: str) -> tuple[Modality, ...]:
    """The modalities that a command is about."""
    return tuple(modality for modality in MODALITIES if name in ("all", modality))


def to_options(arguments: argparse.Namespace, modality: Modality, *, combine: bool, command: str) -> Options:
    """Check what argparse cannot.

    Raises:
        UsageError: for options that contradict each other.
    """
    maximum = arguments.max_gb if arguments.max_gb is not None else DEFAULT_MAX_GB
    minimum = arguments.min_gb
    if minimum is None:  # the built-in samples are small on purpose
        minimum = Decimal(0) if arguments.dataset == ["synthetic"] else min(DEFAULT_MIN_GB, maximum)
    if minimum > maximum:
        raise UsageError(f"--min-gb {minimum} is above --max-gb {maximum}; raise the one or lower the other")
    if arguments.reset and arguments.update:
        raise UsageError("--reset and --update: --reset already takes the source files as they are now; give one")
    return Options(
        modality=modality,
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
        media=MediaOptions(
            layout=arguments.layout,
            audio_format=arguments.audio_format,
            image_size=arguments.image_size,
            keep_original=arguments.keep_original,
        ),
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


def _side(text: str) -> int:
    side = positive(text)
    if not 16 <= side <= 4096:
        raise argparse.ArgumentTypeError(f"{text!r}: give 16 to 4096 pixels")
    return side


def positive(text: str) -> int:
    """An argparse type: a whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number of 1 or more")
    return int(text)
