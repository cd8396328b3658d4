"""A command ends where its cluster is lost."""

import socket
import threading

import pytest

from omni_ray import watch
from omni_ray.errors import OmniRayError
from omni_ray.watch import answers, watching


class Ended:
    """What the command said when it ended."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.event = threading.Event()

    def end_at_once(self, error: OmniRayError) -> None:
        self.said.append(str(error))
        self.event.set()


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Ended:
    """A command that does not really end; a watch looks all the time."""
    made = Ended()
    monkeypatch.setattr(watch, "end_at_once", made.end_at_once)
    monkeypatch.setattr(watch, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(watch, "HEAD_SECONDS", 0.05)
    return made


def listening() -> tuple[socket.socket, str]:
    server = socket.create_server(("127.0.0.1", 0))
    return server, f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("lost", ["node", "head"])
def test_a_lost_cluster_ends_the_command(ended: Ended, capfd: pytest.CaptureFixture[str], lost: str) -> None:
    (head, head_address), (node, node_address) = listening(), listening()
    with head, node, watching(head_address, node_address):
        (node if lost == "node" else head).close()
        assert ended.event.wait(60), "the watch did not notice"
    what = "its processes on this machine have ended" if lost == "node" else "its head has not answered"
    assert all(what in said for said in ended.said)
    assert "start the cluster again" in ended.said[0]
    assert ("does not answer; waiting" in capfd.readouterr().err) == (lost == "head")


def test_a_cluster_that_is_there_is_left_alone(ended: Ended) -> None:
    (head, head_address), (node, node_address) = listening(), listening()
    before = threading.active_count()
    with head, node, watching(head_address, node_address):
        for _ in range(3):  # connections that the watch made
            node.accept()[0].close()
            head.accept()[0].close()
    assert threading.active_count() == before
    assert not ended.said


def test_what_listens_answers() -> None:
    server, address = listening()
    with server:
        assert answers(address)
    assert not answers(address)
    assert answers("ray://somewhere") and answers("ray://somewhere:10001") and not answers("")
