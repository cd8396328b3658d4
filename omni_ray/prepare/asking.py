"""What a run is about: the sources named now, those asked for before in the same output, and whether they still fit."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from omni_ray.catalog import CATEGORIES, Catalog, Modality, Source, licensed, load_catalog
from omni_ray.errors import FingerprintMismatch, NotInThisVersion, SourceFailed, UsageError
from omni_ray.prepare import readers, sources, store
from omni_ray.prepare.budget import Share
from omni_ray.prepare.options import Options
from omni_ray.prepare.plan import SourcePlan, file_differences, make_plan, settings_differences
from omni_ray.prepare.synthetic import synthetic_catalog
from omni_ray.storage import Storage

DEFAULT_CATALOG = "configs/catalog"
SYNTHETIC_FOLDER = f"{store.WORK}/synthetic"  # where `--dataset synthetic` makes its raw files


class Asked(NamedTuple):
    """Sources in canonical order, the names that this run was given, and the category weights."""

    sources: list[Source]
    named: frozenset[str]
    category_weights: dict[str, float]

    def shares(self) -> list[Share]:
        return [
            Share(
                source.name,
                source.category,
                Fraction(str(source.weight)),
                Fraction(str(self.category_weights.get(source.category, 1.0))),
            )
            for source in self.sources
        ]


class Checked(NamedTuple):
    """A source's plan as it is on disk (None before its first run) and as it would be made now."""

    source: Source
    old: SourcePlan | None
    new: SourcePlan | None  # None where the source cannot be reached
    error: str


def what_is_asked(options: Options, storage: Storage, synthetic_folder: str) -> Asked:
    """Resolve `--dataset`, `--catalog` and `--license` against what this output was asked for before.

    Raises:
        UsageError: for a name that nothing carries, or where nothing is left.
        CatalogError: for a wrong catalog.
    """
    catalog = _catalog(options, synthetic_folder)
    known = list(catalog.of(options.modality))
    request = store.read_struct(storage, store.request_key(options.modality), store.Request)
    earlier = [asked.source() for asked in request.sources] if request else []
    named = _named(options, known, earlier)
    asked_names = named | {source.name for source in earlier}
    current = {source.name for source in known}
    merged = [source for source in known if source.name in asked_names]
    merged += [source for source in earlier if source.name not in current]
    if options.license is not None:
        merged = licensed(merged, options.license)
        named &= {source.name for source in merged}
    if not merged or not named:
        raise UsageError(
            f"nothing to prepare: no {options.modality} source is left of --dataset {' '.join(options.datasets)}"
            + (f" under --license {options.license}" if options.license else "")
        )
    weights = dict(request.category_weights) if request else {}
    weights |= catalog.category_weights.get(options.modality, {})
    return Asked(merged, frozenset(named), weights)


def to_request(options: Options, asked: Asked, storage: Storage) -> store.Request:
    """What to remember; sources that only this run's licence filter left out stay asked for."""
    request = store.read_struct(storage, store.request_key(options.modality), store.Request)
    present = {source.name for source in asked.sources}
    hidden = [old for old in request.sources if old.entry["name"] not in present] if request else []
    return store.Request(
        max_bytes=options.max_bytes,
        min_bytes=options.min_bytes,
        dedup=options.dedup,
        license=options.license,
        sources=[*(store.AskedSource.of(source) for source in asked.sources), *hidden],
        category_weights=asked.category_weights,
    )


def check_sources(modality: Modality, asked: Sequence[Source], storage: Storage) -> list[Checked]:
    """Look at every source's files and at the plan that earlier runs made; nothing is written.

    A source that cannot be reached is an error of that source alone.

    Raises:
        CatalogError: a field that the data lacks.
        NotInThisVersion: a url or reader that this version does not have.
    """
    for source in asked:
        sources.check_urls(source)
        readers.known_reader(source)
    checked = []
    for source in asked:
        old = store.read_struct(storage, store.SourceFolder(modality, source.name).plan, SourcePlan)
        try:
            new = make_plan(source.settings(), sources.expand(source))
            if old is None:
                readers.check_fields(source, new.files)
        except SourceFailed as error:
            checked.append(Checked(source, old, None, str(error)))
            continue
        checked.append(Checked(source, old, new, ""))
    return checked


def refuse_differences(checked: Iterable[Checked], resetting: frozenset[str], updating: frozenset[str]) -> None:
    """Raise FingerprintMismatch, key by key, where receipts of these sources would not fit any more.

    Args:
        resetting: sources whose receipts are about to be forgotten.
        updating: sources whose changed files may be taken as they are now.
    """
    lines: list[str] = []
    remedies: set[str] = set()
    for source, old, new, _ in checked:
        if old is None or new is None or source.name in resetting:
            continue
        settings = settings_differences(old.settings, new.settings)
        lines += [f"  {source.name}: {line}" for line in settings]
        if settings:
            remedies.add(f"--reset --dataset {source.name} prepares it anew")
        if source.name not in updating:
            files = [line for found in file_differences(old.files, new.files).values() for line in found]
            lines += [f"  {source.name}: {line}" for line in files]
            if files:
                remedies.add(f"--update --dataset {source.name} takes the files as they are now")
    if lines:
        what = "\n".join(lines)
        raise FingerprintMismatch(
            f"what exists was made otherwise than asked now (old -> new):\n{what}\nNothing was changed. "
            f"Undo the difference, or: {'; '.join(sorted(remedies))}"
        )


def _catalog(options: Options, synthetic_folder: str) -> Catalog:
    only_synthetic = set(options.datasets) == {"synthetic"}
    parts: list[Catalog] = []
    if options.catalog is not None:
        parts.append(load_catalog(Path(options.catalog)))
    elif Path(DEFAULT_CATALOG).is_dir():
        parts.append(load_catalog(Path(DEFAULT_CATALOG)))
    elif not only_synthetic:
        raise NotInThisVersion(
            f"no catalog: this version ships none of real sources and there is no {DEFAULT_CATALOG}/ here; give "
            "--catalog FILE, or --dataset synthetic, which needs none"
        )
    if "synthetic" in options.datasets:
        parts.append(synthetic_catalog(synthetic_folder))
    weights: dict[str, dict[str, float]] = {}
    for part in parts:
        weights |= part.category_weights
    return Catalog(sources=tuple(source for part in parts for source in part.sources), category_weights=weights)


def _named(options: Options, known: Sequence[Source], earlier: Sequence[Source]) -> set[str]:
    named: set[str] = set()
    synthetic = {source.name for source in known if source.defined_in == "built in"}
    for dataset in options.datasets:
        if dataset == "all":
            found = {source.name for source in known} - synthetic
        elif dataset == "synthetic":
            found = synthetic
        else:
            found = {source.name for source in (*known, *earlier) if dataset in (source.name, source.category)}
        if not found:
            categories = ", ".join(CATEGORIES[options.modality])
            names = ", ".join(sorted(source.name for source in known)) or "none"
            raise UsageError(
                f"--dataset {dataset}: no {options.modality} source or category of that name; "
                f"categories: {categories}; sources: {names}"
            )
        named |= found
    return named
