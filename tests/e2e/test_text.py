"""`prepare text` as a user runs it: counts, budgets, refusals, going on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from omni_ray.lease import LEASE_FOLDER
from tests.e2e import harness, sources

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests/data"
SHARED = ROOT.parent / "shared/data/text"
pytestmark = [pytest.mark.slow, pytest.mark.ray]
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of real test data is not beside the checkout")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sources.write_sources(tmp_path_factory.mktemp("sources"), size=150_000)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, catalog: Path) -> Path:
    """An output of everything in `catalog`. Tests that change it take a copy."""
    out = tmp_path_factory.mktemp("prepared") / "out"
    done = harness.run(harness.prepare_text(out, catalog))
    assert done.code == 0, done.stderr
    assert "Warning" not in done.stderr, "what a library tells developers is nothing to users"
    return out


def omni(*arguments: str) -> harness.Done:
    return harness.run(harness.command("omni_ray.cli", *arguments))


def tree(out: Path) -> dict[str, bytes]:
    """Every file but the lease, which says who looked last."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and LEASE_FOLDER not in path.as_posix()
    }


def totals(out: Path) -> dict[str, dict[str, object]]:
    """Counts per source from the receipts."""
    found: dict[str, dict[str, object]] = {}
    for folder in (out / ".omni_ray/text").glob("*/ledger"):
        counts = {"rows_in": 0, "kept": 0, "dropped": {}, "quarantined": 0}
        for path in sorted(folder.glob("*.jsonl")):
            for line in path.read_bytes().splitlines():
                record = json.loads(line[9:])
                if record["type"] == "receipt":
                    counts["rows_in"] += record.get("rows_in", 0)
                    counts["kept"] += record.get("kept", 0)
                    counts["quarantined"] += sum(record.get("quarantined", {}).values())
                    for rule, count in record.get("dropped", {}).items():
                        counts["dropped"][rule] = counts["dropped"].get(rule, 0) + count
        found[folder.parent.name] = counts
    return found


@needs_shared
@pytest.mark.parametrize("name", ["shared_text.toml", "shared_text_latin1.toml"])
def test_counts_of_real_data_equal_an_independent_scripts(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out"
    done = harness.run(harness.prepare_text(out, DATA / name))
    assert done.code == 0, done.stderr
    counted = subprocess.run(
        [sys.executable, DATA / "count_text.py", DATA / name, tmp_path / "unique"], capture_output=True, check=True
    )
    expected = json.loads(counted.stdout)["sources"]
    found = totals(out)
    assert found.keys() == expected.keys()
    for source, counts in expected.items():
        assert found[source]["rows_in"] == counts["rows_in"], source
        assert found[source]["kept"] == counts["kept"], source
        assert found[source]["dropped"] == counts["dropped"], source
        assert found[source]["quarantined"] == sum(counts["quarantined"].values()), source
    quarantined = sum(counts["quarantined"] for counts in found.values())
    assert quarantined == (7 if name == "shared_text.toml" else 0)
    corpus = (out / "text/production_corpus.txt").read_bytes()
    lines = corpus.split(b"\n")
    assert lines.pop() == b""
    assert len(set(lines)) == len(lines)
    assert all(lines)
    assert set((tmp_path / "unique").read_bytes().splitlines()) <= set(lines)
    index = pq.read_table(out / "text/production_corpus.index.parquet").to_pydict()
    assert set(index["category"]) == {"general", "conversations", "scientific", "tools"}
    assert [size - 1 for size in index["bytes"]] == list(map(len, lines))
    assert len(set(index["key"])) == len(lines)


def test_a_second_run_changes_nothing_and_needs_no_ray(prepared: Path, catalog: Path) -> None:
    before = tree(prepared)
    done = harness.run(harness.prepare_text(prepared, catalog))
    assert done.code == 0
    assert "connecting to Ray" not in done.stderr
    assert tree(prepared) == before


def test_budget_is_exact_and_raising_it_only_adds(tmp_path: Path, catalog: Path, prepared: Path) -> None:
    everything = len((prepared / "text/production_corpus.txt").read_bytes())
    out = tmp_path / "out"
    before: set[bytes] = set()
    for share in (0.2, 0.5):
        budget = int(everything * share)
        done = harness.run(harness.prepare_text(out, catalog, "--max-gb", f"{budget / 1e9:.9f}"))
        assert done.code == 0, done.stderr
        corpus = (out / "text/production_corpus.txt").read_bytes()
        longest = max(map(len, corpus.split(b"\n"))) + 1
        assert budget - 4 * (longest + 4001) < len(corpus) <= budget  # each source stops before its next sample
        now = set(corpus.splitlines())
        assert before <= now
        before = now
    one = tmp_path / "one"
    done = harness.run(harness.prepare_text(one, catalog, "--max-gb", f"{budget / 1e9:.9f}", workers=1))
    assert harness.products(one) == harness.products(out)
    assert omni("verify", "--out", str(out)).code == 0


def test_minimum_is_an_error_only_where_it_was_typed(prepared: Path, catalog: Path) -> None:
    warned = harness.run(harness.prepare_text(prepared, catalog))
    assert warned.code == 0
    assert "warning: " in warned.stderr
    assert "ran dry: talk, lines, speeches, cells" in warned.stderr
    missed = harness.run(harness.prepare_text(prepared, catalog, "--min-gb", "1"))
    assert missed.code == 3
    assert "below the minimum of 1 GB" in missed.stderr


def test_changed_rules_and_files_are_refused_key_by_key(tmp_path: Path) -> None:
    catalog = sources.write_sources(tmp_path / "in", size=20_000)
    out = tmp_path / "out"
    assert harness.run(harness.prepare_text(out, catalog)).code == 0
    before = tree(out)
    entry = catalog.read_text()
    catalog.write_text(entry.replace('url = "lines.txt"', 'url = "lines.txt"\nrules = { min_chars = 12 }'))
    refused = harness.run(harness.prepare_text(out, catalog))
    assert refused.code == 5
    assert "lines: rules.min_chars: 8.0 -> 12.0" in refused.stderr
    assert "--reset --dataset lines" in refused.stderr
    assert tree(out) == before
    assert harness.run(harness.prepare_text(out, catalog, "--reset", "--dataset", "lines")).code == 0
    fresh = tmp_path / "fresh"
    assert harness.run(harness.prepare_text(fresh, catalog)).code == 0
    assert harness.products(out) == harness.products(fresh)

    with (tmp_path / "in/lines.txt").open("ab") as stream:
        stream.write(b"one more line at the end of it\n")
    before = tree(out)
    refused = harness.run(harness.prepare_text(out, catalog))
    assert refused.code == 5
    assert "lines: file lines.txt: size:" in refused.stderr
    assert "--update --dataset lines" in refused.stderr
    assert tree(out) == before
    assert harness.run(harness.prepare_text(out, catalog, "--update")).code == 0
    assert b"\none more line at the end of it\n" in (out / "text/production_corpus.txt").read_bytes()
    assert omni("verify", "--out", str(out)).code == 0


def test_one_file_per_dataset_without_combining(tmp_path: Path, catalog: Path, prepared: Path) -> None:
    out = tmp_path / "out"
    done = harness.run(harness.prepare_text(Path("out"), catalog, "--no-combine"), cwd=tmp_path)  # relative
    assert done.code == 0, done.stderr
    names = ["talk", "lines", "speeches", "cells"]
    joined = b"".join((out / f"text/{name}.txt").read_bytes() for name in names)
    assert joined == (prepared / "text/production_corpus.txt").read_bytes()
    assert not (out / "text/production_corpus.txt").exists()
    assert omni("verify", "--out", str(out)).code == 0


def test_a_source_that_cannot_be_reached_fails_alone(tmp_path: Path) -> None:
    catalog = sources.write_sources(tmp_path / "in", size=20_000)
    (tmp_path / "in/lines.txt").rename(tmp_path / "in/moved.txt")
    out = tmp_path / "out"
    failed = harness.run(harness.prepare_text(out, catalog))
    assert failed.code == 4
    assert "url: lines.txt: no file found" in failed.stderr
    assert not (out / "text/production_corpus.txt").exists()
    partial = harness.run(harness.prepare_text(out, catalog, "--allow-partial"))
    assert partial.code == 4
    assert (out / "text/production_corpus.txt").exists()
    (tmp_path / "in/moved.txt").rename(tmp_path / "in/lines.txt")
    assert harness.run(harness.prepare_text(out, catalog)).code == 0
    fresh = tmp_path / "fresh"
    assert harness.run(harness.prepare_text(fresh, catalog)).code == 0
    assert harness.products(out) == harness.products(fresh)


def test_verify_names_damage(tmp_path: Path, prepared: Path) -> None:
    copy = tmp_path / "out"
    subprocess.run(["cp", "-a", str(prepared), str(copy)], check=True)
    assert omni("verify", "--out", str(copy)).code == 0
    corpus = copy / "text/production_corpus.txt"
    data = bytearray(corpus.read_bytes())
    data[1000] ^= 1
    corpus.write_bytes(data)
    found = omni("verify", "--out", str(copy))
    assert found.code == 1
    assert "is not the sample that the table describes" in found.stdout
    block = next(copy.glob(".omni_ray/text/lines/blocks/*.txt"))
    block.unlink()
    found = omni("verify", "--out", str(copy))
    assert found.code == 1
    assert f"{block.name} is missing" in found.stdout


def test_retry_takes_blocks_up_again(tmp_path: Path, prepared: Path) -> None:
    copy = tmp_path / "out"
    subprocess.run(["cp", "-a", str(prepared), str(copy)], check=True)
    wrong = omni("retry", "--out", str(copy), "--reason", "nothing_like_it")
    assert wrong.code == 2
    assert "reasons there are: bad_json, undecodable" in wrong.stderr
    done = omni("retry", "--out", str(copy), "--reason", "bad_json", "--address", "local", "--workers", "2")
    assert done.code == 0, done.stderr
    assert "stay quarantined" in done.stderr
    assert harness.products(copy) == harness.products(prepared)
    assert omni("verify", "--out", str(copy)).code == 0


@pytest.mark.parametrize(
    ("number", "impatient"),
    [
        (signal.SIGINT, False),
        (signal.SIGTERM, True),
        pytest.param(signal.SIGINT, True, marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, False, marks=pytest.mark.long),
    ],
)
def test_a_stop_that_was_asked_for_says_how_to_go_on(
    tmp_path: Path, catalog: Path, prepared: Path, number: signal.Signals, impatient: bool
) -> None:
    out = tmp_path / "out"
    with harness.started(harness.prepare_text(out, catalog)) as process:
        assert harness.wait_until(process, harness.Condition(out, 3))
        process.send_signal(number)
        while impatient and process.poll() is None:  # Ctrl-C again and again
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
        _, stderr = process.communicate(timeout=harness.PATIENCE)
        assert process.returncode == 130, stderr
        assert "the same command goes on from there" in stderr
        assert "Traceback" not in stderr
    (lease,) = (out / LEASE_FOLDER).glob("*.json")
    assert json.loads(lease.read_bytes())["released"]
    assert harness.run(harness.prepare_text(out, catalog)).code == 0
    assert harness.products(out) == harness.products(prepared)


def test_a_stopped_holder_that_wakes_up_commits_nothing_more(tmp_path: Path, catalog: Path, prepared: Path) -> None:
    out = tmp_path / "out"
    with harness.started(harness.prepare_text(out, catalog)) as stopped:
        assert harness.wait_until(stopped, harness.Condition(out, 3))
        os.kill(stopped.pid, signal.SIGSTOP)
        refused = harness.run(harness.prepare_text(out, catalog))
        assert refused.code == 5
        assert f"(process {stopped.pid} on" in refused.stderr
        (lease,) = (out / LEASE_FOLDER).glob("*.json")
        long_ago = lease.stat().st_mtime - 61
        os.utime(lease, (long_ago, long_ago))  # as if a minute had passed without renewal
        assert harness.run(harness.prepare_text(out, catalog)).code == 0
        held = harness.receipts(out)
        os.kill(stopped.pid, signal.SIGCONT)
        _, stderr = stopped.communicate(timeout=harness.PATIENCE)
        assert stopped.returncode == 5, stderr
        assert "another run took over" in stderr
    assert harness.receipts(out) == held
    assert harness.products(out) == harness.products(prepared)
