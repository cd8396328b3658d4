"""`omni-ray retry`: what was quarantined for a cause that has gone comes in; killed or refused, nothing is lost."""

import os
from pathlib import Path

import pytest

from omni_ray import cli
from omni_ray.prepare import status
from omni_ray.storage import LocalStorage
from tests.e2e.harness import products
from tests.prepare import inprocess

pytestmark = pytest.mark.usefixtures("no_ray")
RETRY = ("--reason", "undecodable")


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """Two sources, each with records that cannot be decoded as long as some of its bytes are not what they were."""
    catalog = inprocess.write(tmp_path / "in", "a", "b", "c")
    for name in ("a", "b"):
        damage(tmp_path / f"in/{name}.txt", b"line", b"li\xffe")
    return catalog


def damage(path: Path, old: bytes, new: bytes) -> None:
    """What a bad sector does, and a copy that is put back with its time: size and time stay."""
    stat = path.stat()
    data = path.read_bytes()
    path.write_bytes(
        b"".join(line.replace(old, new) if at % 50 == 9 else line for at, line in enumerate(data.splitlines(True)))
    )
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def mend(catalog: Path) -> None:
    for name in ("a", "b"):
        damage(catalog.with_name(f"{name}.txt"), b"li\xffe", b"line")


def quarantined(out: Path) -> int:
    storage = LocalStorage(out)
    states = status.load_states(storage, "text", status.asked_of(status.load_request(storage, "text"), storage))
    return sum(sum(r.quarantined.values()) for state in states.values() for r in state.decoded())


@pytest.fixture
def fresh(tmp_path: Path, catalog: Path) -> dict[str, str]:
    """What a run makes that finds everything whole."""
    mend(catalog)
    out = tmp_path / "fresh"
    assert inprocess.prepare(out, catalog) == 0
    for name in ("a", "b"):
        damage(catalog.with_name(f"{name}.txt"), b"line", b"li\xffe")
    return products(out)


def test_a_cause_that_has_gone(
    tmp_path: Path, catalog: Path, fresh: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert inprocess.prepare(out, catalog) == 0
    assert quarantined(out) == 16
    before = products(out)
    assert before != fresh
    assert inprocess.omni("retry", out, *RETRY) == 0
    assert (
        "0 of 16 records quarantined as undecodable are in now; 16 records stay quarantined" in capsys.readouterr().err
    )
    assert products(out) == before
    mend(catalog)
    assert inprocess.omni("retry", out, *RETRY) == 0
    assert (
        "16 of 16 records quarantined as undecodable are in now; 0 records stay quarantined" in capsys.readouterr().err
    )
    assert products(out) == fresh
    assert inprocess.omni("verify", out) == 0
    assert inprocess.omni("retry", out, *RETRY) == 0
    assert "0 records stay quarantined as undecodable" in capsys.readouterr().err
    assert inprocess.omni("retry", out, "--reason", "bad_json") == 2
    assert "nothing is quarantined under it; reasons there are: none" in capsys.readouterr().err


@pytest.mark.parametrize("point", ["planning", "planning@2", "decoding@3", "ledger", "combining", "publishing"])
def test_the_same_command_goes_on_after_a_kill(
    tmp_path: Path, catalog: Path, fresh: dict[str, str], point: str
) -> None:
    out = tmp_path / "out"
    assert inprocess.prepare(out, catalog) == 0
    mend(catalog)
    inprocess.killed(out, point, "retry", *RETRY)
    assert inprocess.omni("retry", out, *RETRY) == 0
    assert inprocess.omni("verify", out) == 0
    assert products(out) == fresh


def test_prepare_goes_on_after_a_killed_retry_too(tmp_path: Path, catalog: Path, fresh: dict[str, str]) -> None:
    out = tmp_path / "out"
    assert inprocess.prepare(out, catalog) == 0
    mend(catalog)
    inprocess.killed(out, "decoding@3", "retry", *RETRY)
    assert inprocess.prepare(out, catalog) == 0
    assert products(out) == fresh


def test_a_source_that_cannot_be_read_is_left_as_it_is(
    tmp_path: Path, catalog: Path, fresh: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert inprocess.prepare(out, catalog) == 0
    mend(catalog)
    moved = catalog.with_name("a.txt").rename(tmp_path / "elsewhere.txt")
    assert inprocess.omni("retry", out, *RETRY) == 4
    assert "a: " in capsys.readouterr().err
    assert inprocess.omni("verify", out) == 0
    assert quarantined(out) == 8, "the other source's records are in"
    moved.rename(catalog.with_name("a.txt"))
    assert inprocess.omni("retry", out, *RETRY) == 0
    assert products(out) == fresh


def test_values_that_argparse_refuses() -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["retry", "--reason", "all", "--workers", "-1"])
    assert ended.value.code == 2
