"""`omni-ray schedule`: the figures of a run and the reason of each, without writing anything.

For the data on disk and the stage configs, or for any samples, batch, accumulation, world size and policy.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from omni_ray import journal, schedule_plot
from omni_ray.config import STAGES
from omni_ray.errors import ConfigError, UsageError
from omni_ray.schedule import TABLE, Schedule, Tokens, derive, scale_lr
from omni_ray.schedule_plot import Curve
from omni_ray.stage_schedules import Current, add_places, analyse, count, derive_stage, heading, read_configs

AS_GIVEN = "as given by --samples"


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the schedule command's arguments."""
    parser.description = "Show the schedule of every stage for the data on disk, or of any run; nothing is written."
    add_places(parser)
    parser.add_argument("--stage", action="append", choices=STAGES, help="only this stage; may be given again")
    parser.add_argument("--samples", type=count, metavar="N", help="instead of counting the data")
    parser.add_argument("--batch-size", type=count, metavar="N", help="instead of the config's")
    parser.add_argument("--grad-accum", type=count, metavar="N", help="micro-batches a step, instead of the config's")
    parser.add_argument(
        "--policy",
        choices=("table", "tokens"),
        default="table",
        help="epochs by the number of samples (default), or by unique tokens and model size, with WSD decay",
    )
    parser.add_argument("--unique-tokens", type=count, metavar="N", help="tokens: what the data hold")
    parser.add_argument("--parameters", type=count, metavar="N", help="tokens: what the model has")
    parser.add_argument("--ratio", type=count, metavar="12..20", help="tokens: wanted per parameter (default: 20)")
    parser.add_argument("--allow-repetition", action="store_true", help="tokens: allow over 16 repetitions")
    parser.add_argument(
        "--scale-lr", choices=("none", "sqrt", "linear"), default="none", help="peak lr by world size (default: none)"
    )
    parser.add_argument("--plot", metavar="FILE", help="draw the learning rate over the steps: .png, .svg or .pdf")


def run(arguments: argparse.Namespace) -> int:
    """Run the parsed schedule command; the exit code."""
    _check(arguments)
    if arguments.plot:
        schedule_plot.check(Path(arguments.plot))
    curves = list(_by_config(arguments) if arguments.stage or not arguments.samples else _by_options(arguments))
    if arguments.plot and curves:
        schedule_plot.draw(curves, Path(arguments.plot))
    if arguments.plot:
        print(f"Drawn: {arguments.plot}" if curves else f"Nothing to draw: {arguments.plot} not written")
    return 0


def _check(arguments: argparse.Namespace) -> None:
    of_tokens = {
        "--unique-tokens": arguments.unique_tokens,
        "--parameters": arguments.parameters,
        "--ratio": arguments.ratio,
        "--allow-repetition": arguments.allow_repetition or None,
    }
    given = [name for name, value in of_tokens.items() if value is not None]
    if arguments.policy == "table" and given:
        raise UsageError(f"{given[0]}: belongs to --policy tokens; add that or leave it out")
    if arguments.policy == "tokens" and None in (arguments.unique_tokens, arguments.parameters):
        raise UsageError("--policy tokens: give --unique-tokens N and --parameters N, which it derives epochs from")
    without_config = arguments.samples and not arguments.stage
    if arguments.policy == "tokens" and not without_config and len(arguments.stage or ()) != 1:
        raise UsageError("--policy tokens: name one --stage, whose tokens and parameters these are")
    if without_config and not arguments.batch_size:
        raise UsageError("--samples: give --batch-size N too, or --stage NAME to take it from that stage's config")
    if without_config and arguments.scale_lr != "none":
        raise UsageError("--scale-lr: there is no lr without a config; give --stage NAME")


def _tokens(arguments: argparse.Namespace) -> Tokens | None:
    if arguments.policy == "table":
        return None
    ratio = {} if arguments.ratio is None else {"ratio": arguments.ratio}
    return Tokens(arguments.unique_tokens, arguments.parameters, allow_repetition=arguments.allow_repetition, **ratio)


def _by_options(arguments: argparse.Namespace) -> Iterator[Curve]:
    """The schedule of a run that no config describes."""
    samples, batch, accumulation = arguments.samples, arguments.batch_size, arguments.grad_accum or 1
    schedule = derive(samples, batch, accumulation, arguments.world_size, _tokens(arguments) or TABLE)
    _print_figures(samples, AS_GIVEN, schedule)
    yield Curve(f"{samples:,} samples", schedule, None, 0.0)


def _by_config(arguments: argparse.Namespace) -> Iterator[Curve]:
    """The schedules of the stages, for the data on disk or for --samples."""
    folder = Path(arguments.configs_dir)
    configs = read_configs(folder, journal.pending(folder))
    wanted = [stage for stage in STAGES if stage in (arguments.stage or configs)]
    if lacking := [stage for stage in wanted if stage not in configs]:
        raise ConfigError(f"{folder / STAGES[lacking[0]].file}: no such file; name another folder with --configs-dir")
    changed = {"batch_size": arguments.batch_size, "gradient_accumulation_steps": arguments.grad_accum}
    changed = {key: value for key, value in changed.items() if value is not None}
    for stage, samples, words in _counts(arguments, wanted):
        print(heading(stage))
        if not samples:
            print(f"  No schedule: {words}\n")
            continue
        cfg = configs[stage].config.model_copy(update=changed)
        current = Current(configs[stage].path, configs[stage].text, cfg)
        schedule = derive_stage(current, samples, arguments.world_size, _tokens(arguments)).schedule
        _print_figures(samples, words, schedule)
        batch, accumulation = cfg.batch_size, cfg.gradient_accumulation_steps
        peak, scaled = scale_lr(cfg.lr, arguments.scale_lr, batch, accumulation, arguments.world_size)
        print(f"{scaled}\n")
        yield Curve(heading(stage), schedule, peak, cfg.min_lr_ratio)


def _counts(arguments: argparse.Namespace, stages: list[str]) -> Iterator[tuple[str, int, str]]:
    """Stage, samples, and where they are from; 0 samples and what is missing."""
    if arguments.samples:
        yield from ((stage, arguments.samples, AS_GIVEN) for stage in stages)
        return
    for counted in analyse(arguments.data_dir, stages):
        largest = "the largest of its data: " if len(counted.found) > 1 else "counted: "
        yield counted.stage, counted.samples, counted.missing or largest + ", ".join(counted.found)


def _print_figures(samples: int, why: str, schedule: Schedule) -> None:
    """A table of the figures, under the names of the configs, each with its reason."""
    figures = {"steps_per_epoch": schedule.steps_per_epoch, **schedule.figures(), "decay_steps": schedule.decay_steps}
    table = Table("figure", Column("value", justify="right"), "why", box=None, pad_edge=False)
    table.add_row("samples", f"{samples:,}", why)
    for key, value in figures.items():
        table.add_row(key, f"{value:,}", schedule.why[key.replace("max_epochs", "epochs")])
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a file has no width to keep to
    console.print(table)
