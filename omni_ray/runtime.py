"""Connecting to Ray, and where a command's relative paths lie."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import ray

from omni_ray.errors import OmniRayError, Refused, UsageError

OBJECT_STORE_BYTES = 256 << 20  # receipts and task descriptions only: payload never travels through it


@contextmanager
def connected(address: str, workers: int | None) -> Iterator[int]:
    """Connect to Ray for the length of a `with`; gives the number of CPUs of the cluster.

    Args:
        address: "auto" (a cluster that runs here or that RAY_ADDRESS names, else a local one), "local", or HOST:PORT.
        workers: CPUs of a local cluster; None takes this machine's.
    """
    if not ray.is_initialized():
        _connect(address, workers)
        try:
            yield _cpus()
        finally:
            ray.shutdown()
    else:
        yield _cpus()


def _connect(address: str, workers: int | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if address != "local":
        try:
            ray.init(address=address, **quiet)
            return
        except ConnectionError as error:
            if address != "auto" or os.environ.get("RAY_ADDRESS"):
                named = os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
                raise OmniRayError(
                    f"no Ray cluster answers at {named}: {error}; start one (`ray start --head`) or use --address local"
                ) from error
    ray.init(
        address="local",
        num_cpus=workers or os.cpu_count(),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        **quiet,
    )


def _cpus() -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def resolve_out(out: str) -> str:
    """Where `out` lies. Inside a submitted Ray job the working directory is temporary, so a relative place is taken
    below OMNI_RAY_HOME.

    Raises:
        Refused: in a job, for a relative place without OMNI_RAY_HOME.
        UsageError: for an empty place.
    """
    if not out:
        raise UsageError("--out: give a folder")
    if urlsplit(out).scheme or Path(out).is_absolute() or not in_submitted_job():
        return out
    home = os.environ.get("OMNI_RAY_HOME")
    if not home:
        raise Refused(
            f"--out {out}: a submitted job's working directory is deleted with the job; set OMNI_RAY_HOME in the job's "
            'environment (--runtime-env-json \'{"env_vars": {"OMNI_RAY_HOME": "/shared/omni"}}\') or give an absolute '
            "--out"
        )
    return f"{home.rstrip('/')}/{out}"


def in_submitted_job() -> bool:
    """Whether this process is the entry point of `ray job submit`."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
