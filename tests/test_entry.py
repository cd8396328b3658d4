"""How a command ends: by Ctrl-C and SIGTERM, once and again."""

import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from omni_ray import entry, runtime

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in BOTH}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", BOTH)
def test_both_signals_end_as_130(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.guarded(lambda: signal.raise_signal(number) or 0) == 130
    assert "the same command goes on from there" in capsys.readouterr().err


@pytest.mark.parametrize("second", BOTH)
def test_a_second_signal_does_not_cut_the_clean_up_short(second: signal.Signals) -> None:
    cleaned = []

    def action() -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(second)
            cleaned.append(second)
        return 0

    assert entry.guarded(action) == 130
    assert cleaned == [second]
    for number in BOTH:
        signal.raise_signal(number)  # the process is about to exit with its code


def test_a_signal_that_some_library_swallowed_can_be_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "PATIENCE_SECONDS", 0.0)

    def action() -> int:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        return 0

    assert entry.guarded(action) == 130


def test_a_command_that_ends_by_itself_leaves_the_handlers_as_they_were() -> None:
    before = [signal.getsignal(number) for number in BOTH]
    assert entry.guarded(lambda: 3) == 3
    assert [signal.getsignal(number) for number in BOTH] == before


def test_connecting_to_ray_leaves_the_handler_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as ray.init does

    monkeypatch.setattr(runtime.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(runtime.ray, "init", init)
    monkeypatch.setattr(runtime.ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(runtime.ray, "shutdown", init)
    monkeypatch.setattr(runtime, "_where", lambda: ("head", "node"))
    stopped = []

    def action() -> int:
        with runtime.connected("local", 2):
            handler = signal.getsignal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is handler
        with runtime.connected("local", 2):
            signal.raise_signal(signal.SIGTERM)
            stopped.append("too late")
        return 0

    assert entry.guarded(action) == 130
    assert not stopped


def test_sigterm_while_ray_starts_is_a_stop_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**options: object) -> None:
        raise SystemExit(signal.SIGTERM)  # what its own handler does

    monkeypatch.setattr(runtime.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(runtime.ray, "init", init)

    def action() -> int:
        with runtime.connected("local", 2):
            return 0

    assert entry.guarded(action) == 130
