"""Many names at once are spelled as each of them alone is."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nightcrawler.pseudo.submission import number, text_rows
from nightcrawler.utils.io import plain_name, plain_names

LETTERS = st.text("a./\u0308u\n:s3", max_size=8)


@settings(max_examples=300, deadline=None)
@given(st.lists(LETTERS, max_size=5))
@example(["a\n", "b"])
@example([".", "a"])
@example(["a/", "b"])
@example(["a/./b"])
@example(["a/.", "b"])
@example(["", ""])
@example(["s3://b//c"])
def test_names_are_spelled_alike(names: list[str]) -> None:
    assert plain_names(names) == list(map(plain_name, names))


@pytest.mark.parametrize("width", [1, 3])
def test_numbers_of_a_row_are_written_as_one_alone(width: int) -> None:
    import numpy as np

    values = [0.0, 1.0, 1e-30, 1 / 3, 123456789.5, 0.1 + 0.2]
    probs = np.array(values).reshape(-1, width)
    assert [text for row in text_rows(probs) for text in row] == list(map(number, values))
