"""The train command, whole: killed and run again, paused, refused, begun anew."""

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e import harness
from tests.train import small

pytestmark = [pytest.mark.slow, pytest.mark.ray]
STEPS = 40


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, a config, and a token store that the runs share."""
    folder = tmp_path_factory.mktemp("workshop")
    small.write_corpus(folder / "data/text/production_corpus.txt", 300)
    values = small.config(
        max_steps=STEPS, checkpoint_freq=10, val_freq=20, print_freq=5, batch_size=2, save_dir="runs/a",
        train_text="data/text/production_corpus.txt",
    )  # fmt: skip
    (folder / "thinker.json").write_text(values.model_dump_json())
    return folder


def train(workshop: Path, run: str, *arguments: str, **environment: str) -> harness.Done:
    command = [
        *harness.command("omni_ray.train", "--stage", "text", "--config", str(workshop / "thinker.json")),
        *("--address", "local", "--workers", "2", "--record-ids", "--set", f"save_dir=runs/{run}", *arguments),
    ]
    with harness.started(command, cwd=workshop, **environment) as process:
        stdout, stderr = process.communicate(timeout=harness.PATIENCE)
        return harness.Done(process.returncode, stdout, stderr)


def rows(workshop: Path, run: str) -> list[dict[str, object]]:
    lines = (workshop / f"runs/{run}/metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "at"} for line in lines]


def weights(workshop: Path, run: str) -> bytes:
    return (workshop / f"runs/{run}/step_{STEPS:08d}/model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(workshop: Path) -> str:
    done = train(workshop, "whole")
    assert done.code == 0, done.stderr
    assert "schedule for" in done.stdout and f"finished after {STEPS} steps" in done.stdout
    return "whole"


def test_the_whole_command_killed_and_run_again(workshop: Path, undisturbed: str) -> None:
    for stop in ("training@17", "checkpointing@1"):
        done = train(workshop, "killed", OMNI_RAY_STOP=stop)
        assert done.code == -9, done.stderr
    done = train(workshop, "killed")
    assert done.code == 0, done.stderr
    assert "going on from step 10" in done.stdout
    assert rows(workshop, "killed") == rows(workshop, undisturbed)
    assert weights(workshop, "killed") == weights(workshop, undisturbed)


@pytest.mark.long
def test_a_pause_is_not_an_end(workshop: Path, undisturbed: str) -> None:
    assert train(workshop, "paused", "--stop-at", "13").code == 0
    assert (workshop / "runs/paused/step_00000013/COMPLETE").exists()
    done = train(workshop, "paused", "--stop-at", "13")
    assert done.code == 0, done.stderr
    assert train(workshop, "paused").code == 0
    steps = [row for row in rows(workshop, "paused") if "loss" in row]
    assert steps == [row for row in rows(workshop, undisturbed) if "loss" in row]
    assert weights(workshop, "paused") == weights(workshop, undisturbed)


@pytest.mark.long
def test_a_finished_run_is_left_alone_refused_or_begun_anew(workshop: Path, undisturbed: str) -> None:
    shutil.copytree(workshop / "runs" / undisturbed, workshop / "runs/again")
    done = train(workshop, "again")
    assert (done.code, "finished:" in done.stdout) == (0, True)
    done = train(workshop, "again", "--set", "d_ff=64")
    assert (done.code, "config d_ff: 48 -> 64" in done.stderr) == (5, True)
    done = train(workshop, "again", "--set", "d_ff=64", "--fresh", "--max-steps", "5")
    assert done.code == 0, done.stderr
    assert (workshop / f"runs/again-old-1/step_{STEPS:08d}/COMPLETE").exists()
    assert (workshop / "runs/again/step_00000005/COMPLETE").exists()
