"""Packing: every token is predicted exactly once, rows are full, and a document's loss is its own."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from omni_ray.train import token_store
from omni_ray.train.engine import Engine
from omni_ray.train.packing import (
    END,
    MOST_GAP,
    PAD,
    document_bounds,
    document_numbers,
    pack,
    plan_rows,
    valid_targets,
)
from omni_ray.train.stages.text import TextTask, text_loss
from omni_ray.train.team import Team
from tests.train import small

Documents = list[list[int]]
documents_of = st.lists(st.lists(st.integers(2, 9), min_size=1, max_size=80), min_size=1, max_size=40)


def packed(documents: Documents, ctx_len: int) -> np.ndarray:
    return pack([np.array(document, np.uint16) for document in documents], ctx_len, np.uint16)[0]


@settings(max_examples=300, deadline=None)
@given(documents_of, st.integers(2, 40))
def test_every_token_is_a_target_once(documents: Documents, ctx_len: int) -> None:
    rows = packed(documents, ctx_len)
    assert rows.shape[1] == ctx_len + 1
    found = Counter(rows[:, 1:][rows[:, 1:] != PAD].tolist())
    assert found == Counter([token for document in documents for token in [*document, END]])
    assert valid_targets(rows) == sum(len(document) + 1 for document in documents)


@settings(max_examples=300, deadline=None)
@given(documents_of, st.integers(2, 40))
def test_pieces_are_whole_or_fill_their_row(documents: Documents, ctx_len: int) -> None:
    lengths = [len(document) + 1 for document in documents]
    plan = plan_rows(lengths, ctx_len)
    inputs: Counter[tuple[int, int]] = Counter()
    for row in plan:
        assert sum(stop - start for _, start, stop in row) <= ctx_len
        for place, (document, start, stop) in enumerate(row):
            assert start == 0 or place == 0, "a rest that is not first in its row would join the document before it"
            assert stop == lengths[document] or place == len(row) - 1
            inputs.update((document, at) for at in range(start, stop))
    assert inputs == Counter((document, at) for document, length in enumerate(lengths) for at in range(length))


@settings(max_examples=100, deadline=None)
@given(documents_of, st.integers(2, 40))
def test_only_the_last_row_has_a_large_gap(documents: Documents, ctx_len: int) -> None:
    plan = plan_rows([len(document) + 1 for document in documents], ctx_len)
    for row in plan[:-1]:
        assert ctx_len - sum(stop - start for _, start, stop in row) <= ctx_len // MOST_GAP


@pytest.mark.parametrize("lengths", [(600, 601), (20, 60), (1, 3000), (1023, 1026)])
def test_padding_is_under_one_per_cent(lengths: tuple[int, int]) -> None:
    dice = np.random.default_rng(0)
    sizes = dice.integers(*lengths, size=4000)
    plan = plan_rows(sizes.tolist(), 1024)
    assert sizes.sum() / (len(plan) * 1024) > 0.99


@settings(max_examples=100, deadline=None)
@given(documents_of, st.integers(2, 40))
def test_bounds_and_numbers_say_the_same(documents: Documents, ctx_len: int) -> None:
    rows, most = pack([np.array(document, np.uint16) for document in documents], ctx_len, np.uint16)
    inputs = rows[:, :-1]
    bounds, numbers = document_bounds(inputs, most), document_numbers(inputs)
    assert len(bounds) == len(inputs) * (most + 1) + 1
    assert bounds[-1] == inputs.size and (np.diff(bounds) >= 0).all()
    row_and_number = numbers + 1000 * np.arange(len(inputs))[:, None]
    changes = np.flatnonzero(np.diff(row_and_number.ravel(), prepend=-1))
    assert sorted(set(bounds[bounds < inputs.size].tolist())) == changes.tolist()


def losses(model: torch.nn.Module, documents: Documents) -> dict[int, list[float]]:
    """The loss of every target by document, for documents packed into rows of this context."""
    lengths = [len(document) + 1 for document in documents]
    rows = torch.from_numpy(packed(documents, small.CTX).astype("int64"))
    tensors = {"tokens": rows, "documents": torch.from_numpy(document_numbers(rows[:, :-1].numpy()))}
    with torch.no_grad():
        each = text_loss(model, tensors, "none")  # type: ignore[arg-type]
    found: dict[int, list[float]] = {}
    for row, pieces in zip(each, plan_rows(lengths, small.CTX), strict=True):
        at = 0
        for document, start, stop in pieces:
            found.setdefault(document, []).extend(row[at : at + stop - start].tolist())
            at += stop - start
    return found


@pytest.fixture
def model(ready: token_store.Ready) -> torch.nn.Module:
    config = small.config(dropout=0.0)
    engine = Engine(TextTask(config, ready, "cpu"), config, Team.alone())
    for parameter in engine.model.parameters():
        parameter.data.mul_(3)  # away from the start, where all losses are alike
    return engine.model.eval()


def test_packed_loss_is_unpacked_loss(model: torch.nn.Module) -> None:
    documents = [[5, 9, 30], [7] * 12, [11, 12, 13, 14, 15], [40, 41]]
    together = losses(model, documents)
    for number, document in enumerate(documents):
        assert together[number] == pytest.approx(losses(model, [document])[0], abs=1e-5)


def test_changing_one_document_leaves_the_others_alone(model: torch.nn.Module) -> None:
    documents = [[7] * 12, [5, 9, 30], [11, 12, 13, 14, 15]]  # the longest comes first in the row, before the others
    changed = [[7] * 11 + [8], *documents[1:]]
    before, after = losses(model, documents), losses(model, changed)
    assert before[0] != pytest.approx(after[0])
    assert before[1] == after[1] and before[2] == after[2]


def test_blank_rows_have_no_targets(ready: token_store.Ready) -> None:
    batch = TextTask(small.config(), ready, "cpu").batch(np.array([0, -1, -1, -1]), "train")
    assert batch.targets == TextTask(small.config(), ready, "cpu").batch(np.array([0]), "train").targets
    assert (batch.tensors["tokens"][1:] == PAD).all()


def test_the_store_is_packed(ready: token_store.Ready, tmp_path: Path) -> None:
    store = token_store.TokenStore(ready)
    block = store.manifest.blocks[0]
    assert block.train.targets / (block.train.rows * small.CTX) > 0.99
