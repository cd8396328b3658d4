"""Corpus, tokenizer and token store: every line once, on one side, whatever the blocks; made again only when needed."""

from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omni_ray.errors import DataError
from omni_ray.storage import LocalStorage
from omni_ray.train import corpus, packing, token_store
from omni_ray.train import tokenizer as tokenizers
from tests.train import small


def write_index(path: Path, groups: list[str], rows_a_group: int = 3) -> None:
    """An index as preparation writes it: the columns and metadata that training reads."""
    lines = path.read_bytes().splitlines(keepends=True)
    sizes = [len(line) for line in lines]
    table = pa.table({"group": groups, "offset": np.cumsum([0, *sizes[:-1]]), "bytes": sizes})
    facts = {"file": path.name, "bytes": sum(sizes), "rows": len(lines), "selection": "mark"}
    table = table.replace_schema_metadata({"omni_ray": msgspec.json.encode(facts).decode()})
    pq.write_table(table, path.with_suffix(".index.parquet"), row_group_size=rows_a_group, write_statistics=False)


def texts(found: corpus.Corpus) -> list[bytes]:
    return [line.text for block in corpus.blocks(found) for line in corpus.lines(found, block)]


def build(folder: Path, path: Path, val_split: float = 0.2, run: object = small.run_here) -> token_store.Ready:
    return token_store.build(
        LocalStorage(folder), corpus.find(str(path)), small.VOCAB, small.CTX, val_split, run  # type: ignore[arg-type]
    )  # fmt: skip


def documents(store: token_store.TokenStore, split: str) -> Counter[str]:
    """The lines of a split; a line that was cut goes on at the beginning of the next row."""
    decoder = tokenizers.load(store.tokenizer)
    found: Counter[str] = Counter()
    inputs = store.rows(split, np.arange(store.count(split)))[:, :-1].ravel()
    inputs = inputs[inputs != packing.PAD]
    for piece in np.split(inputs, np.flatnonzero(inputs == packing.END)):
        if len(piece) > 1:
            found[decoder.decode(piece[1:].tolist())] += 1
    return found


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=9)), st.integers(1, 12))
def test_byte_ranges_give_every_line_once(lines: list[str], size: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.txt"
        path.write_bytes("\n".join(["x", *lines]).encode())
        before, corpus.BLOCK_BYTES = corpus.BLOCK_BYTES, size
        try:
            assert texts(corpus.find(str(path))) == [line.encode() for line in ["x", *lines] if line]
        finally:
            corpus.BLOCK_BYTES = before


def test_an_index_gives_groups(tmp_path: Path) -> None:
    path = small.write_corpus(tmp_path / "corpus.txt", 10)
    write_index(path, [f"document {number // 2}" for number in range(10)])
    found = corpus.find(str(path))
    assert found.row_groups == 4 and found.fingerprint == "mark"
    lines = [line for block in corpus.blocks(found) for line in corpus.lines(found, block)]
    assert [line.text for line in lines] == path.read_bytes().splitlines()
    assert [line.group for line in lines] == [b"document %d" % (number // 2) for number in range(10)]


def test_an_index_that_does_not_fit_is_not_used(tmp_path: Path) -> None:
    path = small.write_corpus(tmp_path / "corpus.txt", 10)
    write_index(path, ["one"] * 10)
    path.write_text(path.read_text() + "one more line\n")
    assert corpus.find(str(path)).row_groups == 0


def test_no_group_is_on_both_sides(tmp_path: Path) -> None:
    path = small.write_corpus(tmp_path / "corpus.txt", 300)
    groups = [str(number // 3) for number in range(300)]
    write_index(path, groups, 50)
    store = token_store.TokenStore(build(tmp_path / "out", path))
    held = {group for group in groups if corpus.held_out(group.encode(), 0.2)}
    lines = path.read_text().splitlines()
    assert 0 < len(held) < 100
    assert documents(store, "validation") == Counter(
        line for line, group in zip(lines, groups, strict=True) if group in held
    )
    assert documents(store, "train") == Counter(
        line for line, group in zip(lines, groups, strict=True) if group not in held
    )


def test_a_store_is_made_again_exactly_when_its_inputs_change(tmp_path: Path) -> None:
    path = small.write_corpus(tmp_path / "corpus.txt", 50)
    made: list[bytes] = []

    def counting(work: object, tasks: list[tuple[bytes, int]]) -> object:
        made.extend(task for task, _ in tasks)
        return small.run_here(work, tasks)

    first = build(tmp_path / "out", path, run=counting)
    assert build(tmp_path / "out", path, run=counting) == first and len(made) == 1
    assert build(tmp_path / "out", path, val_split=0.3, run=counting) != first and len(made) == 2
    path.write_text(path.read_text() + "one more line\n")
    assert build(tmp_path / "out", path, run=counting) != first and len(made) == 3


def test_a_build_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "BLOCK_BYTES", 1000)
    path = small.write_corpus(tmp_path / "corpus.txt", 100)
    count = len(corpus.blocks(corpus.find(str(path))))
    assert count > 4

    def dying(work: object, tasks: list[tuple[bytes, int]]) -> object:
        for number, receipt in enumerate(small.run_here(work, tasks)):
            yield receipt
            if number == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "out", path, run=dying)
    left: list[bytes] = []

    def counting(work: object, tasks: list[tuple[bytes, int]]) -> object:
        left.extend(task for task, _ in tasks)
        return small.run_here(work, tasks)

    resumed = build(tmp_path / "out", path, run=counting)
    whole = build(tmp_path / "whole", path)
    assert len(left) == count - 3
    for file in sorted((tmp_path / "whole" / whole.folder).iterdir()):
        assert (tmp_path / "out" / resumed.folder / file.name).read_bytes() == file.read_bytes()


def test_a_corpus_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        corpus.find(str(tmp_path / "corpus.txt"))
    (tmp_path / "empty.txt").touch()
    with pytest.raises(DataError, match="is empty"):
        corpus.find(str(tmp_path / "empty.txt"))
    (tmp_path / "latin.txt").write_bytes("café\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.txt: a line is not UTF-8"):
        build(tmp_path / "out", tmp_path / "latin.txt")


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_text_comes_back_from_its_tokens(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text, add_special_tokens=False).ids) == text


TOKENIZER = tokenizers.load(tokenizers.train(["the cat sees the dog", "the dog sees the cat"] * 5, 280))


def test_text_that_spells_a_special_token_is_text() -> None:
    text = "a <|end|> b <|pad|> c"
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert packing.END not in ids and packing.PAD not in ids
    assert TOKENIZER.decode(ids) == text


def test_the_same_lines_make_the_same_tokenizer() -> None:
    lines = [f"{word} {number}" for number, word in enumerate(small.WORDS.split() * 20)]
    assert tokenizers.train(iter(lines), 400) == tokenizers.train(iter(lines), 400)


def test_tokens_know_their_bytes() -> None:
    text = "the cat sées the 日本 dog"
    counts = tokenizers.bytes_of_tokens(TOKENIZER, 280)
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert counts[ids].sum() == len(text.encode())
    assert (counts[packing.END], counts[packing.PAD]) == (1, 0)
