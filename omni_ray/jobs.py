"""Where a command's relative paths lie, also inside a submitted Ray job."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from omni_ray.errors import Refused, UsageError


def resolve_out(place: str) -> str:
    """Where the path or uri `place` lies. Inside a submitted job the working directory is temporary and each node has
    its own, so a relative place is taken below OMNI_RAY_HOME.

    Raises:
        Refused: in a job, for a relative place without OMNI_RAY_HOME, or with one that is relative itself.
        UsageError: for an empty place.
    """
    if not place:
        raise UsageError("--out: give a folder")
    if _is_absolute(place) or not in_submitted_job():
        return place
    home = os.environ.get("OMNI_RAY_HOME", "")
    if not home:
        raise Refused(
            f"{place}: a submitted job's working directory is deleted with the job. Set OMNI_RAY_HOME to a folder that "
            f"every node has, or to an s3:// uri, where the cluster is started, or with the job ({_WITH_THE_JOB}); or "
            "give an absolute path or a uri"
        )
    if not _is_absolute(home):
        raise Refused(f"OMNI_RAY_HOME={home}: give an absolute path or a uri, as {_WITH_THE_JOB}")
    return f"{home.rstrip('/')}/{place}"


_WITH_THE_JOB = """--runtime-env-json '{"env_vars": {"OMNI_RAY_HOME": "/shared/omni"}}'"""


def _is_absolute(place: str) -> bool:
    return bool(urlsplit(place).scheme) or Path(place).is_absolute()


def in_submitted_job() -> bool:
    """Whether this process is the entry point of `ray job submit`."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
