"""Churn of pseudo-labels between two rounds."""

from __future__ import annotations

import numpy as np
import pytest

from nightcrawler.pseudo.churn import Churn, churn


def test_moves_by_hand() -> None:
    found = churn(
        {"a": 0, "b": 1, "c": 2, "d": 3}, {"b": 1, "c": 0, "d": 3, "e": 0, "f": 1, "g": 1}
    )
    assert found == Churn(new=3, dropped=1, changed=1, kept=2)
    assert found.moved == pytest.approx(5 / 7)


def test_ends_of_the_scale() -> None:
    assert churn({"a": 1}, {"a": 1}).moved == 0
    assert churn({"a": 1}, {"b": 1}).moved == 1
    assert churn({}, {}).moved == 0


def test_every_clip_counts_once() -> None:
    rng = np.random.default_rng(3)
    before, after = (
        {f"v{i}": int(rng.integers(3)) for i in rng.permutation(50)[:30]} for _ in range(2)
    )
    found = churn(before, after)
    assert found.new + found.dropped + found.changed + found.kept == len({*before, *after})
    assert found.new + found.changed + found.kept == len(after)
    # Pairs that are in only one of two sets, by another route than the counts.
    same = len(before.items() & after.items())
    assert found.kept == same
    assert found.moved == pytest.approx(1 - same / len({*before, *after}))
