"""`ray job submit` as a user types it, against a cluster that wants a token."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil
import requests

from tests.cluster import nodes
from tests.e2e import harness

ROOT = Path(__file__).resolve().parents[2]
TERMINAL = {"SUCCEEDED", "STOPPED", "FAILED"}


class Job(NamedTuple):
    status: str
    message: str
    log: str


class Office:
    """A head with a dashboard and a token, begun in a checkout; jobs are submitted from there."""

    def __init__(self, cluster: nodes.Cluster, checkout: Path, home: Path, token: str) -> None:
        self.cluster, self.checkout, self.home, self.token = cluster, checkout, home, token

    def submit(self, *arguments: str, environment: Mapping[str, str] | None = None) -> harness.Done:
        """`ray job submit`; it ends with the job, unless `--no-wait` is given."""
        return self.ray("job", "submit", *arguments, environment=environment)

    def ray(self, *arguments: str, environment: Mapping[str, str] | None = None) -> harness.Done:
        return harness.run(
            [str(nodes.RAY), *arguments], cwd=self.checkout, **{**self.cluster.environment, **(environment or {})}
        )

    def job(self, name: str) -> Job:
        """A job as Ray's server tells of it."""
        found = self._get(f"/api/jobs/{name}").json()
        return Job(found["status"], found["message"] or "", self._get(f"/api/jobs/{name}/logs").json()["logs"])

    def jobs(self) -> list[str]:
        return sorted(job["submission_id"] for job in self._get("/api/jobs/").json() if job["submission_id"])

    def ended(self, name: str) -> Job:
        wait_for(lambda: self.job(name).status in TERMINAL, f"the end of job {name}")
        return self.job(name)

    @contextlib.contextmanager
    def workers_paused(self, kind: str) -> Iterator[None]:
        """Worker processes at such a task or actor stand still meanwhile, so that what they do goes no further."""
        raylet = self.cluster.nodes[0].raylet
        at_work: list[psutil.Process] = []

        def pause() -> bool:
            at_work.extend(one for one in raylet.children(recursive=True) if kind in nodes.title(one))
            for process in at_work:
                process.suspend()
            return bool(at_work)

        wait_for(pause, f"a worker at {kind}")
        try:
            yield
        finally:
            for process in at_work:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def package(self) -> int:
        """Bytes of the largest submitted directory as the cluster has it."""
        found = self.cluster.folder.glob("n0/session_2*/runtime_resources/working_dir_files/_ray_pkg_*")
        folders = [folder for folder in found if folder.is_dir()]
        assert folders, "nothing was submitted"
        return max(sum(path.stat().st_size for path in one.rglob("*") if path.is_file()) for one in folders)

    def logs(self) -> Iterator[tuple[Path, bytes]]:
        """Every file of Ray's logs."""
        for path in self.cluster.folder.glob("n0/session_2*/logs/**/*"):
            if path.is_file():
                yield path, path.read_bytes()

    def _get(self, path: str) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = requests.get(f"{self.cluster.dashboard}{path}", headers=headers, timeout=nodes.PATIENCE)
        answer.raise_for_status()
        return answer


@contextlib.contextmanager
def office(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Office]:
    """From nothing: a clean checkout, a token as `ray get-auth-token --generate` makes it, `ray start --head`."""
    checkout, home, user = folder / "checkout", folder / "omni-home", folder / "user"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(checkout)], check=True, timeout=nodes.PATIENCE)
    home.mkdir()
    user.mkdir()
    path = f"{nodes.RAY.parent}{os.pathsep}{os.environ['PATH']}"
    every = {"PATH": path, "HOME": str(user), "RAY_AUTH_MODE": "token", "OMNI_RAY_HOME": str(home), "PYTHONPATH": ""}
    made = harness.run([str(nodes.RAY), "get-auth-token", "--generate"], **every)
    assert made.code == 0, made.stderr
    with (
        contextlib.chdir(checkout),
        nodes.cluster(cpus=2, dashboard=True, environment={**every, **(environment or {})}) as cluster,
    ):
        cluster.environment["RAY_API_SERVER_ADDRESS"] = cluster.dashboard
        started = Office(cluster, checkout, home, made.stdout.strip())
        wait_for(lambda: _answers(started), "Ray's job server")
        yield started


def wait_for(reached: Callable[[], bool], what: str) -> None:
    began = time.monotonic()
    while not reached():
        assert time.monotonic() - began < harness.PATIENCE, f"{what} did not come"
        time.sleep(0.05)  # polling, not synchronisation: the loop ends by the condition alone


def _answers(started: Office) -> bool:
    try:
        return started.jobs() == []
    except requests.RequestException:
        return False


def python(*arguments: str) -> list[str]:
    """What is submitted."""
    return ["--", "python", "-m", *arguments]
