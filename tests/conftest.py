"""What holds for every test."""

import pytest
from hypothesis import settings

from omni_ray import entry

settings.register_profile("unhurried", deadline=None)  # how long an example takes says nothing about the code here
settings.load_profile("unhurried")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    """Everything was said; what some library does when it is taken down is no test's result."""
    entry.leave_with(exitstatus)
