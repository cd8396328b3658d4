"""The scripts that take the options of the single-machine original, as its users call them."""

import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e import harness
from tests.prepare import inprocess
from tests.prepare.media import world

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.ray]
APART = {  # what is written of one dataset where combining is not asked for
    "text": {"text/one.txt"},
    "audio": {"audio/one_asr.csv", "audio/one_tts.csv"},
    "image": {"images/one_annotations.json"},
}
INDEX = {"text": "production_corpus", "audio": "production_asr", "image": "production_annotations"}


def sources(folder: Path, modality: str) -> Path:
    """A catalog of the datasets `one` and `two`."""
    return inprocess.write(folder, "one", "two") if modality == "text" else world.small(folder, modality)


def change(catalog: Path, modality: str) -> None:
    """Give `two` other settings, under which it gives other samples."""
    entries = catalog.read_text()
    other = entries.replace("{words}", "it says {words}")
    catalog.write_text(other if modality != "text" else f"{entries}\n[source.rules]\nmin_chars = 50\n")


@pytest.mark.parametrize(
    "modality", ["text", *(pytest.param(one, marks=pytest.mark.long) for one in ("audio", "image"))]
)
def test_the_originals_options(tmp_path: Path, modality: str, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog, out = sources(tmp_path / "in", modality), tmp_path / "out"

    def script(*arguments: str) -> harness.Done:
        argv = [sys.executable, str(ROOT / f"scripts/download_production_{modality}.py"), *arguments]
        argv += ["--catalog", str(catalog), "--out", str(out), "--address", "local", "--workers", "2"]
        return harness.run(argv)

    def undisturbed(aside: str) -> dict[str, str]:
        """What `omni-ray prepare` makes under the same name, which lists begin with."""
        with monkeypatch.context() as patched:
            inprocess.without_ray(patched)
            assert world.prepare(modality, out, catalog) == 0
        found = harness.products(out)
        out.rename(tmp_path / aside)
        return found

    def size() -> int:
        (index,) = out.glob(f"*/{INDEX[modality]}.index.parquet")
        return sum(pq.read_table(index)["bytes"].to_pylist())

    expected = undisturbed("before")
    done = script("--dataset", "one", "--min-gb", "0")
    assert done.code == 0, done.stderr
    assert not harness.products(out).keys() & {key for key in expected if "/production_" in key}
    assert harness.products(out).keys() >= APART[modality]

    done = script("--dataset", "all", "--combine", "--min-gb", "0.000001", "--max-gb", "0.00002")
    assert done.code == 0, done.stderr
    assert 10_000 < size() <= 20_000

    done = script("--dataset", "all", "--combine", "--min-gb", "0.5", "--max-gb", "1")
    assert (done.code, "is below the minimum of 0.5 GB" in done.stderr) == (3, True), done.stderr
    assert {key: digest for key, digest in harness.products(out).items() if key not in APART[modality]} == expected

    change(catalog, modality)
    done = script("--dataset", "two", "--combine")
    assert (done.code, "--reset --dataset two" in done.stderr) == (5, True), done.stderr
    done = script("--dataset", "two", "--combine", "--reset")
    assert done.code == 0, done.stderr
    found = {key: digest for key, digest in harness.products(out).items() if key not in APART[modality]}
    out.rename(tmp_path / "reset")
    assert found == undisturbed("after") != expected
