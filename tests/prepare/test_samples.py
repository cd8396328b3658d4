"""The files of sizes and hashes: never anything but what the blocks' own tables hold."""

import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omni_ray.ledger import Output, Receipt
from omni_ray.prepare import samples, store
from omni_ray.prepare.samples import CommittedSamples
from omni_ray.storage import LocalStorage

FOLDER = "s/samples"


def receipt(storage: LocalStorage, number: int, count: int, salt: str = "") -> Receipt:
    """A committed segment with its table of `count` samples."""
    digests = [hashlib.sha256(f"{salt}{number}.{sample}".encode()).digest() for sample in range(count)]
    sizes = [number + sample + 1 for sample in range(count)]
    data = store.encode_rows([""] * count, range(count), [0] * count, sizes, digests)
    output = Output(f"s/blocks/{salt}{number}.rows.parquet", len(data), hashlib.sha256(data).hexdigest())
    storage.put(output.key, data)
    return Receipt(
        f"b{number}", 0, None, "", "f", 1, "", "bytes", number, number, "", 0, "", {"rows.parquet": output},
        samples=count,
    )  # fmt: skip


def state(committed: CommittedSamples) -> tuple[list[int], bytes]:
    return committed.sizes().tolist(), b"".join(chunk.tobytes() for chunk in committed.hashes())


def fresh(storage: LocalStorage, receipts: list[Receipt], trusting: bool = False) -> tuple[list[int], bytes]:
    committed = CommittedSamples(storage, FOLDER, trusting)
    committed.extend(receipts)
    return state(committed)


@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=12), saves=st.sets(st.integers(1, 12)))
def test_saved_or_not_the_samples_are_those_of_the_tables(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], saves: set[int]
) -> None:
    storage = LocalStorage(tmp_path_factory.mktemp("out"))
    receipts = [receipt(storage, number, count) for number, count in enumerate(counts)]
    committed = CommittedSamples(storage, FOLDER)
    for end in range(1, len(receipts) + 1):
        committed.extend(receipts[:end])
        if end in saves:
            committed.save()
        assert state(committed) == fresh(storage, receipts[:end]) == fresh(storage, receipts[:end], trusting=True)
    committed.save()
    files = [int(stat.key.split("-")[2].partition(".")[0]) for stat in storage.list(FOLDER)]
    assert sum(files) == sum(counts)
    assert all(one > other for one, other in itertools.pairwise(files)), "small files were not taken in"


def test_a_restart_does_not_read_the_tables_again(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    receipts = [receipt(storage, number, 3) for number in range(4)]
    committed = CommittedSamples(storage, FOLDER)
    committed.extend(receipts)
    expected = state(committed)
    committed.save()
    storage.delete_tree("s/blocks")
    assert fresh(storage, receipts, trusting=True) == expected


@pytest.mark.parametrize("damage", ["byte", "cut", "other ledger", "shorter ledger"])
def test_a_file_that_does_not_fit_is_not_used(tmp_path: Path, damage: str) -> None:
    storage = LocalStorage(tmp_path)
    receipts = [receipt(storage, number, 3) for number in range(4)]
    committed = CommittedSamples(storage, FOLDER)
    committed.extend(receipts)
    committed.save()
    (path,) = (tmp_path / FOLDER).iterdir()
    data = bytearray(path.read_bytes())
    if damage == "byte":
        data[5] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[:-1])
    elif damage == "other ledger":
        receipts[1] = receipt(storage, 1, 3, salt="changed")
    else:
        receipts.pop()
    assert fresh(storage, receipts, trusting=True) == fresh(storage, receipts)


def test_many_samples_go_to_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "FILE_SAMPLES", 10)
    monkeypatch.setattr(samples, "CHUNK_SAMPLES", 4)
    storage = LocalStorage(tmp_path)
    receipts = [receipt(storage, number, 6) for number in range(5)]
    committed = CommittedSamples(storage, FOLDER)
    for end in range(1, 6):
        committed.extend(receipts[:end])
        committed.save()
    assert len(list((tmp_path / FOLDER).iterdir())) == 5
    assert fresh(storage, receipts, trusting=True) == fresh(storage, receipts)
    assert all(len(chunk) <= 6 for chunk in committed.hashes())
    assert np.array_equal(committed.sizes(), [number + sample + 1 for number in range(5) for sample in range(6)])
