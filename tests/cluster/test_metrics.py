"""What Prometheus reads from a cluster while a run is on it, beside what the run itself has noted."""

import json
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from omni_ray.ledger import read_ledger
from omni_ray.storage import LocalStorage
from tests.cluster import nodes
from tests.e2e import harness
from tests.e2e.sources import write_sources

pytestmark = [pytest.mark.slow, pytest.mark.ray]
INTERVAL = 3.0  # seconds in which Ray brings figures to the endpoint; a gauge is gone after two of them
LABELS = ("modality", "source", "reason", "stage", "figure")  # ours; the others are Ray's
Figures = dict[tuple[str, ...], float]


@pytest.fixture(scope="module")
def cluster() -> Iterator[nodes.Cluster]:
    with nodes.cluster(cpus=2, environment={"RAY_metrics_report_interval_ms": f"{INTERVAL * 1e3:.0f}"}) as made:
        yield made


@pytest.fixture(scope="module")
def out(cluster: nodes.Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text of four layouts with drops and quarantine, then the built-in text, sounds and pictures, by two commands."""
    folder = tmp_path_factory.mktemp("metrics")
    catalog = write_sources(folder / "raw", size=60_000)
    for asked in (["text", "--catalog", str(catalog)], ["all", "--dataset", "synthetic"]):
        command = harness.command("omni_ray.prepare", *asked, "--out", str(folder / "out"))
        done = harness.run([*command, "--address", cluster.address], **cluster.environment)
        assert done.code == 0, done.stderr
    return folder / "out"


def scrape(cluster: nodes.Cluster, prefix: str) -> Figures:
    """The figures at the endpoint by name and our own labels, added up over what Ray tells apart by its labels."""
    with urllib.request.urlopen(cluster.metrics, timeout=30) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    figures: Figures = Counter()
    for family in families:
        for sample in family.samples:
            if sample.name.startswith(f"ray_{prefix}"):
                ours = [label for key in LABELS if (label := sample.labels.get(key))]
                figures[sample.name.removeprefix("ray_"), *ours] += sample.value
    return figures


def committed(out: Path) -> Figures:
    """What the ledgers of a prepared folder say."""
    figures: Figures = Counter()
    storage = LocalStorage(out)
    for folder in (out / ".omni_ray").glob("*/*/ledger"):
        modality, source = folder.parts[-3:-1]
        for block, segments in read_ledger(storage, folder.relative_to(out).as_posix()).receipts.items():
            if block.startswith("index-"):
                continue
            labels = (modality, source)
            figures["omni_ray_prepare_blocks_total", *labels] += segments[-1].cursor is None
            for receipt in segments:
                figures["omni_ray_prepare_rows_total", *labels] += receipt.rows_in
                figures["omni_ray_prepare_kept_total", *labels] += receipt.kept
                figures["omni_ray_prepare_samples_total", *labels] += receipt.samples
                figures["omni_ray_prepare_bytes_total", *labels] += receipt.bytes
                figures["omni_ray_prepare_read_bytes_total", *labels] += receipt.read_bytes
                for rule, rows in receipt.dropped.items():
                    figures["omni_ray_prepare_dropped_total", *labels, rule] += rows
                for reason, rows in receipt.quarantined.items():
                    figures["omni_ray_prepare_quarantined_total", *labels, reason] += rows
    return figures


def wait_for(cluster: nodes.Cluster, prefix: str, expected: Figures) -> None:
    """Poll until the endpoint says what is expected; what it says is compared once more where it never does."""
    began = time.monotonic()
    while (found := scrape(cluster, prefix)) != expected and time.monotonic() - began < 10 * INTERVAL:
        time.sleep(0.2)  # polling, not synchronisation: the loop ends by the condition alone
    assert found == expected


def test_preparation_shows_what_its_ledgers_hold(cluster: nodes.Cluster, out: Path) -> None:
    expected = committed(out)
    kinds = Counter(name for name, *_ in expected)
    assert kinds["omni_ray_prepare_dropped_total"] and kinds["omni_ray_prepare_quarantined_total"]
    assert {modality for _, modality, *_ in expected} == {"text", "audio", "image"}
    wait_for(cluster, "omni_ray_prepare", expected)


def train(cluster: nodes.Cluster, out: Path, *arguments: str) -> list[str]:
    """The smoke run in a smaller size."""
    smaller = [f"--set={one}" for one in ("batch_size=2", "ctx_len=64", "d_model=32", "vocab_size=512")]
    command = harness.command("omni_ray.train", "--stage", "text", "--smoke", "--data", str(out), *smaller)
    return [*command, "--address", cluster.address, "--storage", str(out.parent / "runs"), "--workers", "2", *arguments]


@pytest.mark.long
def test_training_shows_what_its_metrics_say(cluster: nodes.Cluster, out: Path) -> None:
    gauges: Figures = {}
    before = scrape(cluster, "omni_ray_train")
    with harness.started(train(cluster, out, "--max-steps=50", "--set=val_freq=20"), **cluster.environment) as process:
        while process.poll() is None:
            gauges.update(scrape(cluster, "omni_ray_train"))
            time.sleep(0.2)  # polling, not synchronisation: the loop ends by the condition alone
        gauges.update(scrape(cluster, "omni_ray_train"))  # what the end of the connection brought
        _, stderr = process.communicate()
        assert process.returncode == 0, stderr
    rows = [json.loads(line) for line in next((out.parent / "runs").rglob("metrics.jsonl")).read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    checks = [row for row in rows if "val_loss" in row]
    assert len(steps) == 50 and not before
    last = {
        "step": 50,
        "loss": steps[-1]["loss"],
        "learning_rate": steps[-1]["lr"],
        "grad_norm": steps[-1]["grad_norm"],
    }
    assert {name: gauges[f"omni_ray_train_{name}", "text"] for name in last} == last
    assert gauges["omni_ray_train_validation", "text", "loss"] == checks[-1]["val_loss"]
    assert gauges["omni_ray_train_tokens_per_second", "text"] > 0
    assert gauges["omni_ray_train_samples_per_second", "text"] > 0
    assert 0 <= gauges["omni_ray_train_padding_ratio", "text"] < 1
    assert 0 <= gauges["omni_ray_train_data_wait_ratio", "text"] < 1
    wait_for(
        cluster,
        "omni_ray_train",
        {
            ("omni_ray_train_steps_total", "text"): 50,
            ("omni_ray_train_tokens_total", "text"): sum(row["targets"] for row in steps),
            ("omni_ray_train_samples_total", "text"): 50 * 2 * 2,
        },
    )


@pytest.mark.long
def test_a_gauge_stays_between_two_reports(cluster: nodes.Cluster, out: Path) -> None:
    """A run that reports rarely shows its figures all the time, though Ray forgets a gauge after two intervals."""
    endless = ["--max-steps=1000000", "--set=print_freq=1000000", "--set=val_freq=1000000", "--set=save_dir=endless"]
    seen: list[float | None] = []

    def shown_between_reports() -> bool:
        found = scrape(cluster, "omni_ray_train_step").get(("omni_ray_train_step", "text"))
        if found is not None or seen:
            seen.append(found)
        time.sleep(0.2)  # polling, not synchronisation
        return len(set(seen)) > 2

    with harness.started(train(cluster, out, *endless), **cluster.environment) as process:
        assert harness.wait_until(process, shown_between_reports), process.communicate()[1]
    assert None not in seen
