"""What the disk does in the middle of a run: full, read-only, a source that changes or may not be read.

Nothing is lost, the message says what to do, and a later run ends as one that nobody disturbed.
"""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import disks
from tests.e2e import harness, sources
from tests.prepare import inprocess
from tests.prepare.media import world

pytestmark = [pytest.mark.slow, pytest.mark.ray]
SIZE = 400_000  # bytes of each source of text
SAMPLES, BLOCKS = 320, 16  # of each source of sounds or pictures: so many files of a block that they are put together
LISTS = {
    "text": "text/production_corpus.txt", "audio": "audio/production_asr.csv",
    "image": "images/production_annotations.json",
}  # fmt: skip
OUT = Path("out")  # relative, for lists of sounds name it


class World(NamedTuple):
    """What is prepared into `out` of whatever folder a run is started in."""

    modality: str
    options: tuple[str, ...]
    catalog: Path
    undisturbed: dict[str, str]

    @property
    def argv(self) -> list[str]:
        return harness.prepare(self.modality, OUT, self.catalog, *self.options)


@pytest.fixture(scope="module", params=["text", pytest.param("image files", marks=pytest.mark.long), "audio tar"])
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    modality, _, layout = request.param.partition(" ")
    options = ("--layout", layout) if layout else ()
    folder = tmp_path_factory.mktemp("sources")
    if modality == "text":
        catalog = sources.write_sources(folder, size=SIZE)
    else:
        catalog = world.small(folder, modality, SAMPLES, BLOCKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        inprocess.without_ray(patch)
        assert world.prepare(modality, OUT, catalog, *options) == 0
        return World(modality, options, catalog, harness.products(OUT))


def assert_finishes(disk: Path, prepared: World, held: dict[str, list[str]]) -> None:
    done = harness.run(prepared.argv, cwd=disk)
    assert done.code == 0, done.stderr
    assert harness.products(disk / OUT) == prepared.undisturbed
    harness.assert_still_prefix(held, harness.receipts(disk / OUT))
    verified = harness.run(harness.command("omni_ray.cli", "verify", "--out", str(OUT)), cwd=disk)
    assert verified.code == 0, verified.stdout
    assert not list(disk.rglob(".tmp-*"))


# of 32 blocks of sounds or pictures, and of 130 of text
@pytest.mark.parametrize("blocks", [pytest.param(1, marks=pytest.mark.long), 12])
def test_disk_full_in_the_middle_of_a_run(tmp_path: Path, prepared: World, blocks: int) -> None:
    with disks.small_disk(tmp_path / "disk", 64 << 20) as disk:
        with harness.started(prepared.argv, cwd=disk) as process:
            assert harness.wait_until(process, harness.Condition(disk / OUT, blocks))
            ballast = disks.fill(disk, 128 << 10)
            _, stderr = process.communicate(timeout=harness.PATIENCE)
        assert process.returncode in (1, 4), stderr
        assert "No space left on device" in stderr
        assert "run the same command again" in stderr or "the same command tries them again" in stderr
        assert "Traceback" not in stderr
        assert not (disk / OUT / LISTS[prepared.modality]).exists()
        held = harness.receipts(disk / OUT)
        again = harness.run(prepared.argv, cwd=disk)
        assert again.code == 1, again.stderr
        assert "are free; make room" in again.stderr or "No space left on device" in again.stderr
        ballast.unlink()
        assert_finishes(disk, prepared, held)


@pytest.mark.parametrize("prepared", ["text"], indirect=True)  # of sounds and pictures without Ray, file by file
def test_output_becomes_read_only_in_the_middle_of_a_run(tmp_path: Path, prepared: World) -> None:
    with disks.small_disk(tmp_path / "disk", 64 << 20) as disk:
        with harness.started(prepared.argv, cwd=disk) as process:
            assert harness.wait_until(process, harness.Condition(disk / OUT, 3))
            disks.make_read_only(disk, process.pid)
            _, stderr = process.communicate(timeout=harness.PATIENCE)
        assert process.returncode in (1, 4), stderr
        assert "Read-only file system" in stderr
        assert "Traceback" not in stderr
        held = harness.receipts(disk / OUT)
        refused = harness.run(prepared.argv, cwd=disk)
        assert refused.code == 1, refused.stderr
        assert "Read-only file system" in refused.stderr
        assert "Traceback" not in refused.stderr
        disks.remount(disk, "rw")
        assert_finishes(disk, prepared, held)


def locked_of(folder: Path, modality: str) -> tuple[Path, list[Path]]:
    """A catalog, and paths that are each needed by one of its sources, which nobody may read."""
    if modality == "text":
        catalog = sources.write_sources(folder, size=20_000)
        locked = [folder / "talk.jsonl", folder / "lines.txt"]  # one is looked into beforehand, one is not
    else:
        catalog, locked = sources.write_media(folder, modality)
    for path in locked:
        path.chmod(0)
    return catalog, locked


@pytest.mark.parametrize(
    "modality", ["text", *(pytest.param(one, marks=pytest.mark.long) for one in ("audio", "image"))]
)
def test_a_source_that_may_not_be_read(tmp_path: Path, modality: str) -> None:
    catalog, locked = locked_of(tmp_path / "in", modality)
    argv = harness.prepare(modality, OUT, catalog, "--dedup", "none")
    failed = harness.run([*bound_by_permissions(), *argv], cwd=tmp_path)
    assert failed.code == 4, failed.stderr
    for path in locked:
        assert f"{path.name}: Permission denied" in failed.stderr or f"'{path}'" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert harness.receipts(tmp_path / OUT)["speeches" if modality == "text" else "open"], "the others went on"
    assert not (tmp_path / OUT / LISTS[modality]).exists()
    for path in locked:
        path.chmod(0o755)
    done = harness.run(argv, cwd=tmp_path)
    assert done.code == 0, done.stderr
    found = harness.products(tmp_path / OUT)
    (tmp_path / OUT).rename(tmp_path / "mended")
    assert harness.run(argv, cwd=tmp_path).code == 0
    assert harness.products(tmp_path / OUT) == found


def bound_by_permissions() -> list[str]:
    """What goes before a command so that permissions hold for it: root is above them."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may read everything, and there is no setpriv to take that away")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.mark.parametrize(
    "change", ["replaced", *(pytest.param(one, marks=pytest.mark.long) for one in ("grown", "cut", "gone"))]
)
def test_a_source_that_changes_under_a_run(tmp_path: Path, change: str) -> None:
    catalog = sources.write_sources(tmp_path / "in", size=SIZE)
    path = tmp_path / "in/lines.txt"
    out = tmp_path / "out"
    with harness.started(harness.prepare_text(out, catalog, workers=1)) as process:
        assert harness.wait_until(process, harness.Condition(out, 2))
        data = path.read_bytes()
        if change == "grown":
            with path.open("ab") as stream:
                stream.write(b"one more line at the end of it\n")
        elif change == "cut":
            os.truncate(path, len(data) // 3)
        elif change == "gone":
            path.unlink()
        else:
            path.write_bytes(data[::-1])
        _, stderr = process.communicate(timeout=harness.PATIENCE)
    assert process.returncode == 4, stderr
    assert "Traceback" not in stderr
    assert not (out / "text/production_corpus.txt").exists()
    if change == "gone":
        assert "No such file or directory" in stderr
        path.write_bytes(data)
    else:
        assert "lines.txt: changed since this run planned with it" in stderr
    refused = harness.run(harness.prepare_text(out, catalog))
    assert refused.code == 5, refused.stderr
    assert "lines: file lines.txt: " in refused.stderr
    assert harness.run(harness.prepare_text(out, catalog, "--update", "--dataset", "lines")).code == 0
    assert harness.run(harness.prepare_text(out, catalog)).code == 0
    fresh = tmp_path / "fresh"
    assert harness.run(harness.prepare_text(fresh, catalog)).code == 0
    assert harness.products(out) == harness.products(fresh)
