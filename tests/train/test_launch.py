"""From a command line to a plan: what counts, what is refused and in which words."""

import json
from pathlib import Path
from typing import Any

import pytest

from omni_ray.cli import main as omni_ray
from omni_ray.config import ThinkerConfig
from omni_ray.errors import ConfigError, FingerprintMismatch, NotInThisVersion, UsageError
from omni_ray.storage import LocalStorage
from omni_ray.train import checkpoint, launch, token_store
from omni_ray.train.command import main
from omni_ray.train.launch import Changes, Scale
from omni_ray.train.loop import Hooks
from omni_ray.train.registry import room
from omni_ray.train.stages.text import TextTask
from tests.train import small

CONFIGS = Path(__file__).parents[2] / "configs"
ALONE = Scale(1, "none")


def read(**changes: Any) -> ThinkerConfig:
    found = launch.read_config("text", CONFIGS / "thinker_tiny.json", Changes(**changes))
    assert isinstance(found, ThinkerConfig)
    return found


def test_values_are_set_by_key() -> None:
    config = read(sets=["d_ff=512", "lr=1e-3", "use_moe=true", "save_dir=elsewhere"])
    assert (config.d_ff, config.lr, config.use_moe, config.save_dir) == (512, 1e-3, True, "elsewhere")
    assert read(sets=["derived_from.samples=7"]).derived_from.samples == 7  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("one", "message"),
    [
        ("dff=512", "dff = 512: unknown key; did you mean d_ff?"),
        ("n_heads=5", "n_heads = 5: allowed is"),
        ("d_ff", "give key=value"),
        ("model.d_ff=5", "there is no section model"),
        ("lr=fast", 'lr = "fast"'),
    ],
)
def test_a_wrong_value_is_named(one: str, message: str) -> None:
    with pytest.raises((ConfigError, UsageError)) as caught:
        read(sets=[one])
    assert message in str(caught.value)


def test_the_horizon_by_hand_keeps_the_recorded_warmup() -> None:
    config = read(max_steps=1000)
    found = launch.rederive(config.figures, config.recorded, 60_000, 8, 1, 1).schedule
    assert (found.max_steps, found.warmup_steps) == (1000, 50)
    assert found.checkpoint_freq <= 1000


def test_data_lie_where_they_are_said_to() -> None:
    assert read(data="s3://bucket/mine/").train_text == "s3://bucket/mine/text/production_corpus.txt"
    with pytest.raises(UsageError, match="does not lie in data/"):
        read(data="other", sets=["train_text=/somewhere/x.txt"])


def test_a_run_lies_in_its_storage() -> None:
    assert launch.place(read(), None) == ("checkpoints", "thinker_tiny")
    assert launch.place(read(), "s3://bucket/x/") == ("s3://bucket/x/checkpoints", "thinker_tiny")
    assert launch.place(read(smoke=True), None) == ("checkpoints", "thinker_tiny-smoke")
    assert launch.place(read(sets=["save_dir=/a/b/c/"]), None) == ("/a/b", "c")
    with pytest.raises(UsageError, match="is absolute"):
        launch.place(read(sets=["save_dir=/a/b/c/"]), "s3://bucket")


@pytest.fixture
def said() -> list[str]:
    return []


def settle(folder: Path, ready: token_store.Ready, said: list[str], scale: Scale = ALONE, **changes: object) -> Any:
    config = small.config(**changes)
    task = TextTask(config, ready, "cpu")
    return launch.settle("text", config, task, LocalStorage(folder), "run", scale, said.append)


def test_a_new_run_is_derived_from_its_rows_and_workers(
    tmp_path: Path, ready: token_store.Ready, said: list[str]
) -> None:
    figures = {"max_steps": 6250, "max_epochs": 2, "warmup_steps": 625, "val_freq": 500, "checkpoint_freq": 1000}
    record = {
        "policy": "table", "samples": 25_000, "batch_size": 4, "gradient_accumulation_steps": 1, "world_size": 1,
        "values": figures,
    }  # fmt: skip
    plan = settle(tmp_path, ready, said, Scale(2, "sqrt"), derived_from=record, **figures)
    rows = TextTask(small.config(), ready, "cpu").rows
    assert (plan.rows, plan.global_batch) == (rows, 8)
    assert plan.max_steps == rows // 8 * 2 and plan.warmup_steps == plan.max_steps // 10
    assert plan.lr == pytest.approx(3e-3 * 2**0.5)
    assert f"schedule for {rows:,} rows at global batch 8: max_steps 6,250 -> {plan.max_steps}" in said[0]
    assert "scaled by the sqrt rule" in said[1]


def test_a_resume_takes_the_recorded_plan(tmp_path: Path, ready: token_store.Ready, said: list[str]) -> None:
    run = small.training(tmp_path, ready, small.config(), stop_at=4)
    run.run(Hooks())
    resumed = settle(tmp_path, ready, said, Scale(4, "linear"), checkpoint_freq=3)
    assert resumed.global_batch == 4 and resumed.lr == run.plan.lr and resumed.max_steps == 12
    assert resumed.checkpoint_freq == 3
    assert said == ["  going on from step 4 of 12, global batch 4"]


def test_another_config_is_refused_with_the_difference(
    tmp_path: Path, ready: token_store.Ready, said: list[str]
) -> None:
    small.training(tmp_path, ready, small.config(), stop_at=4).run(Hooks())
    with pytest.raises(FingerprintMismatch, match=r"config d_ff: 48 -> 64\ntake back.*--fresh") as caught:
        settle(tmp_path, ready, said, d_ff=64)
    assert caught.value.exit_code == 5


def test_other_data_are_refused_with_the_difference(tmp_path: Path, ready: token_store.Ready, said: list[str]) -> None:
    small.training(tmp_path, ready, small.config(), stop_at=4).run(Hooks())
    other = small.make_store(tmp_path / "other", lines=300)
    with pytest.raises(FingerprintMismatch, match=r"corpus: \w+ -> \w+\n(.|\n)*training rows"):
        settle(tmp_path, other, said)


def test_a_finished_run_is_left_alone(tmp_path: Path, ready: token_store.Ready, said: list[str]) -> None:
    small.training(tmp_path, ready, small.config()).run(Hooks())
    assert settle(tmp_path, ready, said) is None
    assert "at step 12 of 12" in said[0]


def test_a_run_is_moved_aside_whole(tmp_path: Path, ready: token_store.Ready) -> None:
    storage = LocalStorage(tmp_path)
    for number in (1, 2):
        small.training(tmp_path, ready, small.config(), stop_at=4).run(Hooks())
        before = {path.relative_to(tmp_path / "run"): path.read_bytes() for path in _files(tmp_path / "run")}
        assert checkpoint.move_aside(storage, "run") == f"run-old-{number}"
        target = tmp_path / f"run-old-{number}"
        assert {path.relative_to(target): path.read_bytes() for path in _files(target)} == before
        assert not _files(tmp_path / "run")


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("stage", ["audio", "vision", "talker", "sft", "all"])
def test_a_stage_that_is_not_there_is_refused_by_name(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--stage", stage]) == 5
    named = "audio" if stage == "all" else stage
    assert f"--stage {named}: this version does not have stage" in capsys.readouterr().err


def test_every_flag_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--workers", "3:2"])
    assert caught.value.code == 2 and "the first number is the least" in capsys.readouterr().err
    with pytest.raises(NotInThisVersion):
        room("audio")
    assert main(["--stage", "text", "--config", "missing.json"]) == 2
    assert "missing.json: no such file" in capsys.readouterr().err


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ready: token_store.Ready) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    small.training(folder, ready, small.config()).run(Hooks())
    return folder / "run"


def test_a_trained_model_goes_on_with_a_text(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = []
    for place in (finished, finished, finished / "step_00000012"):
        assert omni_ray(["infer", "--ckpt", str(place), "--text", "the cat", "--max-tokens", "8"]) == 0
        drawn.append(capsys.readouterr().out)
    assert drawn[0].startswith("the cat") and len(drawn[0]) > len("the cat\n")
    assert drawn[0] == drawn[1] == drawn[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ckpt", "nowhere", "--text", "x"], "nowhere: no whole checkpoint here"),
        (["--ckpt", "{finished}/step_00000005", "--text", "x"], "no whole checkpoint here"),
        (["--ckpt", "{finished}", "--text", "x" * 500], "the model's context is 32; shorten it"),
        (["--ckpt", "{finished}", "--text", "x", "--temperature", "-1"], "temperature is 0 or more"),
    ],
)
def test_what_cannot_be_inferred_is_said(
    finished: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert omni_ray(["infer", *(part.format(finished=finished) for part in arguments)]) == 2
    assert message in capsys.readouterr().err


def test_a_smoke_run_is_a_valid_config() -> None:
    config = read(smoke=True)
    assert config.save_dir.endswith("-smoke") and config.max_steps <= 1000
    assert json.loads((CONFIGS / "thinker_tiny.json").read_text())["save_dir"] == "checkpoints/thinker_tiny"
