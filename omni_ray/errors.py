"""The errors of omni_ray.

Every message says what happened, where (file, key, row) and what to do. Each class carries the exit code that a
command ends with when the error reaches the top: 1 failed, 2 wrong usage, 3 below the asked minimum, 4 a source
failed, 5 refused, 130 interrupted.
"""

from collections.abc import Sequence


class OmniRayError(Exception):
    """Root of every error that omni_ray raises on purpose."""

    exit_code = 1


class UsageError(OmniRayError):
    """The command line, the catalog or a config asks for something that cannot be."""

    exit_code = 2


class NothingNamed(UsageError):
    """Nothing of a modality is asked for."""


class CatalogError(UsageError):
    """A catalog entry is wrong; the message names file, source and key."""


class ConfigError(UsageError):
    """A config is wrong; the message names file, key, value and what is allowed."""


class DataError(OmniRayError):
    """A data file is not what it should be: empty, truncated, of another format."""


class StorageError(OmniRayError):
    """A read or a write failed; trying again may help (disk full, network, permission)."""


class NotStored(StorageError):
    """Nothing is stored under the key that was to be read."""


class Unwritten(StorageError):
    """What was made could not be put into the output."""


class TasksLost(OmniRayError):
    """Tasks whose process or node ended each time that they were run; `tasks` are their encoded descriptions."""

    def __init__(self, message: str, tasks: Sequence[bytes]) -> None:
        super().__init__(message)
        self.tasks = tuple(tasks)


class LedgerCorrupt(OmniRayError):
    """A ledger record in the middle of a ledger does not match its checksum."""


class SourceFailed(OmniRayError):
    """A whole source could not be reached or read; the others went on."""

    exit_code = 4


class BelowMinimum(OmniRayError):
    """`--min-gb` was given and the sources hold less."""

    exit_code = 3


class Refused(OmniRayError):
    """The run stops before it touches anything."""

    exit_code = 5


class LeaseHeld(Refused):
    """Another run holds the output."""


class LeaseLost(Refused):
    """This run held the output, and another run has taken it over since."""


class FingerprintMismatch(Refused):
    """What exists was made from other settings or other source files."""


class NotInThisVersion(Refused):
    """A part of the contract that this version does not have; the message names the way that works now."""


class Interrupted(OmniRayError):
    """Ctrl-C or SIGTERM: what is committed stays, the same command goes on."""

    exit_code = 130
