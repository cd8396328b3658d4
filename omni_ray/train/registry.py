"""The stages that this version has, by name."""

from collections.abc import Mapping
from typing import Any, Protocol

from omni_ray.config import STAGES, StageConfig
from omni_ray.errors import NotInThisVersion
from omni_ray.storage import Storage
from omni_ray.train.stages import text
from omni_ray.train.task import Task
from omni_ray.train.token_store import RunTasks


class Room(Protocol):
    """What the module of a stage offers."""

    SMOKE: Mapping[str, Any]  # config values of a run that only shows that everything works

    def prepare(self, config: StageConfig, storage: Storage, run_tasks: RunTasks) -> bytes:
        """Make what training reads, where it is not there yet; called once, before there are ranks."""

    def open_task(self, config: StageConfig, prepared: bytes, device: str) -> Task:
        """The task, from what `prepare` gave; called in every rank."""


ROOMS: Mapping[str, Room] = {"text": text}


def room(stage: str) -> Room:
    """
    Raises:
        NotInThisVersion: naming the stage.
    """
    found = ROOMS.get(stage)
    if found is None:
        here = ", ".join(ROOMS)
        raise NotInThisVersion(
            f"--stage {stage}: this version does not have stage {STAGES[stage].letter} ({STAGES[stage].title}) yet; "
            f"it has: {here}"
        )
    return found
