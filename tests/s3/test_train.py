"""Training whose corpus, token store, checkpoints and reports are on S3."""

from pathlib import Path

import pytest

from omni_ray.storage import Storage, open_storage
from omni_ray.train import checkpoint, corpus, metrics, token_store
from omni_ray.train.loop import Hooks, Training
from omni_ray.train.plan import Orders
from omni_ray.train.stages.text import TextTask
from omni_ray.train.team import Team
from tests.s3.conftest import BUCKET
from tests.s3.proxy import Proxy
from tests.train import small

RUN = "checkpoints/run"


def train(storage: Storage, ready: token_store.Ready, stop_at: int | None) -> Training:
    config = small.config()
    task = TextTask(config, ready, "cpu")
    orders = Orders(storage.location, RUN, stop_at, record_ids=True)
    run = Training(task, config, small.make_plan(config, task), orders, Team.alone(), storage)
    run.run(Hooks())
    return run


def rows(storage: Storage) -> list[metrics.Row]:
    return [{key: value for key, value in row.items() if key != "at"} for row in metrics.read_rows(storage, RUN)]


def test_a_run_on_s3_is_the_run_on_a_disk(proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "cache"))  # copies of rows go there
    (tmp_path / "cache").mkdir()
    text = small.write_corpus(tmp_path / "local/corpus.txt").read_bytes()
    remote, local = open_storage(f"s3://{BUCKET}/training"), open_storage(str(tmp_path / "local"))
    remote.put("corpus.txt", text)
    found = {}
    for storage in (remote, local):
        source = corpus.find(f"{storage.location}/corpus.txt")
        ready = token_store.build(storage, source, small.VOCAB, small.CTX, 0.1, small.run_here)
        assert train(storage, ready, 6).step == 6
        assert train(storage, ready, None).step == 12
        saved = checkpoint.Checkpoint(storage, RUN, 12)
        found[storage.uri] = (rows(storage), saved.read("model.safetensors"))
    first, second = found.values()
    assert first == second
    assert checkpoint.complete_steps(remote, RUN) == checkpoint.complete_steps(local, RUN) == {6, 8, 12}
    assert any("tensorboard/" in stat.key for stat in remote.list(RUN))
    assert checkpoint.move_aside(remote, RUN) == f"{RUN}-old-1"
    assert checkpoint.complete_steps(remote, f"{RUN}-old-1") == {6, 8, 12} and not list(remote.list(RUN))
