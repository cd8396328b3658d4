"""What this version does not have, and wrong usage: refused by name, with the way that works now."""

from pathlib import Path

import pytest

from omni_ray import cli
from omni_ray.prepare import command
from tests.e2e import sources


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "give --catalog FILE, or --dataset synthetic"),
        (["all"], "give --catalog FILE, or --dataset synthetic"),
        (["text"], "give --catalog FILE, or --dataset synthetic"),
        (["audio"], "give --catalog FILE, or --dataset synthetic"),
        (["image"], "give --catalog FILE, or --dataset synthetic"),
    ],
)
def test_parts_that_come_later(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(argv) == 5
    assert message in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_commands_that_come_later(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tune", "--out", "x"]) == 5
    assert "omni-ray tune: not in this version yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--min-gb", "3", "--max-gb", "2"], "--min-gb 3 is above --max-gb 2"),
        (["--reset", "--update"], "--reset already takes the source files as they are now"),
        (["--dataset", "nobody"], "--dataset nobody: no text source or category of that name"),
        (["--license", "GPL-3.0"], "under --license GPL-3.0"),
        (["--license", ","], "name at least one licence"),
        (["--catalog", "none.toml"], "none.toml: no such catalog"),
    ],
)
def test_wrong_usage(argv: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    catalog = sources.write_sources(tmp_path / "in", size=5000)
    assert command.main(["text", "--catalog", str(catalog), "--out", "out", *argv]) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize("argv", [["--max-gb", "much"], ["--workers", "0"], ["--max-gb", "-1"], ["--dedup", "fuzzy"]])
def test_values_that_argparse_refuses(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["text", *argv])
    assert ended.value.code == 2


def test_every_option_of_the_contract_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--help"])
    shown = capsys.readouterr().out
    for option in (
        "--dataset", "--min-gb", "--max-gb", "--out", "--catalog", "--no-combine", "--allow-partial", "--reset",
        "--update", "--dry-run", "--layout", "--image-size", "--keep-original", "--audio-format", "--dedup",
        "--address", "--workers", "--license",
    ):  # fmt: skip
        assert option in shown


@pytest.mark.parametrize("name", ["status", "verify"])
def test_looking_at_nothing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--out", "nowhere"]) == 2
    assert "nowhere: no text is prepared here" in capsys.readouterr().err


def test_dry_run_shows_the_plan_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = sources.write_sources(tmp_path / "in", size=20_000)
    assert command.main(["text", "--catalog", str(catalog), "--out", "out", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    for name in ("talk", "lines", "speeches", "cells"):
        assert name in shown
    assert "Nothing was done" in shown
    assert not Path("out").exists()
    assert command.main(["text", "--dataset", "synthetic", "--out", "out", "--dry-run"]) == 0
    assert not Path("out").exists()


def test_a_submitted_job_needs_a_home(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.delenv("OMNI_RAY_HOME", raising=False)
    assert command.main(["text", "--dataset", "synthetic"]) == 5
    assert "OMNI_RAY_HOME" in capsys.readouterr().err
