"""The majority vote and its tie rule."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightcrawler.pseudo.submission import Submission
from nightcrawler.pseudo.vote import majority, vote
from nightcrawler.utils.errors import UserError


def by_hand(labels: list[int], confidences: list[float], tie: str) -> int:
    """One video's winner; exact sums of eighths."""
    votes = Counter(labels)
    most = max(votes.values())
    support = {
        label: sum(p for one, p in zip(labels, confidences, strict=True) if one == label)
        for label in votes
    }
    leading = [label for label in votes if votes[label] == most]
    return min(leading, key=lambda label: (-support[label] if tie == "probability" else 0, label))


ballots = st.integers(1, 6).flatmap(
    lambda voters: st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8)), min_size=voters, max_size=voters),
        min_size=1,
        max_size=12,
    )
)


@given(ballots, st.sampled_from(["probability", "class"]), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_the_winner_is_the_one_by_hand_whoever_votes_first(
    rows: list, tie: str, random: object
) -> None:
    labels = np.array([[label for label, _ in row] for row in rows]).T
    confidences = np.array([[p / 8 for _, p in row] for row in rows]).T
    found = majority(labels, confidences, 4, tie)
    assert found.tolist() == [
        by_hand([a for a, _ in row], [p / 8 for _, p in row], tie) for row in rows
    ]
    order = list(range(len(labels)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert majority(labels[order], confidences[order], 4, tie).tolist() == found.tolist()


def test_sums_do_not_depend_on_the_order_of_files() -> None:
    """0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 are not the same number; the tie must stay a tie."""
    labels = np.array([[1], [1], [1], [0], [0], [0]])
    confidences = np.array([[0.1], [0.2], [0.3], [0.3], [0.2], [0.1]])
    assert 0.1 + 0.2 + 0.3 != 0.3 + 0.2 + 0.1
    assert majority(labels, confidences, 2).tolist() == [0]
    assert majority(labels[::-1], confidences[::-1], 2).tolist() == [0]


def test_ties() -> None:
    labels, confidences = np.array([[5, 5], [2, 2]]), np.array([[0.9, 0.4], [0.3, 0.4]])
    assert majority(labels, confidences, 6, "probability").tolist() == [5, 2]
    assert majority(labels, confidences, 6, "class").tolist() == [2, 2]


def submission(names: str, labels: list[int], seed: int = 0, probs: bool = True) -> Submission:
    own = np.random.default_rng(seed).dirichlet(np.ones(4), len(labels))
    return Submission(
        list(names), np.array(labels), own[np.arange(len(labels)), labels], own if probs else None
    )


def test_one_voter_is_elected() -> None:
    one = submission("abc", [3, 0, 1])
    found = vote([one], ["a.csv"])
    assert found.names == one.names
    np.testing.assert_array_equal(found.labels, one.labels)
    np.testing.assert_array_equal(found.confidences, one.confidences)
    np.testing.assert_array_equal(found.probs, one.probs)


def test_files_are_joined_by_name() -> None:
    first, second = submission("abc", [0, 1, 2]), submission("cab", [2, 3, 1], seed=1)
    third = submission("bca", [1, 0, 3], seed=2)
    found = vote([first, second, third], ["1", "2", "3"])
    assert dict(zip(found.names, found.labels.tolist(), strict=True)) == {"a": 3, "b": 1, "c": 2}
    for_a = (second.confidences[1] + third.confidences[2]) / 2
    assert found.confidences[0] == pytest.approx(for_a)
    assert found.probs is not None
    np.testing.assert_allclose(
        found.probs[0], (first.probs[0] + second.probs[1] + third.probs[2]) / 3
    )


def test_probabilities_of_all_classes_need_them_of_all_voters() -> None:
    found = vote([submission("ab", [0, 1]), submission("ab", [0, 1], probs=False)], ["1", "2"])
    assert found.probs is None


def test_other_videos_or_classes_are_errors() -> None:
    with pytest.raises(
        UserError, match=r"^2\.csv: 1 videos of 1\.csv are missing: row 2 'b' of that file"
    ):
        vote([submission("ab", [0, 1]), submission("ac", [0, 1])], ["1.csv", "2.csv"])
    other = Submission(["a", "b"], np.array([0, 1]), np.full(2, 0.5), np.full((2, 2), 0.5))
    with pytest.raises(UserError, match="of 2, 4 classes"):
        vote([submission("ab", [0, 1]), other], ["1.csv", "2.csv"])
