import pytest

from tests.prepare import inprocess


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks run in this process."""
    inprocess.without_ray(monkeypatch)
