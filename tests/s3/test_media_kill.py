"""Sounds and pictures in both layouts out of a bucket and into it, whole commands over Ray: killed at a seeded moment
and at points of the crash table, the objects are those of a run that nobody disturbed and that used no Ray at all."""

import random
from pathlib import Path

import pytest

from omni_ray.storage.s3 import S3Storage
from tests.e2e import harness
from tests.prepare import inprocess
from tests.prepare.media import world
from tests.s3.conftest import BUCKET, upload_folder
from tests.s3.outputs import blocks_put, products, receipts
from tests.s3.proxy import Proxy

pytestmark = [pytest.mark.slow, pytest.mark.ray]
OUT = f"s3://{BUCKET}/out"
SAMPLES, BLOCKS = 40, 10  # of each of two sources
MOST_BLOCKS = 6  # that a run may make before it is killed at a seeded moment
STOPS: list[str | None] = [None, "committing@2", "publishing"]  # None: a seeded moment
# a disk and tests/prepare/media have the others whenever tests are run; here they are killed for a release
OTHERS = [("audio", "tar"), ("image", "files")]
PAIRS = [("audio", "files"), ("image", "tar"), *(pytest.param(*pair, marks=pytest.mark.long) for pair in OTHERS)]


@pytest.mark.parametrize(("modality", "layout"), PAIRS)
def test_killed_again_and_again(
    proxy: Proxy, tmp_path: Path, modality: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = world.small(tmp_path / "in", modality, SAMPLES, BLOCKS)
    upload_folder(tmp_path / "in", "in")
    catalog.write_text(catalog.read_text().replace('url = "', f'url = "s3://{BUCKET}/in/'))
    with monkeypatch.context() as patched:
        inprocess.without_ray(patched)
        assert world.prepare(modality, OUT, catalog, "--layout", layout) == 0
    expected = products(OUT)
    S3Storage(OUT).delete_tree("")
    dice = random.Random(f"{modality} {layout}")
    argv = harness.prepare(modality, OUT, catalog, "--layout", layout)
    held: dict[str, list[str]] = {}
    for stop in STOPS:
        if stop is None:
            kill_at(argv, proxy, dice.randint(1, MOST_BLOCKS))
        else:
            with harness.started(argv, OMNI_RAY_STOP=stop) as process:
                process.wait(harness.PATIENCE)
                assert process.returncode == -9, f"the run did not come to {stop}"
        now = receipts(OUT)
        harness.assert_still_prefix(held, now)
        held = now
        assert products(OUT) != expected
    done = harness.run(argv)
    assert done.code == 0, done.stderr
    assert products(OUT) == expected
    harness.assert_still_prefix(held, receipts(OUT))
    assert inprocess.omni("verify", OUT) == 0


def kill_at(argv: list[str], proxy: Proxy, blocks: int) -> None:
    proxy.forget()
    with harness.started(argv) as process:
        assert harness.wait_until(process, lambda: blocks_put(proxy) >= blocks), "the run ended before its moment"
        harness.kill_group(process)
