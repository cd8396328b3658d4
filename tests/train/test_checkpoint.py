"""Checkpoints: whole or not there, checked when read; and what is reported beside them."""

import json
from pathlib import Path

import msgspec
import pytest
import torch

from omni_ray.errors import DataError, LeaseLost
from omni_ray.lease import LEASE_FOLDER
from omni_ray.models.layers import Attend
from omni_ray.models.thinker import Thinker
from omni_ray.storage import LocalStorage
from omni_ray.train import checkpoint, metrics, token_store
from omni_ray.train.feed import feeding
from omni_ray.train.loop import Hooks
from omni_ray.train.plan import differences, resumed
from omni_ray.train.stages.text import TextTask
from omni_ray.train.task import Batch
from tests.train import small
from tests.train.ranks import run_ranks


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, ready: token_store.Ready) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    small.training(folder, ready, small.config(keep_checkpoints=2)).run(Hooks())
    return folder


def files_of(folder: Path) -> dict[Path, bytes]:
    """All but the events of tensorboard, of which each start writes a file of its own."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != "tensorboard")
    return {path: path.read_bytes() for path in files}


def test_exported_weights_reload_to_equal_logits(tmp_path: Path, ready: token_store.Ready) -> None:
    run = small.training(tmp_path, ready, small.config())
    run.run(Hooks())
    saved = checkpoint.Checkpoint(LocalStorage(tmp_path), "run", 12)
    model = Thinker(small.config(**{"seed": 99}))
    saved.load_model(model)
    tokens = torch.arange(40).view(2, 20)
    run.engine.model.eval()
    expected, found = (one.logits(one(one.embed(tokens), Attend())[0]) for one in (run.engine.model, model.eval()))
    assert torch.equal(expected, found)
    assert saved.config == small.config().model_dump(mode="json")
    assert saved.read("tokenizer.json")


def test_the_newest_ones_are_kept(finished: Path) -> None:
    assert checkpoint.complete_steps(LocalStorage(finished), "run") == {8, 12}
    assert sorted(path.name for path in (finished / "run").glob("step_*")) == ["step_00000008", "step_00000012"]


def test_killed_while_a_checkpoint_is_written_the_one_before_loads(tmp_path: Path, ready: token_store.Ready) -> None:
    run_ranks(small.run_rank, 1, tmp_path, ready, {}, 4, None, stop="checkpointing@2")
    storage = LocalStorage(tmp_path)
    assert (tmp_path / "run/step_00000008/model.safetensors").exists(), "the kill came before anything was written"
    assert checkpoint.newest(storage, "run") == 4
    resumed_run = small.training(tmp_path, ready, small.config())
    assert resumed_run.step == 4
    resumed_run.run(Hooks())
    assert checkpoint.newest(storage, "run") == 12


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_file_is_named(tmp_path: Path, ready: token_store.Ready, finished: Path, name: str) -> None:
    place = tmp_path / "run/step_00000012"
    place.mkdir(parents=True)
    for path in (finished / "run/step_00000012").iterdir():
        data = bytearray(path.read_bytes())
        if path.name == name:
            data[len(data) // 2] ^= 1
        (place / path.name).write_bytes(data)
    with pytest.raises(DataError, match=f"step_00000012/{name}: is not what was written"):
        small.training(tmp_path, ready, small.config())


def test_nothing_of_a_checkpoint_is_code(finished: Path) -> None:
    """A pickle begins with its protocol; what is here is JSON or safetensors."""
    for path in (finished / "run/step_00000012").iterdir():
        data = path.read_bytes()
        if path.suffix == ".safetensors":
            json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        else:
            json.loads(data)


def test_a_run_that_lost_its_lease_writes_nothing_more(tmp_path: Path, ready: token_store.Ready) -> None:
    run = small.training(tmp_path, ready, small.config())
    LocalStorage(tmp_path / "run").put(f"{LEASE_FOLDER}/00000001.json", b"{}")  # of another run, which took over
    before = files_of(tmp_path)
    with pytest.raises(LeaseLost, match="another run took over"):
        run.run(Hooks())
    assert files_of(tmp_path) == before


def test_an_error_of_the_writer_reaches_the_run(
    tmp_path: Path, ready: token_store.Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "write_snapshot", full)
    with pytest.raises(OSError, match="disk full"):
        small.training(tmp_path, ready, small.config()).run(Hooks())


def test_rows_after_the_restored_step_are_cut(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    first = metrics.Metrics(storage, "run", 0, print)
    for step in range(1, 8):
        first.add({"step": step, "loss": 1.0 / step})
    first.close()
    again = metrics.Metrics(storage, "run", 4, print)
    again.add({"step": 5, "loss": float("nan")})
    again.close()
    rows = metrics.read_rows(storage, "run")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[-1]["loss"] is None


def test_differences_are_named(ready: token_store.Ready) -> None:
    config = small.config()
    task = TextTask(config, ready, "cpu")
    plan = small.make_plan(config, task)
    assert differences(plan, config, task.rows, task.fingerprints) == []
    harmless = small.config(print_freq=1, val_freq=2, num_workers=0, save_dir="moved", batch_size=2)
    assert differences(plan, harmless, task.rows, task.fingerprints) == []
    assert resumed(plan, harmless).val_freq == 2 and resumed(plan, harmless).checkpoint_freq == 4
    older = {key: value for key, value in plan.config.items() if key != "use_amp_cpu"}
    before = msgspec.structs.replace(plan, config=older)
    assert differences(before, config, task.rows, task.fingerprints) == [], "a key that came since is its default"
    changed = differences(before, small.config(use_amp_cpu=True), task.rows, task.fingerprints)
    assert changed == ["config use_amp_cpu: False -> True"]
    found = differences(plan, small.config(d_ff=64, lr=1e-4), task.rows + 1, {**task.fingerprints, "corpus": "x"})
    assert found == [
        "config d_ff: 48 -> 64",
        "config lr: 0.003 -> 0.0001",
        f"corpus: {task.fingerprints['corpus']} -> x",
        f"training rows: {task.rows:,} -> {task.rows + 1:,}",
    ]


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_feed_gives_steps_in_order_and_raises_its_errors(depth: int) -> None:
    def make(step: int) -> list[Batch]:
        if step == 5:
            raise DataError("row 5 is broken")
        return [Batch({}, step, 0)]

    with feeding(make, 2, 9, depth) as feed:
        assert [feed.next()[0].targets for _ in range(3)] == [2, 3, 4]
        with pytest.raises(DataError, match="row 5"):
            feed.next()


def test_a_feed_that_is_left_ends_its_thread() -> None:
    import threading

    before = threading.active_count()
    with feeding(lambda step: [Batch({}, step, 0)], 0, 1000, 2) as feed:
        feed.next()
    assert threading.active_count() == before
