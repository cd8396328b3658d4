import json
import shutil
from pathlib import Path

import pytest

from omni_ray.cli import main
from omni_ray.config import STAGES

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with configs and text only."""
    shutil.copytree(ROOT / "tests/data/configs", tmp_path / "configs")
    (tmp_path / "data/text").mkdir(parents=True)
    (tmp_path / "data/text/tiny_corpus.txt").write_text("a line\n" * 60_000)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(out: str) -> dict[str, tuple[str, str]]:
    """Figure -> value and reason, of the table that was printed last."""
    table = out[out.rindex("figure") :].splitlines()[1:]
    cells = [line.split(maxsplit=2) for line in table if line[:1].isalpha() and "_" in line.split()[0]]
    return {name: (value, why.strip()) for name, value, why in cells}


def test_every_figure_comes_with_its_reason(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert main(["schedule", "--stage", "text", "--world-size", "2"]) == 0
    out = capsys.readouterr().out
    assert "Text samples: 60,000 (from data/text/tiny_corpus.txt)" in out
    assert rows(out) == {
        "steps_per_epoch": ("3,750", "60,000 samples // (batch 8 x accumulation 1 x world size 2)"),
        "max_steps": ("26,250", "3,750 steps/epoch x 7 epochs"),
        "max_epochs": ("7", "from 50,000 samples on, 5-10 epochs are usual"),
        "warmup_steps": ("1,312", "5 % of 26,250 steps, at least 1"),
        "val_freq": ("375", "ten times an epoch, in 100 to 1,000 steps, at most max_steps"),
        "checkpoint_freq": ("3,750", "once an epoch, in 1,000 to 10,000 steps, at most max_steps"),
        "decay_steps": ("24,938", "cosine over all steps after the warmup"),
    }
    assert "lr 0.0003, not scaled with the global batch 16" in out
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_stages_without_data_are_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule"]) == 0
    out = capsys.readouterr().out
    assert out.count("steps_per_epoch") == 1
    assert "(omni_sft_tiny.json)\n  No schedule: no image data and no audio data\n" in out


def test_any_run_needs_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = ["schedule", "--samples", "2500000", "--batch-size", "8", "--grad-accum", "4", "--world-size", "16"]
    assert main(run) == 0
    found = rows(capsys.readouterr().out)
    assert [found[key][0] for key in ("steps_per_epoch", "max_steps", "warmup_steps")] == ["4,882", "9,764", "488"]
    assert main([*run, "--policy", "tokens", "--unique-tokens", "8000000", "--parameters", "1000000"]) == 0
    found = rows(capsys.readouterr().out)
    assert found["max_epochs"][0] == "2.5"
    assert found["max_epochs"][1].startswith("20 tokens for each of 1,000,000 parameters are 20,000,000 tokens")
    assert found["decay_steps"] == ("2,441", "linear over the last 20 % of the steps, after a stable phase (WSD)")


def test_samples_and_batches_stand_in_for_those_of_a_config(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = ["schedule", "--samples", "1000000"]
    assert main([*sample, "--stage", "sft", "--scale-lr", "linear", "--world-size", "3"]) == 0
    out = capsys.readouterr().out
    assert rows(out)["steps_per_epoch"][1] == "1,000,000 samples // (batch 2 x accumulation 4 x world size 3)"
    assert "lr 5e-05 -> 0.00015, scaled by the linear rule x3 to the global batch 24" in out
    assert main([*sample, "--stage", "sft", "--batch-size", "5", "--grad-accum", "1"]) == 0
    assert rows(capsys.readouterr().out)["steps_per_epoch"][0] == "200,000"


def test_what_was_set_by_hand_is_said_to_stand(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = home / "configs" / STAGES["text"].file
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_epochs": 1.5}))
    assert main(["schedule", "--stage", "text"]) == 0
    found = rows(capsys.readouterr().out)
    assert found["max_epochs"] == ("1.5", "set by hand")
    assert found["max_steps"] == ("11,250", "7,500 steps/epoch x 1.5 epochs")


@pytest.mark.parametrize("name", ["lr.png", "lr.svg", "lr.PDF"])
def test_the_learning_rate_is_drawn(home: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert main(["schedule", "--stage", "text", "--plot", name]) == 0
    assert capsys.readouterr().out.endswith(f"Drawn: {name}\n")
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    assert (home / name).read_bytes().startswith(starts[Path(name).suffix.lower()])
    assert not list(home.glob(".tmp*"))


def test_nothing_is_drawn_without_a_schedule(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule", "--stage", "audio", "--plot", "lr.png"]) == 0
    assert capsys.readouterr().out.endswith("Nothing to draw: lr.png not written\n")
    assert not (home / "lr.png").exists()


@pytest.mark.parametrize("steps", ["1", "8", "9223372036854775807"])
def test_the_shortest_and_longest_run_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["schedule", "--samples", steps, "--batch-size", "1", "--plot", "lr.png"]) == 0
    assert (tmp_path / "lr.png").stat().st_size > 10_000


def test_a_run_of_a_million_epochs_is_drawn(home: Path) -> None:
    path = home / "configs" / STAGES["text"].file
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_epochs": 1_000_000}))
    assert main(["schedule", "--stage", "text", "--samples", "9223372036854775807", "--plot", "lr.png"]) == 0
    assert (home / "lr.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--samples 100", 2, "--samples: give --batch-size N too, or --stage NAME"),
        ("--samples 9 --batch-size 1 --scale-lr sqrt", 2, "--scale-lr: there is no lr without a config"),
        ("--policy tokens --unique-tokens 9 --parameters 9", 2, "--policy tokens: name one --stage"),
        ("--ratio 12", 2, "--ratio: belongs to --policy tokens"),
        ("--policy tokens", 2, "give --unique-tokens N and --parameters N"),
        (
            "--policy tokens --unique-tokens 9 --parameters 9 --ratio 11 --stage text",
            2,
            "ratio = 11: tokens per parameter lie in",
        ),
        ("--policy tokens --unique-tokens 9 --parameters 99 --samples 9 --batch-size 1", 5, "--allow-repetition"),
        ("--plot lr.bmp", 2, "name a file that ends in .png, .svg, .pdf"),
        ("--plot nowhere/lr.png", 2, "nowhere is no folder"),
        ("--configs-dir nowhere", 2, "nowhere: holds none of thinker_tiny.json"),
    ],
)
def test_wrong_usage_is_explained(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: str, code: int, message: str
) -> None:
    assert main(["schedule", *arguments.split()]) == code
    assert message in capsys.readouterr().err
