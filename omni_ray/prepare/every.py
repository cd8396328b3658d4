"""Commands over several modalities, one after the other."""

import sys
from collections.abc import Callable, Sequence

from omni_ray.catalog import MODALITIES, Modality
from omni_ray.connection import one_connection
from omni_ray.errors import (
    BelowMinimum,
    Interrupted,
    NothingNamed,
    OmniRayError,
    Refused,
    SourceFailed,
    UsageError,
)
from omni_ray.prepare import store
from omni_ray.storage import Storage

_GRAVE = (BelowMinimum, SourceFailed, Refused, OmniRayError)  # the last one decides the exit code


def each(modalities: Sequence[Modality], action: Callable[[Modality], int]) -> int:
    """Run an action for every modality; one that fails does not keep the others from their turn.

    Those that connect to Ray share one connection. What concerns none of them is passed over, unless it concerns no
    modality at all.

    Raises:
        UsageError: where nothing is to be done for any of them.
        OmniRayError: the gravest, after the messages of the others.
    """
    failed: list[OmniRayError] = []
    idle: list[NothingNamed] = []
    code = 0
    with one_connection():
        for modality in modalities:
            try:
                code = max(code, action(modality))
            except NothingNamed as error:
                idle.append(error)
            except (Interrupted, UsageError):
                raise
            except OmniRayError as error:
                failed.append(error)
    if len(idle) == len(modalities):
        raise idle[0]
    failed.sort(key=_gravity)
    for message in {str(one): None for one in failed[:-1]} if failed else ():
        if message != str(failed[-1]):
            print(f"omni_ray: {message}", file=sys.stderr)
    if failed:
        raise failed[-1]
    return code


def prepared(storage: Storage) -> tuple[Modality, ...]:
    """The modalities that an output was ever asked for; text where it is none."""
    return asked_for(storage) or ("text",)


def asked_for(storage: Storage) -> tuple[Modality, ...]:
    """The modalities that an output was ever asked for."""
    return tuple(modality for modality in MODALITIES if storage.exists(store.request_key(modality)))


def _gravity(error: OmniRayError) -> int:
    return next(number for number, kind in enumerate(_GRAVE) if isinstance(error, kind))
