"""Joining a corpus in parts on S3: identical whatever had been done before, and nothing done twice."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from omni_ray.errors import StorageError
from omni_ray.ledger import Receipt
from omni_ray.prepare import assemble, store
from omni_ray.prepare.assemble import Stretch, stretch_of
from omni_ray.storage.s3 import S3Storage
from tests.s3.conftest import BUCKET
from tests.s3.proxy import Fault, Proxy
from tests.s3.test_storage import uploads

MIB = 1 << 20


@pytest.fixture(scope="module")
def lines() -> list[list[bytes]]:
    """Lines of six blocks, of 1 to 9 MiB."""
    dice = random.Random(0)
    return [
        [dice.randbytes(3000).hex().encode() + b"\n" for _ in range(size * MIB // 6001)] for size in (6, 1, 7, 9, 6, 1)
    ]


@pytest.fixture
def storage(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> S3Storage:
    monkeypatch.setattr(assemble, "PART_BYTES", 5 * MIB)
    return S3Storage(f"s3://{BUCKET}/out")


def write_block(storage: S3Storage, number: int, block: list[bytes]) -> Receipt:
    count, sizes = len(block), [len(line) for line in block]
    rows = store.encode_rows([""] * count, [0] * count, [0] * count, sizes, [b"\0" * 32] * count)
    objects, outputs = store.arrange(storage, f"b{number}", {"txt": b"".join(block), "rows.parquet": rows})
    assert list(objects) == [f"b{number}.zip"]
    storage.put(f"b{number}.zip", objects[f"b{number}.zip"])
    return Receipt(
        block="b", segment=0, cursor=None, settings="", path="", size=0, revision="", unit="whole", start=0, stop=0,
        member="", read_bytes=0, read_sha256="", outputs=outputs, samples=count,
    )  # fmt: skip


@pytest.fixture
def chosen(storage: S3Storage, lines: list[list[bytes]]) -> tuple[list[Stretch], bytes]:
    """Blocks 0, 3 and 4 whole, one line left out of the others; and what that makes."""
    stretches, text = [], b""
    for number, block in enumerate(lines):
        mask = np.ones(len(block), np.bool_)
        mask[10] = number in (0, 3, 4)
        made = stretch_of(write_block(storage, number, block), np.array([len(line) for line in block]), mask)
        assert made is not None
        stretches.append(made)
        text += b"".join(line for line, there in zip(block, mask, strict=True) if there)
    return stretches, text


def run_here(work: Any, tasks: Sequence[tuple[bytes, int]]) -> Iterator[bytes]:
    for task, _ in tasks:
        yield from work(task)


def test_parts_are_sent_or_copied_and_become_one_object(
    storage: S3Storage, chosen: tuple[list[Stretch], bytes], proxy: Proxy
) -> None:
    stretches, text = chosen
    storage.put("text/corpus", b"old")
    proxy.forget()
    made = assemble.assemble(storage, "text", "text/corpus", "mark", stretches, run_here)
    assert made is not None
    # block 0 copied; 1 and 2 sent together; 3 copied; 4 copied; 5 sent
    sent = [path for kind, path in proxy.requests if kind == "PUT" and "partNumber" in path]
    assert len(sent) == 5
    assert proxy.count()["GET"] == 8  # three blocks with their tables, the journal, the parts that are there
    assert storage.read("text/corpus") == b"old"
    assert assemble.unfinished_key(storage, "text") == "text/corpus"
    made.commit()
    assert storage.read("text/corpus") == text
    assert assemble.unfinished_key(storage, "text") == ""
    assert not uploads()


def test_a_killed_run_s_parts_are_kept(storage: S3Storage, chosen: tuple[list[Stretch], bytes], proxy: Proxy) -> None:
    stretches, text = chosen

    def killed(work: Any, tasks: Sequence[tuple[bytes, int]]) -> Iterator[bytes]:
        for task, _ in list(tasks)[:2]:
            yield from work(task)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        assemble.assemble(storage, "text", "text/corpus", "mark", stretches, killed)
    proxy.forget()
    made = assemble.assemble(storage, "text", "text/corpus", "mark", stretches, run_here)
    assert made is not None
    assert sum("partNumber" in path for kind, path in proxy.requests if kind == "PUT") == 3
    made.commit()
    assert storage.read("text/corpus") == text


def test_parts_of_another_selection_are_thrown_away(storage: S3Storage, chosen: tuple[list[Stretch], bytes]) -> None:
    stretches, text = chosen
    assert assemble.assemble(storage, "text", "text/corpus", "before", stretches[:2], run_here)
    assert assemble.assemble(storage, "text", "text/other", "mark", stretches[:1], run_here)
    made = assemble.assemble(storage, "text", "text/corpus", "mark", stretches, run_here)
    assert made is not None
    assert len(uploads()) == 1
    made.commit()
    assert storage.read("text/corpus") == text
    assert not uploads()


def test_parts_of_the_same_size_of_another_selection_are_not_taken(
    storage: S3Storage, chosen: tuple[list[Stretch], bytes], lines: list[list[bytes]]
) -> None:
    first, fifth = chosen[0][0], chosen[0][4]
    assert first.length == fifth.length
    assert assemble.assemble(storage, "text", "text/corpus", "before", [first], run_here)
    made = assemble.assemble(storage, "text", "text/corpus", "now", [fifth], run_here)
    assert made is not None
    made.commit()
    assert storage.read("text/corpus") == b"".join(lines[4])


def test_a_part_of_the_wrong_size_is_sent_again(storage: S3Storage, chosen: tuple[list[Stretch], bytes]) -> None:
    stretches, text = chosen
    made = assemble.assemble(storage, "text", "text/corpus", "mark", stretches, run_here)
    assert made is not None
    made.assembly.put_part(2, b"short")
    made = assemble.assemble(storage, "text", "text/corpus", "mark", stretches, run_here)
    assert made is not None
    made.commit()
    assert storage.read("text/corpus") == text


def test_a_fenced_run_cannot_publish(storage: S3Storage, chosen: tuple[list[Stretch], bytes]) -> None:
    stretches, _ = chosen
    fenced = assemble.assemble(storage, "text", "text/corpus", "before", stretches[:1], run_here)
    newer = assemble.assemble(storage, "text", "text/corpus", "now", stretches[1:2], run_here)
    assert fenced is not None
    assert newer is not None
    newer.commit()
    there = storage.read("text/corpus")
    with pytest.raises(StorageError, match="CompleteMultipartUpload"):
        fenced.commit()
    assert storage.read("text/corpus") == there


def test_nothing_chosen_is_an_empty_object(storage: S3Storage) -> None:
    made = assemble.assemble(storage, "text", "text/corpus", "mark", [], run_here)
    assert made is not None
    made.commit()
    assert storage.read("text/corpus") == b""
    assert not uploads()


def test_a_part_that_cannot_be_made_is_named_and_the_others_stay(
    storage: S3Storage, chosen: tuple[list[Stretch], bytes], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    stretches, text = chosen
    monkeypatch.setattr(assemble.time, "sleep", lambda seconds: None)
    proxy.fail(Fault("PUT", "partNumber=4", status=403, code="AccessDenied", times=assemble.ATTEMPTS))
    with pytest.raises(StorageError, match=r"part 4 of 5: s3://bucket/out/b4.zip: no permission"):
        assemble.assemble(storage, "text", "text/corpus", "mark", stretches, run_here)
    made = assemble.assemble(storage, "text", "text/corpus", "mark", stretches, run_here)
    assert made is not None
    made.commit()
    assert storage.read("text/corpus") == text


def test_a_block_that_is_shorter_than_its_receipt_is_named(
    storage: S3Storage, chosen: tuple[list[Stretch], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble.time, "sleep", lambda seconds: None)
    storage.put("b5.zip", storage.read("b5.zip")[:1000])
    with pytest.raises(StorageError, match="b5"):
        assemble.assemble(storage, "text", "text/corpus", "mark", chosen[0], run_here)
