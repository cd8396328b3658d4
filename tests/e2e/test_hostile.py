"""Every hostile sound and picture in one run of the real command: each has its outcome, and no worker grows large."""

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from omni_ray.catalog import Modality
from omni_ray.prepare import status
from omni_ray.storage import LocalStorage
from tests.e2e import harness
from tests.prepare.hostile import clips, image_files
from tests.prepare.hostile.image_files import KEPT
from tests.prepare.media import world

pytestmark = [pytest.mark.slow, pytest.mark.ray]
MEMORY_BYTES = 10**9  # of a worker, all of it counted
GOOD = 12
RULES = {"min_seconds", "max_seconds", "min_peak_dbfs", "max_clipped", "min_side", "max_aspect", "min_std"}


class Prepared(NamedTuple):
    out: Path
    expected: dict[str, dict[str, str]]  # file -> KEPT, rule or reason, by modality
    peaks: dict[int, tuple[str, int]]  # of every process of the run: its name, and the most bytes that it ever held


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("hostile")
    sounds = {name: make() for name, make in clips.hostile()}
    pictures = image_files.hostile()
    contents: dict[str, Mapping[str, bytes]] = {
        "audio": {name: one.data for name, one in sounds.items()}
        | {f"good-{n}.wav": world.clip(n) for n in range(GOOD)},
        "image": {name: one.data for name, one in pictures.items()}
        | {f"good-{n}.png": world.photo(n) for n in range(GOOD)},
    }
    expected = {
        "audio": {name: one.dropped or one.quarantined or KEPT for name, one in sounds.items()},
        "image": {name: one.outcome for name, one in pictures.items()},
    }
    for modality, files in contents.items():
        expected[modality] = dict.fromkeys(files, KEPT) | expected[modality]
        world.files(folder / modality, files)
    every = 'members = "*"\n'  # also those whose names say that they are something else
    catalog = world.catalog(
        folder,
        world.entry(
            "sounds", "audio", "audio/", "files", every + "pattern = '(?P<who>.+)'\n[source.fields]\ntext = \"{who}\"",
            block_bytes=1 << 20,
        ),
        world.entry(
            "pictures", "image", "image/", "imagefolder", every + '[source.fields]\ncaption = "{name}"',
            block_bytes=1 << 18,
        ),
    )  # fmt: skip
    out = folder / "out"
    argv = harness.command("omni_ray.prepare", "all", "--out", str(out), "--catalog", str(catalog), "--dedup", "none")
    peaks: dict[int, tuple[str, int]] = {}
    with harness.started([*argv, "--address", "local", "--workers", "2"]) as process:
        assert not harness.wait_until(process, lambda: harness.note_peaks(process.pid, peaks))
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    return Prepared(out, expected, peaks)


@pytest.mark.parametrize(("modality", "name"), [("audio", "asr"), ("image", "annotations")])
def test_every_file_has_its_outcome(prepared: Prepared, modality: Modality, name: str) -> None:
    expected = prepared.expected[modality]
    assert len(expected) >= 100 and len(set(expected.values())) >= 8
    kept = {str(row["key"]).partition("#")[2].removesuffix("@0") for row in world.index(prepared.out, name)}
    assert kept == {file for file, outcome in expected.items() if outcome == KEPT}
    storage = LocalStorage(prepared.out)
    asked = status.asked_of(status.load_request(storage, modality), storage)
    (state,) = status.load_states(storage, modality, asked).values()
    dropped: Counter[str] = Counter()
    quarantined: Counter[str] = Counter()
    for receipt in state.prefix():
        assert receipt.rows_in == receipt.kept + sum(receipt.dropped.values()) + sum(receipt.quarantined.values())
        dropped.update(receipt.dropped)
        quarantined.update(receipt.quarantined)
    assert dropped == Counter(outcome for outcome in expected.values() if outcome in RULES)
    wrong = {file: outcome for file, outcome in expected.items() if outcome != KEPT and outcome not in RULES}
    assert quarantined == Counter(wrong.values())
    tables = [one for one in world.quarantine(prepared.out) if one[0] in expected]
    assert {file: reason for file, _, reason in tables if wrong.get(file) == reason} == wrong
    assert sum(receipt.rows_in for receipt in state.prefix()) == len(expected)


def test_everything_adds_up(prepared: Prepared) -> None:
    done = harness.run(harness.command("omni_ray.cli", "verify", "--out", str(prepared.out)))
    assert done.code == 0, done.stdout
    assert done.stdout.count("verified: ") == 2


def test_no_bomb_fills_a_worker(prepared: Prepared) -> None:
    workers = {pid: peak for pid, (name, peak) in prepared.peaks.items() if name.startswith("ray::")}
    print(f"peaks of {len(workers)} workers: {sorted(peak // 10**6 for peak in workers.values())} MB", file=sys.stderr)
    assert len(workers) >= 2
    assert max(workers.values()) < MEMORY_BYTES
    assert max(peak for _, peak in prepared.peaks.values()) < 1.5 * MEMORY_BYTES
