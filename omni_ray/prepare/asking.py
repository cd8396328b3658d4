"""What a run is about: the sources named now, those asked for before in the same output, and whether they still fit."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from omni_ray.catalog import CATEGORIES, Catalog, MediaOptions, Modality, Source, licensed, load_catalog
from omni_ray.errors import FingerprintMismatch, NothingNamed, NotInThisVersion, SourceFailed
from omni_ray.prepare import readers, sources, store
from omni_ray.prepare.budget import Share
from omni_ray.prepare.kinds import kind_of
from omni_ray.prepare.options import Options
from omni_ray.prepare.plan import SourcePlan, file_differences, make_plan, settings_differences
from omni_ray.prepare.synthetic import BUILT_IN, synthetic_catalog
from omni_ray.storage import Storage

DEFAULT_CATALOG = "configs/catalog"
SYNTHETIC_FOLDER = f"{store.WORK}/synthetic"  # where `--dataset synthetic` makes its raw files


class Asked(NamedTuple):
    """What a run is about; sources are in canonical order.

    sources: what is prepared: everything that this output was ever asked for and the licence filter leaves in.
    named: the names of those that this run was given.
    remembered: with those that only the licence filter leaves out.
    """

    sources: list[Source]
    named: frozenset[str]
    category_weights: dict[str, float]
    remembered: list[Source]

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
        NothingNamed: for a name that nothing carries, or where nothing is left.
        CatalogError: for a wrong catalog.
    """
    catalog = _catalog(options, synthetic_folder)
    known = _as_asked(catalog.of(options.modality), options)
    request = store.read_struct(storage, store.request_key(options.modality), store.Request)
    earlier = _as_asked([asked.source(storage) for asked in request.sources] if request else [], options)
    named = _named(options, known, earlier)
    asked_before = {source.name for source in earlier}
    remembered = merge([source for source in known if source.name in named | asked_before], earlier)
    merged = remembered if options.license is None else licensed(remembered, options.license)
    left = {source.name for source in merged}
    named &= left
    if not merged or not named:
        raise NothingNamed(
            f"nothing to prepare: no {options.modality} source is left of --dataset {' '.join(options.datasets)}"
            + (f" under --license {options.license}" if options.license else "")
        )
    weights = _weights(options.modality, catalog, request.category_weights if request else {})
    remembered = [source for source in remembered if source.name in left | asked_before]
    return Asked(merged, frozenset(named), weights, remembered)


def _as_asked(sources: Iterable[Source], options: Options) -> list[Source]:
    """The sources with what a run says of how their media are written."""
    media = options.media if options.modality != "text" else MediaOptions()
    return [source.model_copy(update={"media": media}) for source in sources]


def merge(current: Sequence[Source], earlier: Sequence[Source]) -> list[Source]:
    """The canonical order: that of the catalog for its sources, of the requests so far for those of other catalogs.

    `current` takes the places that its sources had in `earlier`, in its own order; each of its new sources comes after
    the one that it follows in the catalog. So with one catalog the order is the catalog's whatever was asked for first,
    and with several it does not depend on which came last.
    """
    names = [source.name for source in current]
    placed = {source.name for source in earlier} & set(names)
    known = iter([source for source in current if source.name in placed])
    order = [next(known) if source.name in placed else source for source in earlier]
    at = next((number for number, source in enumerate(order) if source.name in placed), len(order))
    for source in current:
        if source.name in placed:
            at = order.index(source) + 1
        else:
            order.insert(at, source)
            at += 1
    return order


def to_request(options: Options, asked: Asked, storage: Storage) -> store.Request:
    """What to remember."""
    return store.Request(
        max_bytes=options.max_bytes,
        min_bytes=options.min_bytes,
        dedup=options.dedup,
        license=options.license,
        sources=[store.AskedSource.of(source, storage) for source in asked.remembered],
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
            new = make_plan(kind_of(source.modality).settings(source), sources.expand(source))
            if new != old:
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
        if old is None or source.name in resetting:
            continue
        settings = settings_differences(old.settings, make_plan(kind_of(source.modality).settings(source), []).settings)
        lines += [f"  {source.name}: {line}" for line in settings]
        if settings:
            remedies.add(f"--reset --dataset {source.name} prepares it anew")
        if new is not None and source.name not in updating:
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
        parts.append(synthetic_catalog(synthetic_folder, options.modality))
    weights: dict[str, dict[str, float]] = {}
    for part in parts:
        weights |= part.category_weights
    return Catalog(sources=tuple(source for part in parts for source in part.sources), category_weights=weights)


def _weights(modality: Modality, catalog: Catalog, earlier: Mapping[str, float]) -> dict[str, float]:
    """Weights of categories: the catalog's for those that it has sources in, what was asked for before for others."""
    decided = {source.category for source in catalog.of(modality) if source.defined_in != BUILT_IN}
    kept = {category: weight for category, weight in earlier.items() if category not in decided}
    return kept | catalog.category_weights.get(modality, {})


def _named(options: Options, known: Sequence[Source], earlier: Sequence[Source]) -> set[str]:
    named: set[str] = set()
    synthetic = {source.name for source in known if source.defined_in == BUILT_IN}
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
            raise NothingNamed(
                f"--dataset {dataset}: no {options.modality} source or category of that name; "
                f"categories: {categories}; sources: {names}"
            )
        named |= found
    return named
