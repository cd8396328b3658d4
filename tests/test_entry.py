"""How a command ends: by Ctrl-C and SIGTERM, once and again."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from omni_ray import entry, runtime

BOTH = (signal.SIGINT, signal.SIGTERM)

# As a library whose destructor ends the process in its own way.
LIBRARY = """
import ctypes, runpy, sys
libc = ctypes.CDLL(None)
libc.__cxa_atexit(libc._exit, ctypes.c_void_p(77), None)
"""
DOORS = (
    ("-m omni_ray.prepare text --out {out} --dataset nowhere", 5),
    ("-m omni_ray.train --stage text --config {out}/none.json", 2),
    ("-m omni_ray.cli status --out {out}", 2),
    ("scripts/train_text.py --config {out}/none.json", 2),
    ("scripts/download_production_text.py --out {out} --dataset nowhere", 5),
    ("scripts/download_production_audio.py --out {out} --dataset nowhere", 5),
    ("scripts/download_production_image.py --out {out} --dataset nowhere", 5),
    ("scripts/update_configs_from_data.py --data-dir {out} --configs-dir {out}", 2),
    ("scripts/make_synthetic_datasets.py --out {out} --only text", 0),
)


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


def python(code: str, *, stdout: int = subprocess.PIPE) -> tuple[int, str]:
    ended = subprocess.run([sys.executable, "-c", LIBRARY + code], stdout=stdout, stderr=subprocess.PIPE, text=True)
    return ended.returncode, (ended.stdout or "") + ended.stderr


def test_a_library_that_is_taken_down_does_not_change_the_exit_code() -> None:
    assert python("sys.exit(3)")[0] == 77
    assert python("from omni_ray import entry; entry.end(3)")[0] == 3


def test_what_python_does_at_its_end_is_done() -> None:
    code = """
import atexit, threading
from omni_ray import entry
def late():
    stop.wait()
    print("thread")
stop = threading.Event()
threading.Thread(target=late).start()
atexit.register(print, "atexit")
print("command")
threading.Timer(0, stop.set).start()
entry.end(3)
"""
    assert python(code) == (3, "command\nthread\natexit\n")


def test_what_cannot_be_said_is_told() -> None:
    with open("/dev/full", "w") as full:
        code, told = python("from omni_ray import entry; print('lost'); entry.end(0)", stdout=full.fileno())
    assert code != 0
    assert "No space left on device" in told


@pytest.mark.parametrize(("door", "code"), DOORS)
def test_every_door_ends_so(door: str, code: int, tmp_path: Path) -> None:
    how, name, *arguments = ("" if door.startswith("-m") else "path ").split() + door.format(out=tmp_path).split()
    run = f"runpy.run_{'module' if how == '-m' else 'path'}({name!r}, run_name='__main__')"
    assert python(f"sys.argv[1:] = {arguments}; {run}")[0] == code
