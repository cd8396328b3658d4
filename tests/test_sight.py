"""What nodes see of an output, with the nodes in this process; those of a cluster: tests/cluster/test_shared.py."""

from pathlib import Path

import pytest

from omni_ray import runtime, sight
from omni_ray.errors import Refused, StorageError
from omni_ray.storage import LocalStorage, Storage, open_storage


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "outlives_us", lambda: True)
    monkeypatch.setattr(runtime, "this_node", lambda: "abc (10.0.0.7)")
    monkeypatch.setattr(runtime, "ask_nodes", lambda question: {name: question(name) for name in ("a (1)", "b (2)")})


def test_nodes_that_see_everything_leave_nothing_but_the_mark(tmp_path: Path) -> None:
    for _ in range(2):
        seen = sight.look(LocalStorage(tmp_path), [str(tmp_path)])
        assert seen is not None
        seen.check()
        assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [seen.mark]


def test_a_node_that_sees_another_folder(tmp_path: Path) -> None:
    seen = sight.look(LocalStorage(tmp_path / "here"))
    assert seen is not None
    there = sight.Sight(str(tmp_path / "there"), seen.mark, ())
    with pytest.raises(Refused, match=r"there: not seen by node abc \(10.0.0.7\).* s3://"):
        there.check()


def test_a_node_whose_writing_is_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "ask_nodes", lambda question: {"a (1)": ""})
    with pytest.raises(Refused, match=r"what node a \(1\) of the Ray cluster writes there is not seen here"):
        sight.look(LocalStorage(tmp_path))


def test_a_node_that_lacks_a_source(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"raw.txt: not seen by node abc .*put the data into a folder"):
        sight.look(LocalStorage(tmp_path), [str(tmp_path / "raw.txt")])


def test_a_cluster_of_our_own_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "outlives_us", lambda: False)
    assert sight.look(LocalStorage(tmp_path)) is None
    assert not any(tmp_path.rglob("*"))


@pytest.mark.parametrize(("failures", "seen_after"), [(2, True), (3, False)])
def test_an_output_that_fails_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, seen_after: bool
) -> None:
    seen = sight.look(LocalStorage(tmp_path))
    assert seen is not None
    left = [StorageError("503 Slow Down")] * failures

    def opened(uri: str) -> Storage:
        if left:
            raise left.pop()
        return open_storage(uri)

    sight._missing.cache_clear()
    monkeypatch.setattr(sight, "open_storage", opened)
    monkeypatch.setattr(sight.time, "sleep", lambda seconds: None)
    if seen_after:
        seen.check()
    else:
        with pytest.raises(Refused, match=r"cannot be read on node abc \(10.0.0.7\) .*503"):
            seen.check()
    seen.check()
