"""A command ends where its cluster is lost."""

import socket
import threading
from collections.abc import Iterator

import pytest

from omni_ray import watch
from omni_ray.errors import OmniRayError
from omni_ray.watch import answers, watching


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the command said when it ended; a watch looks all the time."""
    said: list[str] = []

    def end_at_once(error: OmniRayError) -> None:
        said.append(str(error))
        over.set()

    over = threading.Event()
    monkeypatch.setattr(watch, "end_at_once", end_at_once)
    monkeypatch.setattr(watch, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(watch, "HEAD_SECONDS", 0.05)
    monkeypatch.setattr(watch, "_over", over, raising=False)
    yield said


def listening() -> tuple[socket.socket, str]:
    server = socket.create_server(("127.0.0.1", 0))
    return server, f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("lost", ["node", "head"])
def test_a_lost_cluster_ends_the_command(ended: list[str], capfd: pytest.CaptureFixture[str], lost: str) -> None:
    (head, head_address), (node, node_address) = listening(), listening()
    with head, node, watching(head_address, node_address):
        (node if lost == "node" else head).close()
        assert watch._over.wait(60), "the watch did not notice"  # type: ignore[attr-defined]
    what = "its processes on this machine have ended" if lost == "node" else "its head has not answered"
    assert all(what in said for said in ended)
    assert "start the cluster again" in ended[0]
    assert ("does not answer; waiting" in capfd.readouterr().err) == (lost == "head")


def test_a_cluster_that_is_there_is_left_alone(ended: list[str]) -> None:
    (head, head_address), (node, node_address) = listening(), listening()
    before = threading.active_count()
    with head, node, watching(head_address, node_address):
        for _ in range(3):  # connections that the watch made
            node.accept()[0].close()
            head.accept()[0].close()
    assert threading.active_count() == before
    assert not ended


def test_what_listens_answers() -> None:
    server, address = listening()
    with server:
        assert answers(address)
    assert not answers(address)
    assert answers("ray://somewhere") and not answers("")
