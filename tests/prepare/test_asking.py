"""What a run is about: order, weights, licences, and the sources that are built in."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_ray.catalog import Source
from omni_ray.lease import Lease
from omni_ray.prepare import store
from omni_ray.prepare.asking import merge
from omni_ray.storage import LocalStorage
from tests.e2e.harness import products
from tests.prepare import inprocess

pytestmark = pytest.mark.usefixtures("no_ray")
BUDGET = ("--max-gb", "0.00002")


def source(name: str) -> Source:
    entry = {"name": name, "modality": "text", "category": "general", "url": "x", "reader": "lines", "license": "MIT"}
    return Source.model_validate(entry)


def names(sources: list[Source]) -> str:
    return "".join(source.name for source in sources)


@pytest.mark.parametrize(
    ("current", "earlier", "merged"),
    [
        ("ab", "", "ab"),
        ("ab", "b", "ab"),
        ("abc", "ac", "abc"),
        ("abc", "b", "abc"),
        ("xy", "ab", "abxy"),
        ("ab", "abxy", "abxy"),
        ("xy", "abxy", "abxy"),
        ("ab", "bxy", "abxy"),
        ("abc", "axy", "abcxy"),
        ("ba", "axby", "bxay"),
        ("ac", "abc", "abc"),
        ("", "ab", "ab"),
    ],
)
def test_order_is_the_catalogs_and_that_of_other_catalogs_stays(current: str, earlier: str, merged: str) -> None:
    assert names(merge([source(name) for name in current], [source(name) for name in earlier])) == merged


@given(st.lists(st.sets(st.sampled_from("abcdef")), max_size=6))
def test_with_one_catalog_the_order_is_the_catalogs_whatever_was_asked_for_first(asked: list[set[str]]) -> None:
    order: list[Source] = []
    for wanted in asked:
        wanted |= {one.name for one in order}
        order = merge([source(name) for name in "abcdef" if name in wanted], order)
    assert names(order) == "".join(sorted(set().union(*asked)))


def test_the_corpus_does_not_depend_on_which_catalog_came_last(tmp_path: Path) -> None:
    shared = inprocess.lines("shared")
    first = inprocess.write(tmp_path / "in", "a1", "a2", file="a.toml")
    second = inprocess.write(tmp_path / "in", "b1", "b2", file="b.toml")
    for name in ("a1", "a2", "b1", "b2"):
        (tmp_path / f"in/{name}.txt").write_text(inprocess.lines(name, 50) + shared)
    out = tmp_path / "out"
    made = []
    for catalog in (first, second, first, second):
        assert inprocess.prepare(out, catalog) == 0
        made.append(products(out))
    assert made[1] == made[2] == made[3]

    fresh = tmp_path / "fresh"
    assert inprocess.prepare(fresh, first, "--dataset", "a2") == 0
    assert inprocess.prepare(fresh, second, "--dataset", "b2") == 0
    assert inprocess.prepare(fresh, second) == 0
    assert inprocess.prepare(fresh, first) == 0
    assert products(fresh) == made[1]


def test_a_reordered_catalog_makes_what_it_would_make_alone(tmp_path: Path) -> None:
    catalog = inprocess.write(tmp_path / "in", "a", "b")
    (tmp_path / "in/b.txt").write_text((tmp_path / "in/a.txt").read_text() + inprocess.lines("b"))
    out = tmp_path / "out"
    assert inprocess.prepare(out, catalog) == 0
    before = products(out)
    inprocess.write(tmp_path / "in", "b", "a")
    assert inprocess.prepare(out, catalog) == 0
    assert inprocess.prepare(tmp_path / "fresh", catalog) == 0
    assert products(out) == products(tmp_path / "fresh") != before


def test_a_weight_that_is_taken_out_of_the_catalog_counts_no_more(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    catalog = inprocess.write(folder, "a", "b")
    plain = inprocess.entry("a") + inprocess.entry("b", "scientific")
    catalog.write_text(plain)
    expected = tmp_path / "expected"
    assert inprocess.prepare(expected, catalog, *BUDGET) == 0
    out = tmp_path / "out"
    catalog.write_text("[category.text.scientific]\nweight = 3.0\n" + plain)
    assert inprocess.prepare(out, catalog, *BUDGET) == 0
    assert products(out) != products(expected)
    other = inprocess.write(tmp_path / "other", "c", file="other.toml")
    assert inprocess.prepare(out, other, *BUDGET) == 0, "a catalog without scientific sources decides nothing there"
    request = msgspec.json.decode((out / ".omni_ray/text/request.json").read_bytes(), type=store.Request)
    assert request.category_weights == {"scientific": 3.0}
    out = tmp_path / "again"
    assert inprocess.prepare(out, catalog, *BUDGET) == 0
    catalog.write_text(plain)
    assert inprocess.prepare(out, catalog, *BUDGET) == 0
    assert products(out) == products(expected)


def test_a_licence_filter_that_is_given_once_and_then_not(tmp_path: Path) -> None:
    catalog = inprocess.write(tmp_path / "in", "a", "b", "c")
    catalog.write_text(
        "".join(inprocess.entry(n, license=f) for n, f in (("a", "GPL-3.0"), ("b", "MIT"), ("c", "MIT")))
    )
    whole, filtered = tmp_path / "whole", tmp_path / "filtered"
    assert inprocess.prepare(whole, catalog) == 0
    expected = products(whole)
    assert inprocess.prepare(filtered, catalog, "--license", "MIT") == 0
    assert b"a line" not in (filtered / "text/production_corpus.txt").read_bytes()
    assert inprocess.prepare(whole, catalog, "--license", "MIT") == 0
    assert products(whole) == products(filtered)
    assert inprocess.omni("verify", whole) == 0
    assert inprocess.prepare(whole, catalog, "--dataset", "b") == 0, (
        "which asks for a again, as it was asked for before"
    )
    assert inprocess.prepare(filtered, catalog) == 0
    assert products(whole) == products(filtered) == expected


def test_a_source_that_only_the_licence_left_out_was_never_asked_for(tmp_path: Path) -> None:
    catalog = inprocess.write(tmp_path / "in", "a", "b")
    catalog.write_text(inprocess.entry("a", license="GPL-3.0") + inprocess.entry("b"))
    out = tmp_path / "out"
    assert inprocess.prepare(out, catalog, "--license", "MIT") == 0
    assert inprocess.prepare(out, catalog, "--dataset", "b") == 0
    assert b"a line" not in (out / "text/production_corpus.txt").read_bytes()


def synthetic(out: Path, *arguments: str) -> int:
    return inprocess.omni("prepare", out, "text", "--dataset", "synthetic", *arguments)


def test_refusals_of_synthetic_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert synthetic(out, "--license", "GPL-3.0") == 2
    assert not out.exists()
    held = Lease.acquire(LocalStorage(out), "prepare text")
    assert synthetic(out) == 5
    assert "held by `prepare text`" in capsys.readouterr().err
    assert [path.name for path in (out / ".omni_ray").iterdir()] == ["lease"]
    held.release()


def test_an_output_with_synthetic_data_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert synthetic(Path("out")) == 0
    expected = products(Path("out"))
    Path("out").rename("moved")
    assert inprocess.omni("retry", Path("moved"), "--reason", "undecodable") == 0
    assert inprocess.omni("verify", Path("moved")) == 0
    assert synthetic(Path("moved")) == 0
    assert synthetic(Path("moved"), "--dry-run") == 0
    assert products(Path("moved")) == expected
