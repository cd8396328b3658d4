"""The chosen samples of a source as the committed segments hold them, in canonical order."""

import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from omni_ray.ledger import Receipt
from omni_ray.prepare import store
from omni_ray.prepare.select import Cut, Selection, Sizes
from omni_ray.prepare.state import SourceState


class Piece(NamedTuple):
    """The chosen samples of one committed segment: `mask` [samples] says which, `sizes` [samples] are in bytes, and
    `offset` is where the first of them begins among all chosen bytes of the source."""

    receipt: Receipt
    mask: npt.NDArray[np.bool_]
    sizes: Sizes
    offset: int

    @property
    def size(self) -> int:
        """Bytes of the chosen samples."""
        return int(self.sizes[self.mask].sum(dtype=np.int64))


def pieces(state: SourceState, cut: Cut) -> Iterator[Piece]:
    """The segments of a source that the cut reaches, in canonical order."""
    sizes = state.samples().sizes
    start = offset = 0
    for receipt in state.prefix():
        if start >= cut.position:
            return
        stop = start + receipt.samples
        piece = Piece(receipt, cut.mask(start, stop), sizes[start:stop], offset)
        yield piece
        start, offset = stop, offset + piece.size


def pieces_with_rows(
    state: SourceState, cut: Cut, columns: list[str] | None = None
) -> Iterator[tuple[Piece, pa.Table]]:
    """The same with the table of each segment's samples, chosen or not."""
    found, ahead = itertools.tee(pieces(state, cut))
    return zip(found, store.read_rows(state.storage, (piece.receipt for piece in ahead), columns), strict=True)


def placed(states: Mapping[str, SourceState], selection: Selection) -> Iterator[tuple[SourceState, Piece, int]]:
    """Every piece of several sources, and where it begins among all their chosen bytes."""
    begun = 0
    for name, state in states.items():
        for piece in pieces(state, selection.cuts[name]):
            yield state, piece, begun + piece.offset
        begun += selection.cuts[name].size
