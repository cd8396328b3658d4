import pytest

from omni_ray.prepare import command
from tests.prepare import inprocess


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks run in this process."""
    monkeypatch.setattr(command, "_tasks_runner", lambda *_: inprocess.run_here)
