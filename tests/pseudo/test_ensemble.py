"""Joining by name, the kinds of scores, and mixing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from nightcrawler.pseudo.ensemble import (
    SCORES,
    Mixture,
    join,
    mix,
    probabilities,
    row_order,
    softmax,
    without_prediction,
)
from nightcrawler.pseudo.predictions import Predictions
from nightcrawler.utils.errors import NO_PERSON, UserError
from tests.pseudo.made import made, permuted


def test_softmax_is_scipys_also_of_large_numbers() -> None:
    scores = np.array([[1e4, 1e4 - 1, 0.0], [-3.0, 2.0, 0.5]])
    np.testing.assert_allclose(softmax(scores), special.softmax(scores, axis=1), rtol=1e-12)


def test_kinds_of_scores_are_their_formulas() -> None:
    one = made()
    logits, probs, clips = (
        one.logits.astype(np.float64),
        one.probs.astype(np.float64),
        one.num_clips[:, None],
    )
    expected = {
        "probs": probs,
        "softmax": special.softmax(logits, axis=1),
        "softmax_sum": special.softmax(clips * logits, axis=1),
        "softmax_sum_probs": special.softmax(clips * probs, axis=1),
    }
    assert set(expected) == set(SCORES)
    for kind, value in expected.items():
        found = probabilities(one, kind)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, value, rtol=1e-12, err_msg=kind)


def test_a_file_in_the_old_form_holds_sums_already() -> None:
    one = made(form="old: sums over clips, no names")
    one = dataclasses.replace(one, num_clips=np.ones(len(one.names), np.int64))
    expected = special.softmax(one.logits.astype(np.float64), axis=1)
    for kind in ("softmax", "softmax_sum", "softmax_sum_probs"):
        np.testing.assert_allclose(probabilities(one, kind), expected, rtol=1e-12, err_msg=kind)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.2, 0.9])
def test_rows_that_are_no_probabilities_are_named(value: float) -> None:
    one = made()
    one.probs[2, 1] = value
    with pytest.raises(UserError, match=r"^b\.pkl: row 3 'v2.mp4': not probabilities"):
        join([made(), one], ["a.pkl", "b.pkl"], ["probs"] * 2)


def test_videos_without_a_prediction_are_flat_and_counted() -> None:
    joined = join([made(bad=[1]), made(seed=1, bad=[3, 1])], ["a", "b"], ["probs", "softmax"])
    assert np.flatnonzero(~joined.ok).tolist() == [1, 3]
    assert [joined.why[row] for row in (1, 3)] == ["cannot be decoded"] * 2
    assert all((own[[1]] == 0.25).all() for own in joined.probs)
    assert np.isfinite(np.stack(joined.probs)).all()
    line = without_prediction(joined)
    assert (
        line
        == "2 of 12 videos have no prediction: row 2 'v1.mp4', row 4 'v3.mp4' (cannot be decoded)"
    )
    assert without_prediction(join([made()], ["a"], ["probs"])) == ""


@given(st.permutations(range(12)), st.permutations(range(12)))
@settings(max_examples=40, deadline=None)
def test_the_order_of_rows_is_irrelevant(first: list[int], second: list[int]) -> None:
    labels = list(range(4)) * 3
    one, other = made(labels=labels, bad=[5]), made(seed=1, labels=labels)
    plain = join([one, other], ["a", "b"], ["probs"] * 2)
    mixed = mix(plain.probs, Mixture(np.full((4, 2), 0.5)))
    found = join([permuted(one, first), permuted(other, second)], ["a", "b"], ["probs"] * 2)
    assert found.names == [plain.names[row] for row in first]
    np.testing.assert_array_equal(mix(found.probs, Mixture(np.full((4, 2), 0.5))), mixed[first])
    np.testing.assert_array_equal(found.labels, plain.labels[first])
    np.testing.assert_array_equal(found.ok, plain.ok[first])
    assert found.why == [plain.why[row] for row in first]


def joined_with(other: Predictions) -> None:
    join([made(), other], ["a.pkl", "b.pkl"], ["probs"] * 2)


def test_a_missing_video_is_an_error_that_names_file_and_rows() -> None:
    with pytest.raises(UserError) as caught:
        joined_with(permuted(made(), [0, 1, 3, 4, 5, 6, 7, 8, 9, 10]))
    assert (
        str(caught.value)
        == "b.pkl: 2 videos of a.pkl are missing: row 3 'v2.mp4', row 12 'v11.mp4' of that file"
    )


def test_an_extra_video_is_an_error_that_names_file_and_rows() -> None:
    with pytest.raises(UserError) as caught:
        joined_with(made(14))
    assert (
        str(caught.value)
        == "b.pkl: 2 videos that a.pkl does not have: row 13 'v12.mp4', row 14 'v13.mp4'"
    )


def test_many_rows_are_counted_not_listed() -> None:
    with pytest.raises(UserError, match=r"row 5 'v4.mp4' and 7 more of that file$"):
        joined_with(made(names=[f"other{row}" for row in range(12)]))


@pytest.mark.parametrize("longest", ["z.mp4", "z" * 60, "z" * 200])
def test_rows_of_shuffled_names(longest: str) -> None:
    names = [f"{number}.mp4" for number in range(2000)] + ["\u00fc\U0001f600", "u", longest]
    rng = np.random.default_rng(3)
    for _ in range(3):
        order = rng.permutation(len(names))
        shuffled = [names[row] for row in order]
        found = row_order(shuffled, names, "b", "a")
        assert found is not None
        assert [shuffled[row] for row in found] == names
    other = [*names[:-1], longest[:-1] + "y"][::-1]
    with pytest.raises(UserError, match="b: 1 videos of a are missing"):
        row_order(other, names, "b", "a")


def test_a_name_twice_is_an_error() -> None:
    with pytest.raises(UserError, match=r"b: 1 repeated videos: row 1 'x'"):
        row_order(["x", "x", "y"], ["y", "x"], "b", "a")
    one = made()
    with pytest.raises(UserError, match=r"video 'v0.mp4' \(rows 1 and 12\) more than once"):
        made(names=[*one.names[:-1], "v0.mp4"])


def test_another_number_or_order_of_classes_is_an_error() -> None:
    with pytest.raises(UserError, match=r"^b\.pkl: 5 classes, but a\.pkl has 4$"):
        joined_with(made(num_classes=5))
    first, second = made(class_names=list("abcd")), made(class_names=list("abdc"))
    with pytest.raises(UserError, match=r"^b\.pkl: class 2 is 'd', but 'c' in a\.pkl$"):
        join([first, second], ["a.pkl", "b.pkl"], ["probs"] * 2)
    with pytest.raises(UserError, match="3 class names for 4 classes"):
        joined_with(made(class_names=list("abc")))
    with pytest.raises(UserError, match="no class"):
        join([made(num_classes=0)], ["a.pkl"], ["probs"])


def test_class_names_come_from_the_file_that_has_them() -> None:
    assert join(
        [made(), made(class_names=list("abcd"))], ["a", "b"], ["probs"] * 2
    ).class_names == list("abcd")
    assert join([made()], ["a"], ["probs"]).class_names == ["0", "1", "2", "3"]


def test_known_labels_are_merged_and_must_agree() -> None:
    first, second = made(labels=[-1, 2] + [-1] * 10), made(labels=[1, -1] + [-1] * 10)
    assert join([first, second], ["a", "b"], ["probs"] * 2).labels[:3].tolist() == [1, 2, -1]
    with pytest.raises(
        UserError, match=r"^b: 1 labels differ from a: row 2 'v1.mp4' of that file$"
    ):
        join([first, made(labels=[-1, 3] + [-1] * 10)], ["a", "b"], ["probs"] * 2)


# --- mixing -----------------------------------------------------------------------------------------------------


def by_hand(probs: list[np.ndarray], mixture: Mixture) -> np.ndarray:
    """The mixture, a video and a class at a time."""
    rows = []
    for video in range(len(probs[0])):
        leading = int(np.argmax(probs[mixture.leader][video]))
        weights = mixture.weights[leading]
        row = [
            sum(weight * own[video, label] for weight, own in zip(weights, probs, strict=True))
            for label in range(4)
        ]
        if mixture.normalize:
            row = [value / sum(row) for value in row]
        winner = int(np.argmax(row))
        rows.append(
            list(probs[mixture.overrule[winner]][video]) if winner in mixture.overrule else row
        )
    return np.array(rows)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("overrule", [{}, {0: 2, 3: 1}])
@pytest.mark.parametrize("leader", [0, 2])
def test_mixing_is_its_formula(normalize: bool, overrule: dict[int, int], leader: int) -> None:
    probs = [made(50, seed=seed).probs.astype(np.float64) for seed in range(3)]
    weights = np.tile([0.5, 0.3, 0.1], (4, 1))
    weights[2] = [0.1, 0.2, 0.0]
    mixture = Mixture(weights, leader, normalize, overrule)
    found = mix(probs, mixture)
    np.testing.assert_allclose(found, by_hand(probs, mixture), rtol=1e-12)
    if normalize:
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6 if overrule else 1e-12)


def test_one_model_is_itself() -> None:
    own = made().probs.astype(np.float64)
    np.testing.assert_allclose(mix([own], Mixture(np.ones((4, 1)), normalize=False)), own, rtol=0)


def test_the_models_are_left_as_they_were() -> None:
    probs = [made(seed=seed).probs.astype(np.float64) for seed in range(2)]
    before = [own.copy() for own in probs]
    mix(probs, Mixture(np.full((4, 2), 0.5), overrule={0: 1}))
    np.testing.assert_array_equal(probs, before)


def unseen(rows: list[int], **changes) -> Predictions:
    """Predictions of a model of people that saw nobody in some rows."""
    one = made(**changes)
    status = [NO_PERSON if row in rows else status for row, status in enumerate(one.status)]
    return dataclasses.replace(one, status=status)


def test_who_saw_nobody_has_no_say() -> None:
    pixels, pose = made(bad=[4]), unseen([1, 3, 4], seed=1)
    joined = join([pixels, pose], ["a", "b"], ["probs"] * 2)
    # Row 4 failed, rows 1 and 3 are those of the pixels alone.
    assert np.flatnonzero(~joined.ok).tolist() == [4]
    mixture = Mixture(np.tile([0.3, 0.7], (4, 1)))
    mixed = mix(joined.probs, mixture, joined.opinions)
    np.testing.assert_allclose(mixed[[1, 3]], joined.probs[0][[1, 3]], rtol=1e-6)
    others = [0, 2, 5, 6]
    expected = 0.3 * joined.probs[0][others] + 0.7 * joined.probs[1][others]
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mixed[others], expected, rtol=1e-6)


@pytest.mark.filterwarnings("error")
def test_a_video_in_which_nobody_saw_anybody_has_no_prediction() -> None:
    joined = join([unseen([2]), unseen([2, 3], seed=1)], ["a", "b"], ["probs"] * 2)
    assert not mix(joined.probs, Mixture(np.full((4, 2), 0.5)), joined.opinions)[2].any()
    assert joined.why[2] == NO_PERSON
    assert joined.why[3] == "ok"
    assert np.flatnonzero(~joined.ok).tolist() == [2]


@pytest.mark.parametrize("normalize", [True, False])
def test_weights_of_the_silent_go_to_the_others(normalize: bool) -> None:
    joined = join([unseen([0]), made(seed=1), made(seed=2)], ["a", "b", "c"], ["probs"] * 3)
    weights = np.array([[0.5, 0.3, 0.2], [0.5, 0.1, 0.4], [0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    mixed = mix(joined.probs, Mixture(weights, 0, normalize), joined.opinions)
    # The leader is silent, so the mean of its classes' weights counts: 0.25 and 0.25.
    expected = (joined.probs[1][0] + joined.probs[2][0]) / 2
    np.testing.assert_allclose(mixed[0], expected, rtol=1e-6)


def test_models_that_are_left_without_weight_are_equals_and_do_not_overrule() -> None:
    joined = join([unseen([0]), made(seed=1)], ["a", "b"], ["probs"] * 2)
    mixture = Mixture(np.tile([1.0, 0.0], (4, 1)), overrule=dict.fromkeys(range(4), 0))
    mixed = mix(joined.probs, mixture, joined.opinions)
    np.testing.assert_allclose(mixed[0], joined.probs[1][0], rtol=1e-6)
    np.testing.assert_allclose(mixed[1], joined.probs[0][1], rtol=1e-6)
