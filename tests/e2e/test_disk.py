"""What the disk does in the middle of a run: full, read-only, a source that changes or may not be read.

Nothing is lost, the message says what to do, and a later run ends as one that nobody disturbed.
"""

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e import harness, sources

pytestmark = [pytest.mark.slow, pytest.mark.ray]
SIZE = 400_000  # bytes of each source


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sources.write_sources(tmp_path_factory.mktemp("sources"), size=SIZE)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, catalog: Path) -> dict[str, str]:
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    done = harness.run(harness.prepare_text(out, catalog))
    assert done.code == 0, done.stderr
    return harness.products(out)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """A file system of `size` bytes in memory."""
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(options, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def assert_finishes(out: Path, catalog: Path, undisturbed: dict[str, str], held: dict[str, list[str]]) -> None:
    done = harness.run(harness.prepare_text(out, catalog))
    assert done.code == 0, done.stderr
    assert harness.products(out) == undisturbed
    harness.assert_still_prefix(held, harness.receipts(out))
    verified = harness.run(harness.command("omni_ray.cli", "verify", "--out", str(out)))
    assert verified.code == 0, verified.stdout
    assert not list(out.rglob(".tmp-*"))


def fill(disk: Path, leave: int) -> Path:
    """Leave so many bytes of a disk free, or fewer, for others write to it meanwhile."""
    ballast = disk / "ballast"
    size = 0
    with ballast.open("wb") as stream:
        while (free := os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize) > leave:
            step = min(1 << 20, free - leave)
            try:
                os.posix_fallocate(stream.fileno(), size, step)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                break
            size += step
    return ballast


@pytest.mark.parametrize("blocks", [1, 30])
def test_disk_full_in_the_middle_of_a_run(
    tmp_path: Path, catalog: Path, undisturbed: dict[str, str], blocks: int
) -> None:
    with small_disk(tmp_path / "disk", 64 << 20) as disk:
        out = disk / "out"
        with harness.started(harness.prepare_text(out, catalog)) as process:
            assert harness.wait_until(process, harness.Condition(out, blocks))
            ballast = fill(disk, 128 << 10)
            _, stderr = process.communicate(timeout=harness.PATIENCE)
        assert process.returncode in (1, 4), stderr
        assert "No space left on device" in stderr
        assert "run the same command again" in stderr or "the same command tries them again" in stderr
        assert "Traceback" not in stderr
        assert not (out / "text/production_corpus.txt").exists()
        held = harness.receipts(out)
        again = harness.run(harness.prepare_text(out, catalog))
        assert again.code == 1, again.stderr
        assert "are free; make room" in again.stderr or "No space left on device" in again.stderr
        ballast.unlink()
        assert_finishes(out, catalog, undisturbed, held)


def test_output_becomes_read_only_in_the_middle_of_a_run(
    tmp_path: Path, catalog: Path, undisturbed: dict[str, str]
) -> None:
    with small_disk(tmp_path / "disk", 64 << 20) as disk:
        out = disk / "out"
        with harness.started(harness.prepare_text(out, catalog)) as process:
            assert harness.wait_until(process, harness.Condition(out, 3))
            process_remount(disk)
            _, stderr = process.communicate(timeout=harness.PATIENCE)
        assert process.returncode in (1, 4), stderr
        assert "Read-only file system" in stderr
        assert "Traceback" not in stderr
        held = harness.receipts(out)
        refused = harness.run(harness.prepare_text(out, catalog))
        assert refused.code == 1, refused.stderr
        assert "Read-only file system" in refused.stderr
        assert "Traceback" not in refused.stderr
        remount(disk, "rw")
        assert_finishes(out, catalog, undisturbed, held)


def process_remount(disk: Path) -> None:
    """Make a disk read-only under a process that writes to it; the system refuses while a file is open for writing."""
    for _ in range(10_000):
        if subprocess.run(["mount", "-o", "remount,ro", str(disk)], capture_output=True).returncode == 0:
            return
    pytest.fail("a file was open for writing all the time")


def test_a_source_file_that_may_not_be_read(tmp_path: Path) -> None:
    catalog = sources.write_sources(tmp_path / "in", size=20_000)
    locked = [tmp_path / "in/talk.jsonl", tmp_path / "in/lines.txt"]  # one is looked into beforehand, one is not
    for path in locked:
        path.chmod(0)
    out = tmp_path / "out"
    failed = harness.run([*bound_by_permissions(), *harness.prepare_text(out, catalog)])
    assert failed.code == 4, failed.stderr
    for path in locked:
        assert f"{path.name}: Permission denied" in failed.stderr or f"'{path}'" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (out / "text/production_corpus.txt").exists()
    for path in locked:
        path.chmod(0o644)
    assert harness.run(harness.prepare_text(out, catalog)).code == 0
    fresh = tmp_path / "fresh"
    assert harness.run(harness.prepare_text(fresh, catalog)).code == 0
    assert harness.products(out) == harness.products(fresh)


def bound_by_permissions() -> list[str]:
    """What goes before a command so that permissions hold for it: root is above them."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may read everything, and there is no setpriv to take that away")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.mark.parametrize("change", ["grown", "cut", "replaced", "gone"])
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
