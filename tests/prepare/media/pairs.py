"""Modality and layout together: every point once by each pair would be minutes; two pairs pass every line of code."""

import pytest

FAST = [("audio", "tar"), ("image", "files")]
_LONG = [pytest.mark.slow, pytest.mark.long]
PAIRS = [*FAST, *(pytest.param(*pair, marks=_LONG) for pair in (("audio", "files"), ("image", "tar")))]
