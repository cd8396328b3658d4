"""Killed at any point, both modalities, both layouts: the same command ends with the files of an undisturbed run."""

import os
from pathlib import Path

import pytest

from omni_ray.storage import TEMP_PREFIX
from tests.e2e.harness import assert_still_prefix, products
from tests.prepare import inprocess
from tests.prepare.media import world
from tests.prepare.media.pairs import FAST, PAIRS

pytestmark = pytest.mark.usefixtures("no_ray")
POINTS = ["planning", "indexing", "decoding", "decoding@3", "committing@3", "ledger@2", "combining", "publishing"]


def argv(modality: str, catalog: Path, layout: str) -> list[str]:
    return ["prepare", modality, "--catalog", str(catalog), "--layout", layout]


def undisturbed(tmp_path: Path, modality: str, catalog: Path, layout: str) -> dict[str, str]:
    """What a run makes that nobody stops; the lists name the output, so it is made under the same name."""
    out = tmp_path / "out"
    assert world.prepare(modality, out, catalog, "--layout", layout) == 0
    found = products(out)
    out.rename(tmp_path / "undisturbed")
    return found


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(("modality", "layout"), PAIRS)
def test_the_same_command_goes_on(tmp_path: Path, modality: str, layout: str, point: str) -> None:
    catalog = world.small(tmp_path / "in", modality, 12)
    expected = undisturbed(tmp_path, modality, catalog, layout)
    out = tmp_path / "out"
    inprocess.killed(out, point, *argv(modality, catalog, layout))
    assert products(out) != expected
    assert world.prepare(modality, out, catalog, "--layout", layout) == 0
    assert products(out) == expected
    assert not [path for path in out.rglob("*") if TEMP_PREFIX in path.name]
    assert inprocess.omni("verify", out) == 0


@pytest.mark.parametrize(("modality", "layout"), FAST)
def test_killed_again_and_again(tmp_path: Path, modality: str, layout: str) -> None:
    catalog = world.small(tmp_path / "in", modality, 12)
    expected = undisturbed(tmp_path, modality, catalog, layout)
    out = tmp_path / "out"
    for point in ("committing", "decoding@2", "ledger", "combining"):
        inprocess.killed(out, point, *argv(modality, catalog, layout))
    assert world.prepare(modality, out, catalog, "--layout", layout) == 0
    assert products(out) == expected


@pytest.mark.parametrize("point", ["planning", "decoding", "committing", "ledger", "combining", "publishing"])
def test_a_killed_retry_leaves_a_list_that_is_true(tmp_path: Path, point: str) -> None:
    """What was quarantined comes in, and shifts every number behind it; until the new list is there the old one names
    files that are as it says."""
    modality, layout = ("audio", "tar") if point in ("decoding", "combining") else ("image", "files")
    suffix = "wav" if modality == "audio" else "png"
    make = world.clip if modality == "audio" else world.photo
    contents = {f"data/{n:03d}.{suffix}": make(n) for n in range(12)}
    folder = tmp_path / "in"
    world.files(folder, contents)
    field = "text" if modality == "audio" else "caption"
    more = f"pattern = '(?P<n>\\d+)\\.{suffix}'\n[source.fields]\n{field} = \"number {{n}}\""
    catalog = world.catalog(folder, world.entry("one", modality, "data", "files", more))
    expected = undisturbed(tmp_path, modality, catalog, layout)
    damaged = folder / f"data/003.{suffix}"
    stat = damaged.stat()
    damaged.write_bytes(b"\0" * stat.st_size)
    os.utime(damaged, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    out = tmp_path / "out"
    assert world.prepare(modality, out, catalog, "--layout", layout) == 0
    ((_, _, reason),) = world.quarantine(out)
    damaged.write_bytes(contents[f"data/003.{suffix}"])
    os.utime(damaged, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    named = {
        str(row["path"]).partition("#")[0] for row in world.index(out, "asr" if modality == "audio" else "annotations")
    }
    before = {path: digest for path, digest in products(out).items() if path in named}
    inprocess.killed(out, point, "retry", "--reason", reason)
    assert_still_prefix({"one": [f"{path} {digest}" for path, digest in before.items()]}, {
        "one": [f"{path} {products(out).get(path)}" for path in before]
    })  # fmt: skip
    assert inprocess.omni("retry", out, "--reason", reason) == 0
    assert inprocess.omni("verify", out) == 0
    assert products(out) == expected


@pytest.mark.parametrize(("modality", "layout"), FAST)
def test_a_killed_reset(tmp_path: Path, modality: str, layout: str) -> None:
    catalog = world.small(tmp_path / "in", modality, 12)
    out = tmp_path / "out"
    assert world.prepare(modality, out, catalog, "--layout", layout) == 0
    expected = products(out)
    inprocess.killed(out, "forgetting", *argv(modality, catalog, layout), "--reset", "--dataset", "one")
    assert world.prepare(modality, out, catalog, "--layout", layout) == 0
    assert products(out) == expected
    assert inprocess.omni("verify", out) == 0
