from fractions import Fraction
from pathlib import Path

import pytest

from omni_ray.catalog import Source, licensed, load_catalog, template_names
from omni_ray.errors import CatalogError

GOOD = """
[category.text.general]
weight = 2.0

[[source]]
name = "gsm8k"
modality = "text"
category = "scientific"
url = ["gsm8k/*.parquet"]
reader = "table"
license = "MIT"
homepage = "https://example.org"
weight = 1.5
[source.fields]
text = "Question: {question} Answer: {answer}"
[source.rules]
min_chars = 4

[[source]]
name = "plays"
modality = "text"
category = "general"
url = "plays.txt"
reader = "lines"
license = "CC-BY-4.0"
"""


def catalog_file(folder: Path, text: str, name: str = "a.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_catalog_as_the_contract_writes_it(tmp_path: Path) -> None:
    catalog = load_catalog(catalog_file(tmp_path, GOOD))
    gsm8k, plays = catalog.of("text")
    assert gsm8k.url == ("gsm8k/*.parquet",)
    assert gsm8k.resolved_rules() == {"min_chars": 4, "max_line_chars": 4000, "max_symbol_ratio": 0.5}
    assert gsm8k.needed_columns() == {"question", "answer"}
    assert plays.url == ("plays.txt",)
    assert plays.base == tmp_path
    assert catalog.category_weight("text", "general") == 2
    assert catalog.category_weight("text", "tools") == Fraction(1)


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    second = GOOD.replace("gsm8k", "zebra").replace("plays", "aardvark")
    catalog_file(tmp_path, second, "b.toml")
    catalog_file(tmp_path, GOOD, "a.toml")
    assert [source.name for source in load_catalog(tmp_path).sources] == ["gsm8k", "plays", "zebra", "aardvark"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('homepage = "https://example.org"', 'homepag = "x"', r"a\.toml: source 'gsm8k': homepag: unknown key"),
        ('name = "plays"', 'name = "gsm8k"', r"source 'gsm8k': name: already used by a text source"),
        ('name = "plays"', 'name = "Plays!"', r"source 'Plays!': name: .*pattern"),
        ("min_chars = 4", 'min_chars = "4"', r"source 'gsm8k': rules\.min_chars"),
        ("min_chars = 4", "min_chars = 4.5", r"source 'gsm8k': rules\.min_chars: 4\.5 should be of type int"),
        ("min_chars = 4", "min_side = 4", r"rules\.min_side: unknown key; known are max_line_chars"),
        (
            "min_chars = 4",
            "max_line_chars = 0",
            r"source 'gsm8k': rules\.max_line_chars: 0 is not allowed; give a number from 1 to inf",
        ),
        ("min_chars = 4", "min_chars = -1", r"rules\.min_chars: -1 is not allowed; give a number from 0"),
        (
            "min_chars = 4",
            "max_symbol_ratio = 1.5",
            r"rules\.max_symbol_ratio: 1\.5 is not allowed; give a number from 0 to 1",
        ),
        ("min_chars = 4", "max_symbol_ratio = nan", r"rules\.max_symbol_ratio: nan is not allowed"),
        ("min_chars = 4", "max_symbol_ratio = inf", r"rules\.max_symbol_ratio: inf is not allowed"),
        ("min_chars = 4", "min_chars = inf", r"rules\.min_chars: inf should be of type int"),
        ('name = "plays"', 'name = "production_corpus"', r"name: 'production_corpus' is the name of a production file"),
        ('category = "general"', 'category = "art"', r"source 'plays': category: 'art' is none of general"),
        ('reader = "lines"', 'reader = "words"', r"source 'plays': reader: .*'words'"),
        ('reader = "lines"', 'reader = "table"', r"source 'plays': fields\.text: a table source says"),
        ('license = "MIT"\n', "", r"source 'gsm8k': license: this key must be given"),
        ("{question}", "{question!r}", r"source 'gsm8k': fields\.text: .*write \{column\}"),
        ("{question}", "{question", r"source 'gsm8k': fields\.text"),
        ("text = ", "txt = ", r"source 'gsm8k': fields\.txt: unknown key; known are text"),
        ("weight = 1.5", "weight = 0", r"source 'gsm8k': weight: .*greater than 0, got 0"),
        ("weight = 2.0", "wieght = 2.0", r"a\.toml: category\.text\.general\.w"),
        ("[category.text.general]", "[category.text.art]", r"\[category\.text\.art\]: the categories are general"),
        ("[category.text.general]", "[sauce]\nx = 1\n[category.text.general]", r"a\.toml: sauce: unknown key"),
        ('url = "plays.txt"', "url = []", r"source 'plays': url: "),
        ('url = "plays.txt"', 'url = "plays.txt"\nencoding = "utf-99"', r"encoding: 'utf-99' is no text encoding"),
        ('url = "plays.txt"', 'url = "plays.txt"\nencoding = "utf-16"', r"encoding: 'utf-16': encodings of more than"),
        ('url = "plays.txt"', 'url = "plays.txt"\nbase = "/"', r"source 'plays': base: unknown key"),
        ("[source.rules]", "[source.rules", r"a\.toml: not valid TOML"),
    ],
)
def test_errors_name_file_source_and_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    path = catalog_file(tmp_path, GOOD.replace(old, new))
    with pytest.raises(CatalogError, match=message) as caught:
        load_catalog(path)
    assert caught.value.exit_code == 2


def test_missing_catalogs_are_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no such catalog"):
        load_catalog(tmp_path / "none.toml")
    with pytest.raises(CatalogError, match=r"holds no \*\.toml"):
        load_catalog(tmp_path)


def test_names_may_repeat_over_modalities(tmp_path: Path) -> None:
    audio = '[[source]]\nname = "plays"\nmodality = "audio"\ncategory = "general"\nurl = "x"\nreader = "ljspeech"\n'
    catalog = load_catalog(catalog_file(tmp_path, GOOD + audio + 'license = "MIT"\n'))
    assert [source.name for source in catalog.of("audio")] == ["plays"]


@pytest.mark.parametrize(
    ("modality", "category", "name"),
    [
        ("text", "general", "production_corpus"),
        ("audio", "general", "production"),
        ("audio", "general", "production_asr"),
        ("audio", "general", "production_tts"),
        ("image", "art", "production"),
        ("image", "art", "production_annotations"),
    ],
)
def test_no_dataset_may_have_a_production_files_name(tmp_path: Path, modality: str, category: str, name: str) -> None:
    entry = f'[[source]]\nname = "{name}"\nmodality = "{modality}"\ncategory = "{category}"\nurl = "x"\n'
    with pytest.raises(CatalogError, match=f"name: '{name}' is the name of a production file"):
        load_catalog(catalog_file(tmp_path, entry + 'reader = "lines"\nlicense = "MIT"\n'))


@pytest.mark.parametrize(
    ("modality", "category", "rule", "fits"),
    [
        ("audio", "general", "min_peak_dbfs = 1.0", False),
        ("audio", "general", "min_peak_dbfs = -90.0", True),
        ("audio", "general", "max_clipped = 1.01", False),
        ("audio", "general", "min_seconds = -0.1", False),
        ("audio", "general", "require_text = false", True),
        ("image", "art", "max_aspect = 0.5", False),
        ("image", "art", "min_side = 0", False),
        ("image", "art", "min_std = 0.0", True),
        ("text", "general", "max_line_chars = 1", True),
        ("text", "general", "min_chars = 0", True),
    ],
)
def test_rules_have_ranges(tmp_path: Path, modality: str, category: str, rule: str, fits: bool) -> None:
    entry = f'[[source]]\nname = "s"\nmodality = "{modality}"\ncategory = "{category}"\nurl = "x"\n'
    reader = {"text": "lines", "audio": "librispeech", "image": "imagefolder"}[modality]
    path = catalog_file(tmp_path, entry + f'reader = "{reader}"\nlicense = "MIT"\n[source.rules]\n{rule}\n')
    if fits:
        load_catalog(path)
        return
    with pytest.raises(CatalogError, match=f"rules.{rule.split()[0]}: .* is not allowed; give"):
        load_catalog(path)


def test_licences_by_glob(tmp_path: Path) -> None:
    sources = load_catalog(catalog_file(tmp_path, GOOD)).sources
    assert [source.name for source in licensed(sources, "mit")] == ["gsm8k"]
    assert [source.name for source in licensed(sources, "Apache-*, CC-*")] == ["plays"]
    assert licensed(sources, "GPL-3.0") == []
    with pytest.raises(CatalogError, match="--license"):
        licensed(sources, " , ")


def test_settings_hold_what_changes_bytes_and_nothing_else(tmp_path: Path) -> None:
    source = load_catalog(catalog_file(tmp_path, GOOD)).sources[0]

    def changed(**values: object) -> Source:
        return source.model_copy(update=values)

    for same in (
        changed(weight=9.0), changed(license="X"), changed(homepage="y"), changed(category="general"),
        changed(url=("other",)), changed(base=Path("/elsewhere")), changed(name="other"),
    ):  # fmt: skip
        assert same.settings() == source.settings()
    for other in (
        changed(rules={"min_chars": 5}), changed(encoding="latin-1"), changed(fields={"text": "{a}"}),
        changed(block_bytes=1 << 20), changed(members="*.x"), changed(reader="lines"),
    ):  # fmt: skip
        assert other.settings() != source.settings()
    assert changed(rules={"min_chars": 4, "max_symbol_ratio": 0.5}).settings() == source.settings()


def test_template_names() -> None:
    assert template_names("Q: {question} {a.b} {{literal}}") == ["question", "a.b"]
