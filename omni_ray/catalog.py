"""Catalogs: TOML files that name the sources of training data, and how to read each.

`configs/catalog/*.toml` or what `--catalog` names. Everything is validated when it is read; an error names the file,
the source and the key.
"""

import fnmatch
import math
import re
import string
import tomllib
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from omni_ray.errors import CatalogError

Modality = Literal["text", "audio", "image"]
MODALITIES: tuple[Modality, ...] = ("text", "audio", "image")
CATEGORIES: dict[Modality, tuple[str, ...]] = {
    "text": ("general", "conversations", "scientific", "tools"),
    "audio": ("general", "scientific", "environmental"),
    "image": ("general", "scientific", "art", "nature", "domain"),
}
Reader = Literal["table", "lines", "documents", "librispeech", "ljspeech", "imagefolder", "webdataset", "files"]
FIELDS: dict[Modality, frozenset[str]] = {
    "text": frozenset({"text"}),
    "audio": frozenset({"audio", "text"}),
    "image": frozenset({"image", "caption", "category"}),
}
RULES: dict[Modality, dict[str, float | bool]] = {
    "text": {"min_chars": 8, "max_line_chars": 4000, "max_symbol_ratio": 0.5},
    "audio": {
        "min_seconds": 0.2,
        "max_seconds": 30.0,
        "min_peak_dbfs": -60.0,
        "max_clipped": 0.5,
        "require_text": True,
    },
    "image": {"min_side": 32, "max_aspect": 6.0, "min_std": 1.0},
}
_INF = math.inf
LONGEST_SECONDS = 3600.0  # of a clip: what keeps the memory of decoding one bounded
RULE_RANGES: dict[str, tuple[float, float]] = {
    "min_chars": (0, _INF),
    "max_line_chars": (1, _INF),
    "max_symbol_ratio": (0, 1),
    "min_seconds": (0, _INF),
    "max_seconds": (0, LONGEST_SECONDS),
    "min_peak_dbfs": (-_INF, 0),
    "max_clipped": (0, 1),
    "min_side": (1, _INF),
    "max_aspect": (1, _INF),
    "min_std": (0, _INF),
}
# what production files are called without their endings: a dataset of that name would have the same file
RESERVED_NAMES = ("production", "production_corpus", "production_asr", "production_tts", "production_annotations")
TEXT_FIELD: dict[Modality, str] = {"text": "text", "audio": "text", "image": "caption"}
READERS: dict[Modality, tuple[Reader, ...]] = {
    "text": ("table", "lines", "documents"),
    "audio": ("table", "librispeech", "ljspeech", "webdataset", "files"),
    "image": ("table", "imagefolder", "webdataset", "files"),
}
_DEFAULT_TEXT: dict[Reader, str] = {"imagefolder": "{class}", "webdataset": "{txt}"}
DEFAULT_BLOCK_BYTES = 16 << 20  # of input: about a second of text on one core
TABLE_BLOCK_BYTES = 256 << 10  # of a table of sounds or pictures: where it holds paths, some thousand of them

Text = Annotated[str, StringConstraints(min_length=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class MediaOptions(BaseModel):
    """How a run writes sounds and pictures; part of the settings of every source of these."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    layout: Literal["files", "tar"] = "files"
    audio_format: Literal["flac", "wav"] = "flac"
    image_size: Annotated[int, Field(ge=16, le=4096)] = 224  # pixels of the shorter side, and of the crop
    keep_original: bool = False


class Source(BaseModel):
    """One source of one modality, as its `[[source]]` table says.

    `base` is the folder to which relative urls refer; `defined_in` names the file for messages.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
    modality: Modality
    category: Text
    url: tuple[Text, ...] = Field(min_length=1)
    reader: Reader
    license: Text
    homepage: str = ""
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    fields: dict[str, Text] = Field(default_factory=dict)
    rules: dict[str, float | bool] = Field(default_factory=dict)
    maps: dict[str, dict[str, str]] = Field(default_factory=dict)
    encoding: Text = "utf-8"
    members: str = ""  # a glob over an archive's member names; "" takes all that the reader can read
    block_bytes: Annotated[int, Field(ge=1 << 10)] = DEFAULT_BLOCK_BYTES
    speech: bool = True
    group: str = ""
    manifest: str = ""
    path: str = ""
    pattern: str = ""
    media: MediaOptions = MediaOptions()  # of the run, not of the catalog
    base: Path = Field(default=Path(), exclude=True)
    defined_in: str = Field(default="", exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _default_block_bytes(cls, entry: Any) -> Any:
        of_media = isinstance(entry, dict) and entry.get("reader") == "table" and entry.get("modality") != "text"
        return {"block_bytes": TABLE_BLOCK_BYTES, **entry} if of_media else entry

    @field_validator("url", mode="before")
    @classmethod
    def _one_url_or_many(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, str) else value

    @field_validator("name")
    @classmethod
    def _no_production_file(cls, value: str) -> str:
        if value in RESERVED_NAMES:
            raise ValueError(f"{value!r} is the name of a production file; choose another")
        return value

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            newline = "\n".encode(value)
        except LookupError:
            raise ValueError(f"{value!r} is no text encoding that Python knows") from None
        if len(newline) != 1:
            raise ValueError(f"{value!r}: encodings of more than one byte per newline are not read; convert to UTF-8")
        return value

    @model_validator(mode="after")
    def _belongs_to_modality(self) -> "Source":
        if self.category not in CATEGORIES[self.modality]:
            raise ValueError(f"category: {self.category!r} is none of {', '.join(CATEGORIES[self.modality])}")
        _check_keys("fields", self.fields, FIELDS[self.modality])
        _check_keys("rules", self.rules, RULES[self.modality])
        for rule, value in self.rules.items():
            _check_rule(rule, value, type(RULES[self.modality][rule]))
        for field, template in self.fields.items():
            _check_template(field, template)
        if self.reader == "table" and self.modality == "text" and "text" not in self.fields:
            raise ValueError('fields.text: a table source says which columns make its text, as text = "{column}"')
        if self.modality != "text":
            self._check_media()
        return self

    def _check_media(self) -> None:
        """What only sources of sounds and pictures can have wrong."""
        if self.reader not in READERS[self.modality]:
            raise ValueError(f"reader: {self.modality} is read by {', '.join(READERS[self.modality])}")
        text, media = TEXT_FIELD[self.modality], self.modality
        if self.reader == "table" and media not in self.fields:
            raise ValueError(f'fields.{media}: a table source names the column of its media, as {media} = "{media}"')
        if (
            self.reader in ("table", "files")
            and text not in self.fields
            and self.resolved_rules().get(f"require_{text}", True)
        ):
            raise ValueError(f'fields.{text}: say which columns make its text, as {text} = "{{column}}"')
        if self.reader == "files":
            if bool(self.manifest) == bool(self.pattern):
                raise ValueError("manifest: the files reader needs either a manifest or a pattern")
            if self.manifest and not self.path:
                raise ValueError('path: says where the file of a row of the manifest lies, as path = "wavs/{filename}"')
        elif self.manifest or self.path or self.pattern:
            raise ValueError("manifest, path, pattern: only the files reader has them")
        _check_template("path", self.path)
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern: {self.pattern!r}: {error}") from None

    def resolved_rules(self) -> dict[str, float | bool]:
        """Every rule of the modality, the source's overrides applied."""
        return {**RULES[self.modality], **self.rules}

    def template(self, field: str) -> str:
        """The template of a field; lines and documents are their own text."""
        return self.fields.get(field, "{text}")

    def text_template(self) -> str:
        """The template of the text, transcript or caption."""
        return self.fields.get(TEXT_FIELD[self.modality]) or _DEFAULT_TEXT.get(self.reader, "{text}")

    def media_template(self) -> str:
        """The template of the column that holds a sound or a picture, or of the path where it lies; "" for none.

        A name without braces is that of a column.
        """
        template = self.fields.get(self.modality, "") if self.modality != "text" else ""
        return template if not template or "{" in template else f"{{{template}}}"

    def group_column(self) -> str:
        return self.group or ("speaker" if self.reader == "librispeech" else "")

    def needed_columns(self) -> frozenset[str]:
        """Top-level columns that the templates name."""
        if self.modality == "text":
            templates: Iterable[str] = self.fields.values() or (self.template("text"),)
        else:
            group = self.group_column()
            templates = (
                self.text_template(), self.media_template(), self.fields.get("category", ""), self.path,
                f"{{{group}}}" if group else "",
            )  # fmt: skip
        return frozenset(name.split(".")[0] for template in templates for name in template_names(template))

    def settings(self) -> dict[str, Any]:
        """What can change the bytes of a decoded block, and nothing else; the input of the settings fingerprint."""
        more = {name: getattr(self, name) for name in ("group", "manifest", "path", "pattern")}
        return {
            "reader": self.reader,
            "fields": dict(sorted(self.fields.items())),
            "maps": {name: dict(sorted(table.items())) for name, table in sorted(self.maps.items())},
            "encoding": self.encoding,
            "members": self.members,
            "block_bytes": self.block_bytes,
            "rules": {rule: float(value) for rule, value in sorted(self.resolved_rules().items())},
            **(more if self.modality != "text" else {}),
        }


class Catalog(BaseModel):
    """All sources, in canonical order (files by name, then as written), and the weights of categories."""

    model_config = ConfigDict(frozen=True)

    sources: tuple[Source, ...]
    category_weights: dict[str, dict[str, float]] = Field(default_factory=dict)

    def of(self, modality: Modality) -> tuple[Source, ...]:
        return tuple(source for source in self.sources if source.modality == modality)

    def category_weight(self, modality: Modality, category: str) -> Fraction:
        return Fraction(str(self.category_weights.get(modality, {}).get(category, 1.0)))


class _CategoryTable(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _CatalogFile(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    source: list[dict[str, Any]] = Field(default_factory=list)
    category: dict[Modality, dict[str, _CategoryTable]] = Field(default_factory=dict)


def load_catalog(place: Path) -> Catalog:
    """Read a catalog file, or every `*.toml` of a folder in the order of their names.

    Raises:
        CatalogError: naming file, source and key.
    """
    files = sorted(place.glob("*.toml")) if place.is_dir() else [place]
    if not files:
        raise CatalogError(f"{place}: the folder holds no *.toml; name a catalog file or a folder of them")
    sources: list[Source] = []
    weights: dict[str, dict[str, float]] = {}
    for file in files:
        parsed = _parse_file(file)
        sources.extend(_parse_source(file, number, entry) for number, entry in enumerate(parsed.source, 1))
        for modality, tables in parsed.category.items():
            for category, table in tables.items():
                if category not in CATEGORIES[modality]:
                    known = ", ".join(CATEGORIES[modality])
                    raise CatalogError(f"{file}: [category.{modality}.{category}]: the categories are {known}")
                weights.setdefault(modality, {})[category] = table.weight
    _refuse_duplicates(sources)
    return Catalog(sources=tuple(sources), category_weights=weights)


def licensed(sources: Iterable[Source], expression: str) -> list[Source]:
    """The sources whose licence matches one of the comma-separated SPDX names or globs (`MIT,Apache-*`).

    Raises:
        CatalogError: for an expression that names nothing.
    """
    globs = [glob.strip().lower() for glob in expression.split(",") if glob.strip()]
    if not globs:
        raise CatalogError("--license: name at least one licence, as MIT,Apache-*,CC-BY-4.0")
    return [source for source in sources if any(fnmatch.fnmatchcase(source.license.lower(), glob) for glob in globs)]


def template_names(template: str) -> list[str]:
    """Column names, dotted for nested ones, in the order in which a template like `Q: {question}` uses them."""
    return [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]


def _parse_file(file: Path) -> _CatalogFile:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CatalogError(f"{file}: no such catalog; give a .toml file or a folder of them") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError(f"{file}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise CatalogError(f"{file}: not valid TOML: {error}") from error
    try:
        return _CatalogFile.model_validate(table)
    except ValidationError as error:
        raise CatalogError(f"{file}: {_first_problem(error)}") from error


def _parse_source(file: Path, number: int, entry: Mapping[str, Any]) -> Source:
    name = entry.get("name")
    where = f"{file}: source {name!r}" if isinstance(name, str) else f"{file}: source number {number}"
    if hidden := {"base", "defined_in", "media"} & entry.keys():
        raise CatalogError(f"{where}: {min(hidden)}: unknown key")
    try:
        # TOML writes whole numbers without a point; strict validation takes them for floats all the same.
        return Source.model_validate({**entry, "base": file.parent, "defined_in": str(file)})
    except ValidationError as error:
        raise CatalogError(f"{where}: {_first_problem(error)}") from error


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{key}: this key must be given"
    got = "" if problem["type"] == "value_error" else f", got {problem['input']!r}"
    return f"{key}: {message}{got}" if key else message


def _check_keys(table: str, given: Iterable[str], known: Iterable[str]) -> None:
    for key in given:
        if key not in known:
            raise ValueError(f"{table}.{key}: unknown key; known are {', '.join(sorted(known))}")


def _check_rule(rule: str, value: float | bool, wanted: type) -> None:
    fits = isinstance(value, bool) == (wanted is bool) and (wanted is not int or float(value).is_integer())
    if not fits:
        raise ValueError(f"rules.{rule}: {value!r} should be of type {wanted.__name__}")
    least, most = RULE_RANGES.get(rule, (-_INF, _INF))
    if not math.isfinite(value) or not least <= value <= most:
        raise ValueError(f"rules.{rule}: {value:g} is not allowed; give a number from {least:g} to {most:g}")


def _check_template(field: str, template: str) -> None:
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"fields.{field}: {template!r}: {error}") from None
    for _, name, spec, conversion in parts:
        if name is not None and (spec or conversion or not re.fullmatch(r"[^\[\]{}]+", name)):
            raise ValueError(f"fields.{field}: {template!r}: write {{column}} or {{column.inner}}, nothing more")


def _refuse_duplicates(sources: Iterable[Source]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for source in sources:
        key = (source.modality, source.name)
        if key in seen:
            raise CatalogError(
                f"{source.defined_in}: source {source.name!r}: name: already used by a {source.modality} source "
                f"in {seen[key]}"
            )
        seen[key] = source.defined_in
