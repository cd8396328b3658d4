"""A run that lost its lease changes nothing more, wherever it was when it lost it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from omni_ray.lease import LEASE_FOLDER, newest_epoch
from omni_ray.prepare import combine, command, pipeline, reset
from omni_ray.storage import LocalStorage
from tests.e2e import harness, sources

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sources.write_sources(tmp_path_factory.mktemp("sources"), size=20_000)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, catalog: Path) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "out"
    done = harness.run(harness.prepare_text(out, catalog))
    assert done.code == 0, done.stderr
    return out


def before(action: Callable[..., object], out: Path) -> Callable[..., object]:
    """The same action, just before which another run takes the output over."""

    def taken(*arguments: object, **named: object) -> object:
        storage = LocalStorage(out)
        epoch = newest_epoch(storage)
        (out / f"{LEASE_FOLDER}/{epoch + 1:08d}.json").write_bytes(
            (out / f"{LEASE_FOLDER}/{epoch:08d}.json").read_bytes()
        )
        return action(*arguments, **named)

    return taken


@pytest.mark.parametrize(
    ("place", "name", "argv"),
    [
        (combine, "write_production", ["--max-gb", "0.00001"]),
        (combine, "stop_here", ["--max-gb", "0.00001"]),
        (combine, "write_product", ["--max-gb", "0.00001", "--no-combine"]),
        (reset, "forget_sources", ["--reset"]),
        (command, "to_request", ["--max-gb", "0.00001"]),
        (pipeline.SourceState, "misfits", ["--max-gb", "0.00001"]),
    ],
)
def test_nothing_changes_after_the_lease_is_lost(
    tmp_path: Path, prepared: Path, catalog: Path, place: object, name: str, argv: list[str],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "out"
    shutil.copytree(prepared, out)
    products, receipts = harness.products(out), harness.receipts(out)
    request = (out / ".omni_ray/text/request.json").read_bytes()
    monkeypatch.setattr(place, name, before(getattr(place, name), out))
    code = command.main(["text", "--catalog", str(catalog), "--out", str(out), "--address", "local", *argv])
    assert code == 5
    assert "another run took over" in capsys.readouterr().err
    assert harness.products(out) == products
    assert harness.receipts(out) == receipts
    if name == "to_request":
        assert (out / ".omni_ray/text/request.json").read_bytes() == request
