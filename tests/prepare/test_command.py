"""`prepare` as a whole, with tasks run in this process: sources that come and go, budgets, what is left behind."""

from pathlib import Path

import pytest

from omni_ray.errors import StorageError
from omni_ray.prepare import pipeline, work
from omni_ray.prepare.reset import is_ours
from omni_ray.prepare.store import SourceFolder
from omni_ray.storage import LocalStorage, Writer
from tests.e2e.harness import assert_still_prefix, products, receipts
from tests.prepare import inprocess

pytestmark = pytest.mark.usefixtures("no_ray")


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    return inprocess.write(tmp_path / "in", "a", "b")


@pytest.fixture
def out(tmp_path: Path, catalog: Path) -> Path:
    """An output of everything."""
    assert inprocess.prepare(tmp_path / "out", catalog) == 0
    return tmp_path / "out"


def stored(out: Path) -> dict[str, list[str]]:
    """Names of what lies in the folders of blocks and indexes, by source."""
    return {
        folder.name: sorted(
            path.relative_to(folder).as_posix() for path in folder.rglob("*/*") if "ledger" not in str(path)
        )
        for folder in (out / ".omni_ray/text").iterdir()
        if folder.is_dir()
    }


def working(out: Path) -> dict[str, bytes]:
    """Everything but the lease."""
    return {str(p): p.read_bytes() for p in out.rglob("*") if p.is_file() and "lease" not in p.parts}


def test_a_wrong_field_is_told_before_a_reset_deletes_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.jsonl").write_text("".join(f'{{"words": "line {n} of a table"}}\n' for n in range(300)))
    catalog = tmp_path / "c.toml"
    entry = inprocess.entry("t", url='"t.jsonl"').replace('"lines"', '"table"') + '[source.fields]\ntext = "{words}"\n'
    catalog.write_text(entry)
    assert inprocess.prepare(tmp_path / "out", catalog) == 0
    before = working(tmp_path / "out")
    catalog.write_text(entry.replace("{words}", "{wordz}"))
    assert inprocess.prepare(tmp_path / "out", catalog, "--reset") == 2
    assert "fields.text: t.jsonl has no 'wordz'; it has words" in capsys.readouterr().err
    assert working(tmp_path / "out") == before


@pytest.mark.parametrize("option", ["--reset", "--update"])
def test_a_source_that_is_to_be_read_anew_and_cannot_be_loses_nothing(
    out: Path, catalog: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = products(out)
    moved = catalog.with_name("a.txt").rename(catalog.with_name("moved"))
    assert inprocess.prepare(out, catalog, option) == 4
    assert "a: " in capsys.readouterr().err
    assert inprocess.omni("verify", out) == 0
    assert products(out) == before
    moved.rename(catalog.with_name("a.txt"))
    assert inprocess.prepare(out, catalog) == 0
    assert products(out) == before


def test_a_source_whose_share_is_complete_may_go_away(
    out: Path, catalog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = products(out)
    catalog.with_name("a.txt").unlink()
    assert inprocess.prepare(out, catalog) == 0
    assert "a: its share is complete all the same" in capsys.readouterr().err
    assert inprocess.prepare(out, catalog, "--dry-run") == 0
    assert products(out) == before
    catalog.write_text(catalog.read_text() + "rules = { min_chars = 9 }\n".replace("rules", "\nrules"))
    assert inprocess.prepare(out, catalog) == 5, "which does not hide a change of settings"


def test_a_source_that_lacks_a_part_of_its_share_fails(tmp_path: Path, catalog: Path) -> None:
    out = tmp_path / "out"
    assert inprocess.prepare(out, catalog, "--max-gb", "0.00001") == 0
    moved = catalog.with_name("a.txt").rename(catalog.with_name("moved"))
    assert inprocess.prepare(out, catalog, "--max-gb", "0.00001") == 0
    assert inprocess.prepare(out, catalog) == 4
    assert inprocess.prepare(out, catalog, "--dry-run") == 4
    moved.rename(catalog.with_name("a.txt"))
    assert inprocess.prepare(out, catalog) == 0
    assert inprocess.prepare(tmp_path / "fresh", catalog) == 0
    assert products(out) == products(tmp_path / "fresh")


def test_a_source_that_was_never_reached_keeps_its_share(
    tmp_path: Path, catalog: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog.with_name("a.txt").rename(catalog.with_name("moved"))
    assert inprocess.prepare(tmp_path / "out", catalog, "--dry-run") == 4
    assert "a: " in capsys.readouterr().err
    half = ("--max-gb", "0.00003", "--allow-partial")
    assert inprocess.prepare(tmp_path / "out", catalog, *half) == 4
    assert len((tmp_path / "out/text/production_corpus.txt").read_bytes()) <= 15_000


@pytest.mark.parametrize(("arguments", "code", "warned"), [
    (("--max-gb", "0.00001"), 0, False),
    (("--max-gb", "0.00001", "--min-gb", "0.00001"), 0, False),
    (("--max-gb", "1"), 0, True),
    (("--max-gb", "1", "--min-gb", "0.001"), 3, False),
    (("--max-gb", "1", "--min-gb", "0.00001"), 0, False),
])  # fmt: skip
def test_a_minimum_is_missed_where_the_sources_hold_less(
    tmp_path: Path, catalog: Path, arguments: list[str], code: int, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inprocess.prepare(tmp_path / "out", catalog, *arguments) == code
    assert ("warning: " in capsys.readouterr().err) == warned


def test_a_budget_that_is_lowered_and_raised_again(tmp_path: Path, catalog: Path, out: Path) -> None:
    everything = products(out)
    assert inprocess.prepare(out, catalog, "--max-gb", "0.00001") == 0
    assert inprocess.prepare(tmp_path / "small", catalog, "--max-gb", "0.00001") == 0
    assert products(out) == products(tmp_path / "small") != everything
    assert inprocess.omni("verify", out) == 0
    assert inprocess.prepare(out, catalog) == 0
    assert products(out) == everything


def test_without_deduplication_everything_is_in(tmp_path: Path, catalog: Path) -> None:
    (catalog.with_name("b.txt")).write_text(catalog.with_name("a.txt").read_text())
    out = tmp_path / "out"
    assert inprocess.prepare(out, catalog, "--dedup", "none") == 0
    text = catalog.with_name("a.txt").read_bytes()
    assert (out / "text/production_corpus.txt").read_bytes() == text + text
    assert inprocess.omni("verify", out) == 0
    assert inprocess.prepare(out, catalog) == 0
    assert len((out / "text/production_corpus.txt").read_bytes().splitlines()) == len(set(text.splitlines()))


@pytest.mark.parametrize("change", ["changed", "removed", "reset", "killed"])
def test_nothing_is_left_that_no_receipt_names(tmp_path: Path, change: str) -> None:
    folder = tmp_path / "in"
    catalog = inprocess.write(folder, "a", "b")
    (folder / "more.txt").write_text(inprocess.lines("more"))
    catalog.write_text(inprocess.entry("a", url='["a.txt", "mor*.txt"]') + inprocess.entry("b"))
    out = tmp_path / "out"
    if change == "killed":
        inprocess.killed(out, "committing@4", "prepare", "text", "--catalog", str(catalog))
    else:
        assert inprocess.prepare(out, catalog) == 0
    theirs = out / ".omni_ray/text/a/blocks/notes.txt"
    theirs.write_text("the user's")
    if change == "removed":
        (folder / "more.txt").unlink()
        catalog.write_text(inprocess.entry("a") + inprocess.entry("b"))
    elif change == "changed":
        (folder / "a.txt").write_text(inprocess.lines("a", 300, "now in other words"))
    option = {"reset": ["--reset"], "killed": []}.get(change, ["--update"])
    assert inprocess.prepare(out, catalog, *option) == 0
    assert inprocess.omni("verify", out) == 0
    assert theirs.read_text() == "the user's"
    theirs.unlink()
    assert inprocess.prepare(tmp_path / "fresh", catalog) == 0
    assert products(out) == products(tmp_path / "fresh")
    assert stored(out) == stored(tmp_path / "fresh")


def test_every_file_of_a_source_is_known_as_ours(out: Path) -> None:
    for name in ("a", "b"):
        folder = SourceFolder("text", name)
        for path in (out / folder.root).rglob("*"):
            assert path.is_dir() or is_ours(folder, path.relative_to(out).as_posix()), path


@pytest.mark.parametrize("point", ["planning", "decoding@3", "committing@2", "ledger", "combining", "publishing"])
def test_an_update_that_was_killed_goes_on(tmp_path: Path, out: Path, catalog: Path, point: str) -> None:
    catalog.with_name("a.txt").write_text(inprocess.lines("a", 300, "now in other words"))
    update = ("prepare", "text", "--catalog", str(catalog), "--update")
    inprocess.killed(out, point, *update)
    assert inprocess.omni(update[0], out, *update[1:]) == 0
    assert inprocess.omni("verify", out) == 0
    assert inprocess.prepare(tmp_path / "fresh", catalog) == 0
    assert products(out) == products(tmp_path / "fresh")
    assert stored(out) == stored(tmp_path / "fresh")


@pytest.mark.parametrize("point", ["forgetting", "forgetting@2", "planning", "decoding@3", "ledger", "combining"])
def test_a_reset_that_was_killed_goes_on(tmp_path: Path, out: Path, catalog: Path, point: str) -> None:
    catalog.write_text(catalog.read_text().replace("block_bytes = 2048", "block_bytes = 1024"))
    again = ("prepare", "text", "--catalog", str(catalog), "--reset")
    inprocess.killed(out, point, *again)
    assert inprocess.omni(again[0], out, *again[1:]) == 0
    assert inprocess.omni("verify", out) == 0
    assert inprocess.prepare(tmp_path / "fresh", catalog) == 0
    assert products(out) == products(tmp_path / "fresh")
    assert stored(out) == stored(tmp_path / "fresh")


def test_an_output_that_takes_nothing_any_more_ends_the_run_and_loses_nothing(
    tmp_path: Path, catalog: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full = tmp_path / "full"
    staged = LocalStorage.staged
    asked: list[str] = []

    def takes_five(storage: LocalStorage, key: str, data: bytes) -> Writer:
        asked.append(key)
        if len(asked) > 5:
            raise StorageError(f"{key}: No space left on device")
        return staged(storage, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "staged", takes_five)
        patch.setattr(work.time, "sleep", lambda seconds: None)
        assert inprocess.prepare(full, catalog) == 1
    told = capsys.readouterr().err
    assert "No space left on device" in told
    assert "4 blocks in a row could not be written" in told
    assert len(asked) - 5 == pipeline.UNWRITTEN_IN_A_ROW * work.ATTEMPTS
    held = receipts(full)
    assert sum(map(len, held.values())) == 2  # of a text and a table each
    assert inprocess.prepare(full, catalog) == 0
    assert_still_prefix(held, receipts(full))
    assert products(full) == products(out)
