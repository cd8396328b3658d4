"""`omni-ray report` on whole outputs: its figures are those of other programs, and nothing in a page can run."""

import base64
import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from omni_ray import cli
from omni_ray.catalog import MODALITIES, Modality
from omni_ray.errors import NotStored
from omni_ray.lease import Lease
from omni_ray.prepare.report import command, samples
from omni_ray.prepare.report.survey import survey
from omni_ray.storage import LocalStorage
from tests.prepare import inprocess
from tests.prepare.media import world
from tests.prepare.report import outputs
from tests.prepare.report.outputs import HOSTILE, Page

pytestmark = pytest.mark.usefixtures("no_ray")
SAFE = re.compile(r"$|data:(image/jpeg|audio/mpeg);base64,|data:,$|#[a-z-]|https?://")
STEM = {"audio": "asr", "image": "annotations"}


def report(out: Path, *arguments: str) -> Page:
    assert inprocess.omni("report", out, *arguments) == 0
    return Page(Path(arguments[1]) if arguments else out / "report.html")


def number(text: str) -> int:
    return int(text.replace(",", ""))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All modalities, with duplicates, drops and quarantined records, and a budget that cuts the sources of text."""
    folder = tmp_path_factory.mktemp("everything")
    out = folder / "out"
    with pytest.MonkeyPatch.context() as patch:
        inprocess.without_ray(patch)
        assert inprocess.prepare(out, inprocess.write(folder / "in", "one", "two"), "--max-gb", "0.000025") == 0
        assert world.prepare("audio", out, world.small(folder / "audio", "audio")) == 0
        assert world.prepare("image", out, world.small(folder / "image", "image"), "--layout", "tar") == 0
    return out


def test_the_figures_are_those_of_index_and_status(everything: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = report(everything)
    capsys.readouterr()
    assert inprocess.omni("status", everything) == 0
    status = capsys.readouterr().out
    for modality, stem in {"text": "corpus", **STEM}.items():
        rows = world.index(everything, stem)
        for name in {row["source"] for row in rows}:
            mine = [row for row in rows if row["source"] == name]
            # several modalities have sources of one name: the tables of this one come first that know as many samples
            table = next(t for t in page.tables if number(t.get(name, {}).get("Records in", "0")) and matches(t, rows))
            assert number(table[name]["In the output"]) == len(mine)
            figures = next(s for s in survey(LocalStorage(everything), modality).sources if s.name == name)
            assert figures.size == sum(row["bytes"] for row in mine)
            line = next(line for line in status.partition(f"{modality}:\n")[2].splitlines() if line.startswith(name))
            cells = re.split(r"\s{2,}", line)
            assert [cells[2], cells[3], cells[4], cells[5]] == [
                table[name][label] for label in ("Records in", "Kept", "Dropped", "Quarantined")
            ]
            records = [number(table[name][label]) for label in ("Records in", "Kept", "Dropped", "Quarantined")]
            assert records[0] == sum(records[1:])
            kept = [
                number(table[name][label]) for label in ("Samples", "In the output", "Duplicates", "Beyond the cut")
            ]
            assert kept[0] == sum(kept[1:])
            for reason, count in {**figures.dropped, **figures.quarantined}.items():
                assert f"{name} {count:,}" in page.row(reason, "Where")["Where"]
                assert f"{count:,} " in status
                assert reason in status


def matches(table: dict[str, dict[str, str]], rows: list[dict[str, object]]) -> bool:
    counts = {name: number(row["In the output"]) for name, row in table.items() if "In the output" in row}
    return counts == {name: sum(row["source"] == name for row in rows) for name in counts}


@pytest.mark.parametrize("modality", MODALITIES)
def test_distributions_are_those_of_the_index(everything: Path, modality: Modality) -> None:
    stem = {"text": "corpus", **STEM}[modality]
    rows = world.index(everything, stem)
    for source in survey(LocalStorage(everything), modality).sources:
        mine = [row for row in rows if row["source"] == source.name]
        given = {
            "line_bytes": [int(str(row["bytes"])) - 1 for row in mine],
            "file_bytes": [row["bytes"] for row in mine],
            "text_chars": [len(str(row["text"])) for row in mine],
            "seconds": [round(float(str(row.get("seconds", 0))) * 16_000) for row in mine],
            "width": [row.get("width") for row in mine],
            "height": [row.get("height") for row in mine],
        }
        for name, distribution in source.measured.items():
            expected, _ = np.histogram(np.array(given[name], np.int64), distribution.scale.edges)
            assert (distribution.counts == expected).all(), (source.name, name)
            assert distribution.total == sum(given[name])


def test_clips_outside_the_recommended_seconds(tmp_path: Path) -> None:
    lengths = [0.5, 0.99, 1.0, 1.01, 5, 9.99, 10.0, 10.01, 20]
    files = {f"{n}_{round(100 * s)}.wav": outputs.tone(s) for n, s in enumerate(lengths)}
    world.pack(tmp_path / "clips.zip", files)
    more = "pattern = '(?P<n>\\d+)_(?P<long>\\d+)\\.wav'\n[source.fields]\ntext = \"{long}\""
    catalog = world.catalog(tmp_path, world.entry("clips", "audio", "clips.zip", "files", more))
    assert world.prepare("audio", tmp_path / "out", catalog) == 0
    page = report(tmp_path / "out")
    assert page.tiles["outside the recommended 1–10 s"] == ["4", "2 shorter, 2 longer; 44% of all"]
    assert page.tiles["of sound"] == ["58.5 s"]


def test_a_budget_that_is_full_and_sources_that_ran_dry(everything: Path) -> None:
    page = report(everything)
    one = page.row("one", "Share of the budget")
    assert one["Share of the budget"] == "12.50 kB"
    assert one["State"].startswith("share filled")
    assert any("Below the minimum of 25 GB" in note for note in page.notes)
    assert not any("Nothing is combined" in note for note in page.notes)


def test_the_same_output_gives_the_same_bytes(
    everything: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(everything)
    first = (everything / "report.html").read_bytes()
    report(everything, "--to", str(tmp_path / "pages/again.html"))
    assert (tmp_path / "pages/again.html").read_bytes() == first
    shutil.copytree(everything, tmp_path / "copy/out")
    monkeypatch.chdir(tmp_path / "copy")
    assert cli.main(["report", "--out", "out", "--to", "here.html"]) == 0
    assert Path("here.html").read_bytes() == first


def test_nothing_but_the_page_is_written(everything: Path) -> None:
    (everything / "report.html").unlink(missing_ok=True)
    before = {path: path.stat().st_mtime_ns for path in everything.rglob("*") if path.is_file()}
    report(everything)
    after = {path: path.stat().st_mtime_ns for path in everything.rglob("*") if path.is_file()}
    page = everything / "report.html"
    assert after.keys() - before.keys() == {page}
    assert {path: time for path, time in after.items() if path != page} == before
    assert inprocess.omni("verify", everything) == 0


def test_what_a_killed_run_left_is_reported_as_unfinished(tmp_path: Path) -> None:
    out, catalog = tmp_path / "out", inprocess.write(tmp_path / "in", "one", "two")
    inprocess.killed(out, "committing@2", "prepare", "text", "--catalog", str(catalog))
    page = report(out)
    assert any("Nothing is combined yet" in note for note in page.notes)
    assert any("Not finished: one" in note for note in page.notes)
    assert page.row("one", "State")["State"].startswith("unfinished")


def test_a_run_that_holds_the_output_is_not_disturbed(everything: Path, tmp_path: Path) -> None:
    lease = Lease.acquire(LocalStorage(everything), "prepare text")
    try:
        report(everything, "--to", str(tmp_path / "page.html"))
        lease.check()
    finally:
        lease.release()


def test_a_run_that_was_killed_before_its_first_block(tmp_path: Path) -> None:
    out, catalog = tmp_path / "out", inprocess.write(tmp_path / "in", "one")
    inprocess.killed(out, "planning", "prepare", "text", "--catalog", str(catalog))
    page = report(out)
    assert page.tiles["lines"] == ["0", "from 1 source"]
    assert any("one (never reached)" in note for note in page.notes)


def test_files_of_single_datasets_and_files_that_are_old(tmp_path: Path) -> None:
    out, catalog = tmp_path / "out", inprocess.write(tmp_path / "in", "one", "two")
    assert inprocess.prepare(out, catalog, "--no-combine") == 0
    page = report(out)
    assert "text/one.txt" in (out / "report.html").read_text()
    assert not any("Nothing is combined" in note or "Not made of" in note for note in page.notes)
    combined = out / ".omni_ray/text/combined.json"
    combined.write_text(re.sub('"selection": "..', '"selection": "xx', combined.read_text()))
    assert any("text/one.txt, text/two.txt. Run prepare again" in note for note in report(out).notes)


def test_sources_left_out_by_their_licence(tmp_path: Path) -> None:
    out, catalog = tmp_path / "out", inprocess.write(tmp_path / "in", "one", "two")
    catalog.write_text(inprocess.entry("one") + inprocess.entry("two", license="GPL-3.0"))
    assert inprocess.prepare(out, catalog) == 0
    assert inprocess.prepare(out, catalog, "--license", "MIT") == 0
    assert any("Left out by --license MIT: two" in note for note in report(out).notes)


@pytest.mark.parametrize(
    "arguments",
    [("audio", "--layout", "tar"), ("audio", "--audio-format", "wav"), ("image", "--keep-original"), ("image",)],
    ids="-".join,
)
def test_layouts_and_formats(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    out = tmp_path / "out"
    assert world.prepare(arguments[0], out, world.small(tmp_path / "in", arguments[0]), *arguments[1:]) == 0
    page = report(out)
    media = [given["src"] for tag, given in page.elements if tag in ("audio", "img")]
    assert len(media) == 2 * samples.SAMPLES
    assert len(set(media)) == len(media)
    assert not any("cannot" in note or "missing" in note for note in page.notes)


def test_samples_are_what_the_index_says(everything: Path) -> None:
    for modality, stem in {"text": "corpus", **STEM}.items():
        rows = {row["key"]: row for row in world.index(everything, stem)}
        corpus = (everything / "text/production_corpus.txt").read_bytes()
        for source in survey(LocalStorage(everything), modality).sources:
            assert len(source.samples) == samples.SAMPLES
            for shown in source.samples:
                row = rows[shown.key]
                assert row["source"] == source.name
                if modality == "text":
                    start, size = int(str(row["offset"])), int(str(row["bytes"]))
                    assert shown.text == corpus[start : start + size - 1].decode()
                else:
                    assert (shown.text, shown.size) == (row["text"], row["bytes"])


def test_media_that_are_gone_or_damaged_are_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert world.prepare("audio", out, world.small(tmp_path / "in", "audio", 12)) == 0
    assert world.prepare("image", out, world.small(tmp_path / "pics", "image", 12)) == 0
    gone, broken = sorted(out.glob("audio/two/*/*.flac"))[:2]
    gone.unlink()
    broken.write_bytes(b"no sound")
    picture = min(out.glob("images/two/*/*.jpg"))
    picture.write_bytes(b"no picture")
    notes = [note for note in report(out).notes if "verify" in note]
    assert len(notes) == 3
    assert any(str(gone.relative_to(out)) in note and "is missing" in note for note in notes)
    assert any(str(broken.relative_to(out)) in note and "cannot be opened" in note for note in notes)
    assert any(str(picture.relative_to(out)) in note for note in notes)


@pytest.mark.parametrize("to", ["page.txt", "folder/", "data"])
def test_a_page_has_the_name_of_a_page(everything: Path, to: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert inprocess.omni("report", everything, "--to", to) == 2
    assert "name the page to write" in capsys.readouterr().err


def test_an_output_in_which_nothing_was_prepared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inprocess.omni("report", tmp_path / "nowhere") == 2
    assert "nothing is prepared here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nothing_that_data_say_becomes_a_part_of_the_page(tmp_path: Path) -> None:
    catalog = outputs.hostile(tmp_path / "in")
    assert cli.main(["prepare", "all", "--out", str(tmp_path / "out"), "--catalog", str(catalog)]) == 0
    page = report(tmp_path / "out")
    found = {tag for tag, _ in page.elements}
    assert not found & {"script", "iframe", "object", "embed", "form", "base", "template"}
    assert [tag for tag, _ in page.elements].count("style") == 1
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href", "srcset", "data", "action"):
            assert SAFE.match(attributes.get(name, "")), tag
    for text in HOSTILE[:7]:
        assert page.quotes.count(text) == 3
    assert "\0" not in (tmp_path / "out/report.html").read_text()
    assert max(map(len, page.quotes)) < 400
    assert "<script>window.pwned" in page.row("words", "Licence")["Licence"]
    assert page.row("words", "Licence")["Homepage"] == "javascript:window.pwned='homepage'"


def test_the_policy_lets_in_the_style_and_data_alone(everything: Path) -> None:
    report(everything)
    text = (everything / "report.html").read_text()
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)"', text)
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def test_a_file_that_is_replaced_while_it_is_read(everything: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def flaky(storage: LocalStorage, modality: Modality) -> object:
        calls.append(modality)
        if len(calls) == 2:
            raise NotStored("samples/0-1.bin: replaced")
        return survey(storage, modality)

    monkeypatch.setattr(command, "survey", flaky)
    report(everything)
    assert calls == ["text", "audio", "text", "audio", "image"]


def test_the_index_has_what_is_shown_of_categories(tmp_path: Path) -> None:
    catalog = outputs.hostile(tmp_path / "in")
    assert world.prepare("image", tmp_path / "out", catalog) == 0
    shown = survey(LocalStorage(tmp_path / "out"), "image").sources[0].samples
    rows = pq.read_table(tmp_path / "out/images/production_annotations.index.parquet").to_pylist()
    assert [sample.category for sample in shown] == [row["category"] for row in rows]
    entries = json.loads((tmp_path / "out/images/production_annotations.json").read_bytes())
    assert [sample.text for sample in shown] == [entry["caption"] for entry in entries]
