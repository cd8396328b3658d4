"""Where relative places lie in a submitted job, and what is submitted."""

import subprocess
from pathlib import Path

import pytest

from omni_ray.errors import Refused, UsageError
from omni_ray.jobs import resolve_out
from omni_ray.runtime import connected
from omni_ray.train.launch import Changes, place, read_config

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    monkeypatch.delenv("OMNI_RAY_HOME", raising=False)
    return monkeypatch


@pytest.mark.parametrize("home", ["/shared/omni", "/shared/omni/", "s3://bucket/omni", "s3://bucket/omni/"])
def test_relative_places_lie_below_the_home(job: pytest.MonkeyPatch, home: str) -> None:
    job.setenv("OMNI_RAY_HOME", home)
    assert resolve_out("data") == f"{home.rstrip('/')}/data"
    assert resolve_out("/other/data") == "/other/data"
    assert resolve_out("s3://other/data") == "s3://other/data"


def test_a_config_s_places_lie_below_the_home_but_the_config_does_not(job: pytest.MonkeyPatch) -> None:
    job.setenv("OMNI_RAY_HOME", "/shared/omni")
    config = read_config("text", ROOT / "configs/thinker_tiny.json", Changes())
    assert config.model_dump()["train_text"] == "/shared/omni/data/text/production_corpus.txt"
    assert place(config, None) == ("/shared/omni/checkpoints", "thinker_tiny")
    assert place(config, "runs") == ("/shared/omni/runs/checkpoints", "thinker_tiny")
    assert place(config, "s3://bucket/runs") == ("s3://bucket/runs/checkpoints", "thinker_tiny")
    named = read_config("text", ROOT / "configs/thinker_tiny.json", Changes(data="corpora"))
    assert named.model_dump()["train_text"] == "/shared/omni/corpora/text/production_corpus.txt"


def test_without_a_home_a_relative_place_is_refused(job: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="data: a submitted job's working directory is deleted") as refused:
        resolve_out("data")
    assert refused.value.exit_code == 5
    assert "OMNI_RAY_HOME" in str(refused.value) and "--runtime-env-json" in str(refused.value)
    assert resolve_out("/abs") == "/abs"
    job.setenv("OMNI_RAY_HOME", "omni")
    with pytest.raises(Refused, match="OMNI_RAY_HOME=omni: give an absolute path"):
        resolve_out("data")


def test_a_job_starts_no_cluster_of_its_own(job: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="--address local: a submitted job works on the cluster"), connected("local", 1):
        pass


def test_elsewhere_a_relative_place_is_where_the_command_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    monkeypatch.setenv("OMNI_RAY_HOME", "/shared/omni")
    assert resolve_out("data") == "data"
    with pytest.raises(UsageError):
        resolve_out("")


def test_a_checkout_is_small_enough_to_submit() -> None:
    """What Ray sends is less still: `.gitignore` and `.rayignore` leave things out (tests/cluster/test_jobs.py)."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / name for name in listed.split("\0") if name]
    assert sum(path.stat().st_size for path in files if path.exists()) < 10_000_000
