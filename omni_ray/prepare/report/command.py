"""`omni-ray report`: look at an output and write the page."""

from pathlib import Path
from urllib.parse import urlsplit

from omni_ray.errors import NotStored, UsageError
from omni_ray.prepare import every
from omni_ray.prepare.report.page import render
from omni_ray.prepare.report.survey import Figures, survey
from omni_ray.storage import LocalStorage, Storage, open_storage

FILE = "report.html"
ENDINGS = (".html", ".htm")
ATTEMPTS = 3  # to read an output whose derived files a run replaces meanwhile


def report(storage: Storage, to: str | None = None) -> int:
    """Write the page about an output to `to` (a path or an s3:// URI), by default beside the data, and say where it is;
    the exit code.

    Raises:
        UsageError: where nothing was ever prepared, or `to` names no page.
    """
    place, name = _place(storage, to)
    page = render(_name(storage), _looked(storage))
    place.put(name, page)
    print(f"{place.uri.rstrip('/')}/{name}" if place.uri != "." else name)
    return 0


def _looked(storage: Storage) -> list[Figures]:
    modalities = every.asked_for(storage)
    if not modalities:
        raise UsageError(
            f"{storage.uri}: nothing is prepared here; `omni-ray prepare --out {storage.uri}` does, or name another "
            "--out"
        )
    for _ in range(ATTEMPTS - 1):
        try:
            return [survey(storage, modality) for modality in modalities]
        except NotStored:  # what was listed a moment ago is part of a larger file by now
            continue
    return [survey(storage, modality) for modality in modalities]


def _place(storage: Storage, to: str | None) -> tuple[Storage, str]:
    if to is None:
        return storage, FILE
    folder, _, name = to.rpartition("/")
    if not name.lower().endswith(ENDINGS):
        raise UsageError(f"--to {to}: name the page to write, as {to.rstrip('/') or '.'}/{FILE}")
    if not urlsplit(to).scheme and Path(to).is_dir():
        raise UsageError(f"--to {to}: this is a folder; name the page to write")
    return open_storage(folder or ("/" if to.startswith("/") else ".")), name


def _name(storage: Storage) -> str:
    """What the output is called, in the same way from wherever it is looked at."""
    return Path(storage.location).resolve().name if isinstance(storage, LocalStorage) else storage.uri
